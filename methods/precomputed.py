"""`precomputed`: displacement fields that another program made, one file per case, as a row of the table.

    DIR/CASE.nii.gz    or .nii, .mha, .mhd, .nrrd, .npz, .npy; the name may also be disp_CASE,
                         or disp_FIXED_MOVING for a case FIXED--MOVING
    DIR/convention.yaml    or .json; optional

`convention: itk` is ITK's displacement field: a vector image, components x, y, z in LPS millimetres, that maps a fixed
point p to p + u(p). `convention: learn2reg` is the Learn2Reg challenge's (`methods/learn2reg_field.py`).
The setting overrides the folder's file. Without both, a vector image is read as ITK's field and an array as
Learn2Reg's, unless the header declares RAS millimetres: NIfTI's intent DISPVECT, as ITK reads it, and NiftyReg's
displacement (intent_name NREG_TRANS, intent_p1 1). A field whose affine has the case's axes in another order or
direction is put where the affine says; an affine of 1 mm at origin 0 says nothing. Positions, velocities and control
points are refused, as is a convention that contradicts the header. The notes state the convention, and a warning if
another reading aligns the bones clearly better.

This method finds the file by the case's name, so it declares `knows_case`; no other built-in method does. It receives
no fixed labels, but the program that made the fields may have used them. The time is that of reading and checking.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import yaml

from methods.base import Grid, Method, Pair, Registration, Settings, UserPath
from methods.field_doubts import Unit, are_normalised_positions, are_positions, suspicion
from methods.field_files import StoredField, placed, read_field
from methods.learn2reg_field import case_field_name, from_learn2reg
from methods.text_files import read_text

Convention = Literal["itk", "learn2reg"]
SUFFIXES = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd", ".npz", ".npy")


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
        path, convention, unit, displacement = self._read(pair)
        notes: dict[str, float | str] = {"file": path.name, "convention": convention}
        warning = suspicion(displacement, pair, unit)
        if warning:
            notes["warning"] = warning
            print(f"{path}: {warning}", file=sys.stderr)
        return Registration(displacement, notes)

    def check_files(self, pair: Pair) -> None:
        """Read the field of `pair.case`. Raises as `register`, which also compares it with the images."""
        self._read(pair)

    def _read(self, pair: Pair) -> tuple[Path, str, Unit, np.ndarray]:
        """The file of a case, its convention and unit, and its field in LPS mm, float32 (z, y, x, 3)."""
        folder = self.settings.dir
        if folder is None:
            raise ValueError("dir: expected a folder of displacement fields, got none; say precomputed:DIR")
        path = _file(folder, pair.case)
        field = read_field(path)
        convention = self._convention(folder, field, path)
        unit: Unit = "voxels" if convention == "learn2reg" else "mm"
        displacement = (from_learn2reg if convention == "learn2reg" else _from_itk)(field, pair.grid, path)
        if not np.isfinite(displacement).all():
            raise ValueError(f"{path}: expected finite displacements, found NaN or infinity; export it again")
        if are_normalised_positions(displacement, pair, unit):
            raise ValueError(
                f"{path}: expected displacements, found positions from -1 to 1 (a sampling grid of torch's "
                "grid_sample); subtract the grid without displacement, and scale to voxels or millimetres"
            )
        if are_positions(displacement, pair):
            raise ValueError(
                f"{path}: expected displacements, found positions (a deformation field); subtract each voxel's own "
                "position, or export displacements"
            )
        return path, convention, unit, displacement

    def _convention(self, folder: Path, field: StoredField, path: Path) -> str:
        """The convention of the setting, of the folder, of the header or of the file type, in this order."""
        said = self.settings.convention or _of_folder(folder)
        if said is None:
            return field.declared or ("itk" if field.vector else "learn2reg")
        if field.declared == "niftyreg" or (field.declared and said == "learn2reg"):
            raise ValueError(
                f"{path}: expected a file in the convention {said}, found a header that declares displacements in RAS "
                "millimetres; leave the convention out, or export the field again"
            )
        return said


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
        content = yaml.safe_load(read_text(file))  # JSON is YAML
        convention = content.get("convention") if isinstance(content, dict) else None
        if convention not in get_args(Convention):
            raise ValueError(f"{file}: expected 'convention: itk' or 'convention: learn2reg', got {content!r:.60}")
        return convention
    return None


def _from_itk(field: StoredField, expected: Grid, path: Path) -> np.ndarray:
    """An ITK field on the case's grid, float32 (z, y, x, 3)."""
    if not field.vector or field.grid is None:
        raise ValueError(
            f"{path}: expected ITK's displacement field, a vector image of three components, found an array of shape "
            f"{field.values.shape}; if it is in voxels, say convention: learn2reg"
        )
    if sorted(field.grid.shape) != sorted(expected.shape):
        raise ValueError(
            f"{path}: expected the case's grid, {expected.shape} (z, y, x), found {field.grid.shape}; resample it"
        )
    values, _ = placed(field.values.transpose(2, 1, 0, 3), field.grid, expected, path)
    return np.ascontiguousarray(values.transpose(2, 1, 0, 3), np.float32)
