"""`precomputed`: displacement fields that another program made, one file per case, as a row of the table.

    DIR/CASE.nii.gz    or .nii, .mha, .mhd, .nrrd, .npz, .npy; the name may also be disp_CASE,
                         or disp_FIXED_MOVING for a case FIXED--MOVING
    DIR/convention.yaml    or .json; optional

`convention: itk` is ITK's displacement field: a vector image, components x, y, z in LPS millimetres, that maps a fixed
point p to p + u(p). `convention: learn2reg` is the Learn2Reg challenge's (`methods/learn2reg_field.py`).
The setting overrides the folder's file. Without both, a vector image is read as ITK's field and an array as
Learn2Reg's. The notes state the convention.

This method finds the file by the case's name, so it declares `knows_case`; no other built-in method does. It receives
no fixed labels, but the program that made the fields may have used them. The time is that of reading and checking.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
import yaml

from methods.base import Grid, Method, Pair, Registration, Settings, UserPath
from methods.geometry import from_sitk, to_voxels
from methods.learn2reg_field import case_field_name, from_learn2reg
from metrics.fields import lands_inside, warp
from metrics.similarity import mind_loss

Convention = Literal["itk", "learn2reg"]
SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".npz", ".npy")
SAME_PLACE_MM = 0.1


class PrecomputedSettings(Settings):
    """Settings of `precomputed`.

    Attributes:
        dir: the folder with one file per case.
        convention: `itk` or `learn2reg`; None takes the folder's convention.yaml or the default of the file type.
    """

    dir: UserPath | None = None
    convention: Convention | None = None


class Precomputed(Method):
    """Read the field of a case and convert it to LPS millimetres; warn if it seems to have another convention."""

    devices = ("cpu",)
    knows_case = True
    argument = "dir"
    Settings = PrecomputedSettings
    settings: PrecomputedSettings

    def unavailable(self, device: str) -> str | None:
        folder = self.settings.dir
        if folder is None:
            return "dir: expected a folder of displacement fields, got none; say precomputed:DIR or set dir"
        return None if folder.is_dir() else f"dir: expected a folder of displacement fields, found none at {folder}"

    def fingerprint(self) -> str:
        """Names, sizes and times of the folder's files: a replaced or added file makes the row's cells stale."""
        folder = self.settings.dir
        files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
        return json.dumps([(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.is_file()])

    def register(self, pair: Pair) -> Registration:
        """Read the field of `pair.case`.

        Raises:
            FileNotFoundError: the folder has no file of this case.
            ValueError: the file cannot be read, or its field does not fit the case's grid.
        """
        folder = self.settings.dir
        if folder is None:
            raise ValueError("dir: expected a folder of displacement fields, got none; say precomputed:DIR")
        path = _file(folder, pair.case)
        values, grid = _read(path)
        convention = self.settings.convention or _of_folder(folder) or ("itk" if grid else "learn2reg")
        if convention == "itk":
            displacement = _from_itk(values, grid, pair.grid, path)
        else:
            in_array_order = values if grid is None else values.transpose(2, 1, 0, 3)
            displacement = from_learn2reg(in_array_order, pair.grid, path)
        if not np.isfinite(displacement).all():
            raise ValueError(f"{path}: expected finite displacements, found NaN or infinity; export it again")
        notes: dict[str, float | str] = {"file": path.name, "convention": convention}
        warning = suspicion(displacement, pair)
        if warning:
            notes["warning"] = warning
            print(f"{path}: {warning}", file=sys.stderr)
        return Registration(displacement, notes)


def suspicion(displacement_mm: np.ndarray, pair: Pair) -> str | None:
    """A warning if the field makes the images less alike and another reading of its values makes them more alike.

    The measure is the MIND-SSC distance between the warped moving and the fixed image on every second voxel. The other
    readings are the reverse field, components in the order z, y, x, and x and y of the other sign.

    Args:
        displacement_mm: float32 (z, y, x, 3), components x, y, z in LPS millimetres.
        pair: the images that the field should align.

    Returns:
        The warning, or None.
    """
    readings = {
        "the field itself": displacement_mm,
        "no displacement": np.zeros_like(displacement_mm),
        "the reverse field": -displacement_mm,
        "components in the order z, y, x": displacement_mm[..., ::-1],
        "x and y of the other sign (RAS)": displacement_mm * np.array([-1, -1, 1], np.float32),
    }
    distances = {name: _distance(np.ascontiguousarray(u), pair) for name, u in readings.items()}
    itself, nothing = distances.pop("the field itself"), distances.pop("no displacement")
    other = min(distances, key=lambda name: distances[name])
    if itself <= nothing or not distances[other] < nothing:
        return None
    return (
        f"the images are less alike with this field (MIND {itself:.4f}) than without (MIND {nothing:.4f}), and more so "
        f"with {other} (MIND {distances[other]:.4f}); check the convention"
    )


def _distance(displacement_mm: np.ndarray, pair: Pair) -> float:
    """The MIND-SSC distance between the warped moving and the fixed image, on every second voxel."""
    every_second = (slice(None), slice(None), *(slice(None, None, 2),) * 3)
    displacement = to_voxels(displacement_mm, pair.grid)[every_second]
    # Voxels of the thinned grid are twice as long, so the displacement counts half as many of them.
    moving, fixed = (torch.from_numpy(scan.image)[None, None][every_second] for scan in (pair.moving, pair.fixed))
    warped = warp(moving, displacement / 2, padding="border")
    return float(mind_loss(warped, fixed, lands_inside(displacement / 2, moving.shape[2:]))[0])


def _file(folder: Path, case: str) -> Path:
    """The one file of a case in the folder."""
    stems = dict.fromkeys((case, f"disp_{case}", case_field_name(case)))
    names = [f"{stem}{suffix}" for stem in stems for suffix in SUFFIXES]
    files = [folder / name for name in names if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{folder}: expected the field of {case} as {case}.nii.gz or {case}.npz, found none")
    if len(files) > 1:
        raise ValueError(f"{folder}: expected one field of {case}, found {', '.join(f.name for f in files)}; keep one")
    return files[0]


def _of_folder(folder: Path) -> Convention | None:
    """The convention in the folder's convention.yaml or .json, or None without such a file."""
    for file in (folder / "convention.yaml", folder / "convention.json"):
        if not file.is_file():
            continue
        content = yaml.safe_load(file.read_text(encoding="utf-8"))  # JSON is YAML
        convention = content.get("convention") if isinstance(content, dict) else None
        if convention not in get_args(Convention):
            raise ValueError(f"{file}: expected 'convention: itk' or 'convention: learn2reg', got {content!r:.60}")
        return convention
    return None


