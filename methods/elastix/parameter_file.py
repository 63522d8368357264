"""elastix parameter files: read, checked by name, adjusted by settings.

elastix ignores a parameter whose name it does not know, so a typing error silently leaves a default in place. Here
every name is compared with those that elastix 5.3 asks for (`names.py`) before anything runs. Reading needs no itk:
its elastix modules take up to 20 s to import, and a wrong file should be refused at once.

File format: https://elastix.dev/doxygen/parameter.html; a line is `(Name value value ...)`, `//` starts a comment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from methods.elastix.names import KNOWN

Parameters = dict[str, tuple[str, ...]]
Value = bool | int | float | str

PENALTY = "TransformRigidityPenalty"
BUILT_IN = {
    name: Path(__file__).with_name("parameters") / f"{name}.txt" for name in ("paper", "tuned", "fast", "rigid")
}
METRICS = {"mattes": "AdvancedMattesMutualInformation", "nmi": "NormalizedMutualInformation"}
CONDITIONS = {"oc": "Orthonormality", "pc": "Properness", "lc": "Linearity"}

# What a method decides for each case, or what would name another case's file.
RESERVED = {
    "MovingRigidityImageName": "the union of the moving labels is written for every case",
    "FixedRigidityImageName": "fixed labels are not given to a method",
    "InitialTransformParametersFileName": "a pair is registered from the identity",
    "InitialTransformParameterFileName": "a pair is registered from the identity",
    "RandomSeed": "the run's seed is used",
}

_COMPONENT = re.compile(
    r"^(Metric|ImageSampler|Interpolator|FixedImagePyramid|MovingImagePyramid|Optimizer|Transform|ResampleInterpolator)\d+"
)
_PER_METRIC = re.compile(r"^Metric\d+(Weight|RelativeWeight|Use)$")
_OF_PENALTY = (
    r"(Use|Calculate)\w+Condition",
    r"\w+ConditionWeight",
    "DilateRigidityImages",
    "DilationRadiusMultiplier",
)
_VALUE = re.compile(r'"([^"]*)"|(\S+)')


def locate(parameters: str) -> Path:
    """The file meant by `paper`, `tuned`, `fast`, `rigid` or a path.

    Raises FileNotFoundError if there is none.
    """
    path = BUILT_IN.get(parameters, Path(parameters).expanduser())
    if not path.is_file():
        raise FileNotFoundError(
            f"parameters: expected {', '.join(BUILT_IN)} or the path of an elastix parameter file, "
            f"found nothing at {parameters}"
        )
    return path


def read(path: Path) -> Parameters:
    """The parameters of one elastix file by name, every value as text.

    Raises ValueError, naming file and line, for a line that elastix could not read, a name given twice, a name that
    elastix does not know (with the nearest that it does) or one that is not the file's to decide.
    """
    found: Parameters = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text = _without_comment(line)
        if not text:
            continue
        where = f"{path}, line {number}"
        name, values = _entry(text, where)
        if name in found:
            raise ValueError(f"{where}: {name} is given twice; keep one")
        found[name] = values
    if not found:
        raise ValueError(f"{path}: expected elastix parameters, (Name value) a line, found none")
    check_names(found, str(path))
    return found


def _without_comment(line: str) -> str:
    """`line` up to a `//` that stands outside quotes, so that a path with two slashes survives."""
    outside = re.match(r'(?:"[^"]*"|/(?!/)|[^"/])*', line)
    return (outside.group(0) if outside else line).strip()


def _entry(text: str, where: str) -> tuple[str, tuple[str, ...]]:
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{where}: expected (Name value ...), got {text!r}")
    name, _, rest = text[1:-1].strip().partition(" ")
    values = tuple(quoted or plain for quoted, plain in _VALUE.findall(rest))
    if not values:
        raise ValueError(f"{where}: expected a value after {name!r}, got none")
    return name, values


def check_names(names: Iterable[str], source: str) -> None:
    """Raise ValueError for the first of `names` that elastix would ignore, or that is not the file's to decide."""
    for name in names:
        if name in RESERVED:
            raise ValueError(f"{source}: leave {name} out; {RESERVED[name]}")
        # elastix looks a name up with its component's label in front first: Metric0NumberOfHistogramBins.
        if name in KNOWN or _PER_METRIC.match(name) or _COMPONENT.sub("", name) in KNOWN:
            continue
        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{source}: elastix knows no parameter {name!r} and would ignore it{hint}")


def penalised(parameters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the rigidity penalty is among the metrics."""
    return PENALTY in parameters.get("Metric", ())


def with_changes(parameters: Parameters, changes: Mapping[str, Value | list[Value] | None]) -> Parameters:
    """The same with some parameters of other values, added, or, for None, taken out. Names are checked as a file's."""
    check_names(changes, "changes")
    changed = dict(parameters)
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
            continue
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError(f"changes: expected a value for {name}, got none; null takes it out")
        changed[name] = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
    return changed


def with_metric(parameters: Parameters, metric: str) -> Parameters:
    """The same with its mutual information replaced by `metric`: `mattes` or `nmi`."""
    names = parameters.get("Metric", ())
    if not set(names) & set(METRICS.values()):
        raise ValueError(f"metric: expected a file that uses {' or '.join(METRICS.values())}, it uses {names}")
    return {**parameters, "Metric": tuple(METRICS[metric] if n in METRICS.values() else n for n in names)}


def with_rigidity_weight(parameters: Parameters, weight: float) -> Parameters:
    """The same with another weight of the rigidity penalty; 0 takes the penalty out."""
    names = _metrics_with_penalty(parameters, "rigidity_weight")
    index = names.index(PENALTY)
    if weight > 0:
        return {**parameters, f"Metric{index}Weight": (repr(weight),)}
    if index != len(names) - 1:
        raise ValueError(f"rigidity_weight: 0 takes {PENALTY} out, which must be the last metric, got {names}")
    gone = re.compile(rf"^Metric{index}|^({'|'.join(_OF_PENALTY)})$")
    kept = {name: values for name, values in parameters.items() if not gone.match(name)}
    return {**kept, "Metric": names[:index]}


def with_condition(parameters: Parameters, condition: str, weight: float) -> Parameters:
    """The same with another weight of one rigidity condition, `oc`, `pc` or `lc`; 0 leaves the condition out."""
    _metrics_with_penalty(parameters, condition)
    name, use = CONDITIONS[condition], ("true" if weight > 0 else "false",)
    return {
        **parameters,
        f"Use{name}Condition": use,
        # elastix computes every condition by default, used or not.
        f"Calculate{name}Condition": use,
        f"{name}ConditionWeight": (repr(weight),),
    }


def _metrics_with_penalty(parameters: Parameters, setting: str) -> tuple[str, ...]:
    names = parameters.get("Metric", ())
    if PENALTY not in names:
        raise ValueError(f"{setting}: expected a file with the metric {PENALTY}, it has {names}")
    return names
