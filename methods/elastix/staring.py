"""`staring` and its kin: B-spline registration with mutual information and a rigidity penalty in bone, by elastix.

M. Staring, S. Klein, J. Pluim, "A rigidity penalty term for nonrigid registration", Medical Physics 34(11), 2007; the
paper's conventional row. The penalty's conditions are orthonormality (oc), properness (pc) and linearity (lc). Rows by
weights alone: `staring-oc`, orthonormality only, as the local rigidity of D. Loeckx et al., "Nonrigid image
registration using free-form deformations with a local rigidity constraint", MICCAI 2004; `staring-pc`, properness only,
as the incompressibility of T. Rohlfing et al., "Volume-preserving nonrigid registration of MR breast images using
free-form deformation with an incompressibility constraint", IEEE TMI 22(6), 2003. `bspline` is the same without any,
`rigid` one rigid transform of the whole image. The parameter files are in `parameters/`, in elastix's own format.

elastix 5.3 computes the penalty from derivatives along the *grid's* axes of a displacement along the *patient's*, so
that on a grid turned or flipped in space a plain rotation is penalised as if it were shear. The pair is therefore
registered in the grid's own axes (no rotation, origin 0), where the penalty is the one of the publication, and the
displacement is turned to LPS afterwards. Both scans lie on one grid, so nothing else changes.
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
from methods.elastix import parameter_file as files
from methods.elastix import rigidity
from methods.geometry import spacing_zyx

_PACKAGE = "itk-elastix"
_LOG = "elastix.log"
_TAIL_LINES = 25
# What to do about the commonest of elastix's exceptions.
_ADVICE = {"Too many samples": "the images hardly overlap any more: align them better, or take smaller steps (SP_a)"}


class ElastixSettings(Settings):
    """What any elastix row may change.

    parameters: `paper`, `tuned`, `fast`, `rigid`, or the path of an elastix parameter file (one stage).
    metric: `mattes` or `nmi` in place of the file's mutual information.
    changes: elastix parameters in place of the file's, `{NumberOfSpatialSamples: 4096}`; null takes one out.
    near_mm: samples are drawn no further than this from the moving labels, None for everywhere.
    """

    parameters: str = "paper"
    metric: Literal["mattes", "nmi"] | None = None
    changes: dict[str, files.Value | list[files.Value] | None] = Field(default_factory=dict)
    near_mm: float | None = Field(None, gt=0)


class StaringSettings(ElastixSettings):
    """What differs between rows with the penalty.

    rigidity_weight: weight of the penalty in place of the file's; 0 takes it out.
    oc, pc, lc: weights of orthonormality, properness and linearity within the penalty; 0 leaves one out.
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
        """Read the parameter file. Raises FileNotFoundError or ValueError if elastix could not follow it."""
        super().__init__(name, **settings)
        self.parameters = _adjusted(files.read(files.locate(self.settings.parameters)), self.settings)
        self.seed = 0

    def unavailable(self, device: str) -> str | None:
        if device not in self.devices:
            return f"elastix runs on the CPU only, not on {device}"
        return missing(_PACKAGE)

    def fingerprint(self) -> str:
        text = json.dumps([self.parameters, version_of(_PACKAGE)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Load itk's elastix modules, which takes up to 20 s the first time, and set the threads and the seed."""
        import itk

        self.seed = seed
        # Never elastix's own SetNumberOfThreads: with 2 or more, itk-elastix 0.25.4 ends in a segmentation fault in the
        # mutual information. ITK's global numbers decide the same and do not.
        itk.MultiThreaderBase.SetGlobalMaximumNumberOfThreads(threads)
        itk.MultiThreaderBase.SetGlobalDefaultNumberOfThreads(threads)
        image_type = itk.Image[itk.F, 3]
        itk.ElastixRegistrationMethod[image_type, image_type].New()
        itk.TransformixFilter[image_type].New()
        itk.ParameterObject.New()
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            rigidity.write(np.ones((2, 2, 2), np.uint8), (1.0, 1.0, 1.0), Path(folder) / "rigidity.mha")

    def register(self, pair: Pair) -> Registration:
        """Register one pair. elastix's whole log goes to stdout, which a run keeps.

        Raises ValueError for a pair that cannot be registered (no labelled bone, an image of one value) and
        RuntimeError, with elastix's own reason in one line, where elastix fails or loses the rigidity image.
        """
        refuse_flat(pair)
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            try:
                in_grid_axes, log = self._run(pair, Path(folder))
            finally:  # a registration that failed is the one whose log is wanted
                print(f"---- elastix on {pair.case}\n{_read_log(Path(folder))}", flush=True)
        displacement = in_grid_axes @ pair.grid.matrix.T.astype(np.float32)
        notes = {"elastix": version_of(_PACKAGE) or "", "unused_parameters": _unused(log), "log_tail": _tail(log)}
        return Registration(displacement, notes)

    def _run(self, pair: Pair, folder: Path) -> tuple[np.ndarray, str]:
        """The displacement in mm along the grid's axes, float32 (z, y, x, 3), and elastix's log."""
        parameters = {**self.parameters, "RandomSeed": (str(self.seed),)}
        image_path = folder / "rigidity.mha"
        if files.penalised(parameters):
            assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
            rigidity.write(rigidity.rigidity_of(pair.moving.labels, pair.case), pair.grid.spacing_mm, image_path)
            parameters["MovingRigidityImageName"] = (str(image_path),)
        fixed, moving = (_image(scan.image, pair.grid.spacing_mm) for scan in (pair.fixed, pair.moving))
        elastix = _register(fixed, moving, parameters, folder, self._sampled(pair))
        log = _read_log(folder)
        if files.penalised(parameters):
            rigidity.check_log(log, image_path)
        return _displacement(moving, elastix, folder), log

    def _sampled(self, pair: Pair) -> Any:
        """Where samples may be drawn, as an itk mask in the grid's axes, or None for everywhere."""
        if self.settings.near_mm is None:
            return None
        refuse_unlabelled(pair, f"{self.name} with near_mm")
        away = distance_transform_edt(pair.moving.labels == 0, spacing_zyx(pair.grid))
        return _image((away <= self.settings.near_mm).astype(np.uint8), pair.grid.spacing_mm)


class Unpenalised(Staring):
    """elastix: the same without the penalty, which is taken out of a file that has it; labels are not used."""

    Settings = ElastixSettings


def _adjusted(parameters: files.Parameters, settings: ElastixSettings) -> files.Parameters:
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
    """An itk image of (z, y, x) with origin 0 and no rotation."""
    import itk

    image = itk.image_from_array(np.ascontiguousarray(array))
    image.SetSpacing(spacing_mm)
    return image


def _register(fixed: Any, moving: Any, parameters: files.Parameters, folder: Path, sampled: Any = None) -> Any:
    """Run elastix: the finished filter. Its log is written into `folder`. Raises RuntimeError with elastix's reason.

    sampled: mask of the fixed image, None for all of it.
    """
    import itk

    given = itk.ParameterObject.New()
    given.AddParameterMap(parameters)
    elastix = itk.ElastixRegistrationMethod[type(fixed), type(moving)].New(fixed, moving)
    elastix.SetParameterObject(given)
    if sampled is not None:
        elastix.SetFixedMask(sampled)
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
    """The displacement that a finished filter found, on the grid, float32 (z, y, x, 3), mm, by transformix."""
    import itk

    transformix = itk.TransformixFilter[type(moving)].New()
    transformix.SetMovingImage(moving)
    # The parameter object belongs to the filter: without a filter alive to hold it, reading it is a segfault.
    transformix.SetTransformParameterObject(elastix.GetTransformParameterObject())
    transformix.ComputeDeformationFieldOn()
    transformix.SetOutputDirectory(str(folder))  # it writes the field as a file too, by default where the user stands
    transformix.LogToConsoleOff()
    try:
        transformix.UpdateLargestPossibleRegion()
    except RuntimeError as error:
        raise RuntimeError(f"transformix failed: {_one_line(str(error))}") from error
    field = itk.array_from_image(transformix.GetOutputDeformationField())
    return np.ascontiguousarray(field, np.float32)


def _read_log(folder: Path) -> str:
    path = folder / _LOG
    return path.read_text(errors="replace") if path.is_file() else ""


def _reason(log: str) -> str:
    """What the last exception in elastix's log says, in one line; empty if there is none."""
    found = re.findall(r"Description:\s*(.+?)(?:\n\s*\n|\Z)", log, flags=re.DOTALL)
    return _one_line(found[-1]) if found else ""


def _one_line(text: str) -> str:
    """`text` in one line of at most 300 characters, without itk's source file and object address."""
    without_origin = re.sub(r"^\S+\.(?:hxx|cxx|h):\d+:\s*", "", text.strip())
    plain = re.sub(r"(?:ITK )?ERROR: (?:\w+\(0x[0-9a-f]+\): )?", "", without_origin)
    return " ".join(plain.split())[:300]


def _unused(log: str) -> str:
    """The parameters that elastix says it was given and never read, separated by spaces."""
    return " ".join(re.findall(r"^\s*Unused parameter: (\w+)", log, flags=re.MULTILINE))


def _tail(log: str) -> str:
    """The last lines of a log, without the iteration table, parameter files and notices of defaults."""
    skip = re.compile(r"^\s*$|^\d+\t|^\(\w|^WARNING: The parameter|^  The default value")
    return "\n".join([line for line in log.splitlines() if not skip.match(line)][-_TAIL_LINES:])
