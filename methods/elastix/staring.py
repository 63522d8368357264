"""The rows that elastix registers: a B-spline with mutual information and a rigidity penalty in bone.

`staring` is the paper's conventional row. The penalty has three conditions: orthonormality (oc), properness (pc) and
linearity (lc). Two rows differ by their weights only: `staring-oc` has orthonormality alone, as the local rigidity of
Loeckx et al., and `staring-pc` properness alone, as the incompressibility of Rohlfing et al. `bspline` has no penalty.
`parameters/` holds the parameter files in elastix's format.

elastix 5.3 computes the penalty from derivatives along the axes of the *grid* of a displacement along the axes of the
*patient*. On a rotated or flipped grid it therefore penalises a rotation as if it were shear. This module registers the
pair in the axes of the grid (identity direction, origin 0), where the penalty is the published one, and rotates the
displacement to LPS afterwards. Both scans lie on one grid, so this changes nothing else.

In a limited field of view the start is kept where the end is not better by mutual information (`methods.kept_start`).

References:
    M. Staring, S. Klein, J. Pluim, A rigidity penalty term for nonrigid registration, Medical Physics 34(11), 2007.
    D. Loeckx et al., Nonrigid image registration using free-form deformations with a local rigidity constraint,
    MICCAI 2004.
    T. Rohlfing et al., Volume-preserving nonrigid registration of MR breast images using free-form deformation with an
    incompressibility constraint, IEEE TMI 22(6), 2003.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field
from scipy.ndimage import distance_transform_edt

from methods.base import Method, Pair, Registration, Settings
from methods.checks import missing, refuse_flat, refuse_unlabelled, version_of
from methods.elastix import given_images, limited_view, rigidity
from methods.elastix import parameter_file as files
from methods.geometry import spacing_zyx
from methods.kept_start import LEFT_VIEW, better_of_start_and_end, has_limits, kept_start

_PACKAGE = "itk-elastix"
_LOG = "elastix.log"
_TAIL_LINES = 25
_OUT_OF_VIEW = "Too many samples map outside moving image buffer"
# The next step for the most frequent of elastix's exceptions.
_ADVICE = {"Too many samples": "the images hardly overlap any more: align them better, or take smaller steps (SP_a)"}


class ElastixSettings(Settings):
    """Settings of every elastix row.

    Attributes:
        parameters: `paper`, `tuned`, `fast`, or the path of an elastix parameter file with one stage.
        metric: `mattes` or `nmi` in place of the file's mutual information; None keeps the file's.
        changes: elastix parameters in place of the file's, as in `{NumberOfSpatialSamples: 4096}`; null removes one.
        near_mm: largest distance of the samples from the moving labels, above 0; None samples the whole image.
    """

    parameters: str = "paper"
    metric: Literal["mattes", "nmi"] | None = None
    changes: dict[str, files.Value | list[files.Value] | None] = Field(default_factory=dict)
    near_mm: float | None = Field(None, gt=0)


class StaringSettings(ElastixSettings):
    """Settings of the rows with the rigidity penalty; None keeps the file's weight.

    Attributes:
        rigidity_weight: weight of the penalty, at least 0; 0 removes it.
        oc: weight of orthonormality within the penalty, at least 0; 0 switches it off.
        pc: the same for properness.
        lc: the same for linearity.
    """

    rigidity_weight: float | None = Field(None, ge=0)
    oc: float | None = Field(None, ge=0)
    pc: float | None = Field(None, ge=0)
    lc: float | None = Field(None, ge=0)


class Staring(Method):
    """elastix: B-spline, mutual information, rigidity penalty on the union of the moving labels."""

    devices = ("cpu",)
    fresh_process: ClassVar[bool] = True  # elastix keeps global state, leaks, and can abort the interpreter

    Settings: ClassVar[type[ElastixSettings]] = StaringSettings
    settings: ElastixSettings

    def __init__(self, name: str, **settings: Any) -> None:
        """Read the parameter file and apply the settings to it.

        Raises:
            FileNotFoundError: the file does not exist.
            ValueError: elastix could not use the file or a setting.
        """
        super().__init__(name, **settings)
        path = files.locate(self.settings.parameters)
        asked = _adjusted(files.read(path), self.settings)
        given_images.check_values(asked, str(path))
        self.parameters, replaced = given_images.with_replaced_values(asked)
        self.notes = {"replaced_parameters": " ".join(replaced)} if replaced else {}
        if warning := given_images.warning(asked, replaced):
            self.notes["warning"] = warning
        self.seed = 0

    def unavailable(self, device: str) -> str | None:
        if device not in self.devices:
            return f"elastix runs on the CPU only, not on {device}"
        return missing(_PACKAGE)

    def fingerprint(self) -> str:
        """A hash of the adjusted parameters and of itk-elastix's version."""
        text = json.dumps([self.parameters, version_of(_PACKAGE)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import itk's elastix modules, which takes up to 20 s the first time, and set the threads and the seed."""
        import itk

        self.seed = seed
        # elastix's SetNumberOfThreads with 2 or more crashes the mutual information of itk-elastix 0.25.4 with a
        # segmentation fault. ITK's global numbers have the same effect and do not crash.
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        image_type = itk.Image[itk.F, 3]
        itk.ElastixRegistrationMethod[image_type, image_type].New()
        itk.TransformixFilter[image_type].New()
        itk.ParameterObject.New()
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            rigidity.write(np.ones((2, 2, 2), np.uint8), (1.0, 1.0, 1.0), Path(folder) / "rigidity.mha")

    def register(self, pair: Pair) -> Registration:
        """Register one pair, and print elastix's log to stdout, which a run keeps.

        Raises:
            ValueError: an image has one value everywhere, or no bone is labelled where a setting needs it.
            RuntimeError: elastix failed, with its reason in one line, or did not use the rigidity image.
        """
        refuse_flat(pair)
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            try:
                in_grid_axes, log = self._run(pair, Path(folder))
            except RuntimeError as error:
                if has_limits(pair) and _OUT_OF_VIEW in str(error):
                    return self._finished(kept_start(pair, LEFT_VIEW), _read_log(Path(folder)))
                raise
            finally:  # the log explains a failed registration, so it is printed then too
                print(f"---- elastix on {pair.case}\n{_read_log(Path(folder))}", flush=True)
        displacement = in_grid_axes @ pair.grid.matrix.T.astype(np.float32)
        if not displacement.any():
            warning = "elastix left every voxel where it was: a parameter destroys the images, or stops it"
            return self._finished(Registration(displacement, {"warning": warning}), log)
        return self._finished(better_of_start_and_end(Registration(displacement), pair), log)

    def _finished(self, result: Registration, log: str) -> Registration:
        """The registration with the row's notes."""
        notes: dict[str, float | str] = {"elastix": version_of(_PACKAGE) or "", "unused_parameters": _unused(log)}
        notes.update({"log_tail": _tail(log), **self.notes, **result.notes})
        warnings = [n["warning"] for n in (self.notes, result.notes) if "warning" in n]
        if warnings:
            notes["warning"] = "; ".join(map(str, warnings))
        return Registration(result.displacement_mm, notes)

    def _run(self, pair: Pair, folder: Path) -> tuple[np.ndarray, str]:
        """The displacement in mm along the grid's axes, float32 (z, y, x, 3), and elastix's log."""
        parameters = {**self.parameters, "RandomSeed": (str(self.seed),)}
        image_path = folder / "rigidity.mha"
        if files.penalised(parameters):
            assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
            rigidity.write(rigidity.rigidity_of(pair.moving.labels, pair.case), pair.grid.spacing_mm, image_path)
            parameters["MovingRigidityImageName"] = (str(image_path),)
        fixed, moving = (_image(scan.image, pair.grid.spacing_mm) for scan in (pair.fixed, pair.moving))
        mask = self._sampling_mask(pair)
        if any(scan.inside is not None for scan in (pair.fixed, pair.moving)):
            parameters = {"ErodeMask": (limited_view.erodes(mask, parameters),), **parameters}
        elastix = _register(
            fixed, moving, parameters, folder, *(None if m is None else _image(m.astype(np.uint8), pair.grid.spacing_mm)
                                                 for m in (mask, pair.moving.inside))
        )  # fmt: skip
        log = _read_log(folder)
        if files.penalised(parameters):
            rigidity.check_log(log, image_path)
        return _displacement(moving, elastix, folder), log

    def _sampling_mask(self, pair: Pair) -> np.ndarray | None:
        """The voxels in which samples are drawn, bool (z, y, x), or None for the whole image.

        Samples lie where both scans saw the voxel. Pairs are pre-aligned, so that most of them stay in both.
        """
        near = self._near_bones(pair)
        masks = [mask for mask in (pair.fixed.inside, pair.moving.inside, near) if mask is not None]
        if not masks:
            return None
        mask: np.ndarray = np.logical_and.reduce(masks)
        if not mask.any():
            raise ValueError(f"pair {pair.case}: the fields of view of the two scans do not meet")
        return mask

    def _near_bones(self, pair: Pair) -> np.ndarray | None:
        """The voxels at most `near_mm` from the moving labels, bool (z, y, x), or None without this setting."""
        if self.settings.near_mm is None:
            return None
        refuse_unlabelled(pair, f"{self.name} with near_mm")
        distance_mm = distance_transform_edt(pair.moving.labels == 0, spacing_zyx(pair.grid))
        near: np.ndarray = distance_mm <= self.settings.near_mm
        return near


class Unpenalised(Staring):
    """elastix: mutual information alone. A penalty in the file is removed; labels are used by `near_mm` only."""

    Settings = ElastixSettings


def _adjusted(parameters: files.Parameters, settings: ElastixSettings) -> files.Parameters:
    """The parameters of a file with the settings applied."""
    parameters = files.with_changes(parameters, settings.changes)
    if settings.metric is not None:
        parameters = files.with_metric(parameters, settings.metric)
    if not isinstance(settings, StaringSettings):
        return files.with_rigidity_weight(parameters, 0) if files.penalised(parameters) else parameters
    for condition in files.CONDITIONS:
        weight = getattr(settings, condition)
        if weight is not None:
            parameters = files.with_condition(parameters, condition, weight)
    if settings.rigidity_weight is not None:
        parameters = files.with_rigidity_weight(parameters, settings.rigidity_weight)
    return parameters


def _image(array: np.ndarray, spacing_mm: tuple[float, float, float]) -> Any:
    """An itk image of an array (z, y, x), with origin 0 and the identity as its direction."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing(spacing_mm)
    return image


def _register(
    fixed: Any, moving: Any, parameters: files.Parameters, folder: Path, mask: Any = None, moving_mask: Any = None
) -> Any:
    """The finished elastix filter, which compared the images inside the masks; its log is in `folder`.

    The rigidity penalty has no samples: it acts on the control points and the rigidity image, masks or not.
    """
    import itk

    parameter_object = itk.ParameterObject.New()
    parameter_object.AddParameterMap(parameters)
    elastix = itk.ElastixRegistrationMethod[type(fixed), type(moving)].New(fixed, moving)
    elastix.SetParameterObject(parameter_object)
    if mask is not None:
        elastix.SetFixedMask(mask)
    if moving_mask is not None:
        elastix.SetMovingMask(moving_mask)
    elastix.SetOutputDirectory(str(folder))
    elastix.SetLogFileName(_LOG)
    elastix.LogToFileOn()
    elastix.LogToConsoleOff()
    try:
        elastix.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        reason = _reason(_read_log(folder)) or _one_line(str(error))
        hint = next((f"; {advice}" for part, advice in _ADVICE.items() if part in reason), "")
        raise RuntimeError(f"elastix failed: {reason}{hint}") from error
    return elastix


def _displacement(moving: Any, elastix: Any, folder: Path) -> np.ndarray:
    """The displacement of a finished elastix filter, by transformix: float32 (z, y, x, 3), mm along the grid's axes."""
    import itk

    transformix = itk.TransformixFilter[type(moving)].New()
    transformix.SetMovingImage(moving)
    # The filter owns the parameter object: reading it after the filter is deleted is a segmentation fault.
    transformix.SetTransformParameterObject(elastix.GetTransformParameterObject())
    transformix.ComputeDeformationFieldOn()
    # transformix also writes the field into a file, by default in the working directory.
    transformix.SetOutputDirectory(str(folder))
    transformix.LogToConsoleOff()
    try:
        transformix.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        raise RuntimeError(f"transformix failed: {_one_line(str(error))}") from error
    field = itk.array_from_image(transformix.GetOutputDeformationField())
    return np.ascontiguousarray(field, np.float32)


def _read_log(folder: Path) -> str:
    """elastix's log in `folder`; empty if there is none."""
    path = folder / _LOG
    return path.read_text(errors="replace") if path.is_file() else ""


def _reason(log: str) -> str:
    """The description of the last exception in elastix's log, in one line; empty if there is none."""
    descriptions = re.findall(r"Description:\s*(.+?)(?:\n\s*\n|\Z)", log, flags=re.DOTALL)
    return _one_line(descriptions[-1]) if descriptions else ""


def _one_line(text: str) -> str:
    """`text` as one line of at most 300 characters, without itk's source file and object address."""
    without_origin = re.sub(r"^\S+\.(?:hxx|cxx|h):\d+:\s*", "", text.strip())
    plain = re.sub(r"(?:ITK )?ERROR: (?:\w+\(0x[0-9a-f]+\): )?", "", without_origin)
    return " ".join(plain.split())[:300]


def _unused(log: str) -> str:
    """The parameters that elastix's log reports as unused, separated by spaces."""
    return " ".join(re.findall(r"^\s*Unused parameter: (\w+)", log, flags=re.MULTILINE))


def _tail(log: str) -> str:
    """The last lines of a log, without the iteration table, the parameter files and the warnings about defaults."""
    skip = re.compile(r"^\s*$|^\d+\t|^\(\w|^WARNING: The parameter|^  The default value")
    return "\n".join([line for line in log.splitlines() if not skip.match(line)][-_TAIL_LINES:])