def _read(path: Path) -> tuple[np.ndarray, Grid | None]:
    """The array of a file and its grid: (z, y, x, 3) for a 3-D vector image; else axes in order x, y, z, and None."""
    if path.suffix in (".npz", ".npy"):
        return _array(path), None
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: expected an image file, found one that cannot be read; export it again") from error
    if image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 3:
        return from_sitk(image)
    return sitk.GetArrayFromImage(image).T, None


def _array(path: Path) -> np.ndarray:
    """The only array of a .npy or .npz file."""
    try:
        content = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: expected numpy's format, found a file that cannot be read; save it again") from error
    if isinstance(content, np.ndarray):
        return content
    if len(content.files) != 1:
        raise ValueError(f"{path}: expected one array in the file, found {', '.join(content.files) or 'none'}")
    return np.asarray(content[content.files[0]])


def _from_itk(values: np.ndarray, grid: Grid | None, expected: Grid, path: Path) -> np.ndarray:
    """An ITK field, float32 (z, y, x, 3), once its grid is found to be the expected one."""
    if grid is None:
        raise ValueError(
            f"{path}: expected ITK's displacement field, a vector image of three components, found an array of shape "
            f"{values.shape}; if it is in voxels, say convention: learn2reg"
        )
    if grid.shape != expected.shape:
        raise ValueError(
            f"{path}: expected the case's grid, {expected.shape} (z, y, x), found {grid.shape}; resample it"
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in expected.shape[::-1]])).reshape(3, -1).T
    apart = np.linalg.norm(grid.to_points_mm(corners) - expected.to_points_mm(corners), axis=1).max()
    if apart > SAME_PLACE_MM:
        raise ValueError(f"{path}: expected the case's grid, found voxels up to {apart:.3g} mm from it; resample it")
    return np.ascontiguousarray(values, np.float32)
