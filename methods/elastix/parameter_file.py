"""Read elastix parameter files, check their names and adjust them by settings.

elastix ignores a parameter whose name it does not know, so a misspelt parameter keeps its default without a message.
This module compares every name with those that elastix 5.3 reads (`names.py`) before anything runs. It does not import
itk, whose elastix modules take up to 20 s to import, so that a wrong file is refused at once.

File format: https://elastix.dev/doxygen/parameter.html; a line is `(Name value value ...)`, `//` starts a comment.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from methods.elastix.names import KNOWN
from methods.text_files import read_text

Parameters = dict[str, tuple[str, ...]]
Value = bool | int | float | str

PENALTY = "TransformRigidityPenalty"
BUILT_IN = {name: Path(__file__).with_name("parameters") / f"{name}.txt" for name in ("paper", "tuned", "fast")}
METRICS = {"mattes": "AdvancedMattesMutualInformation", "nmi": "NormalizedMutualInformation"}
CONDITIONS = {"oc": "Orthonormality", "pc": "Properness", "lc": "Linearity"}

# Parameters that the method sets itself for each case, each with the reason.
RESERVED = {
    "MovingRigidityImageName": "the union of the moving labels is written for every case",
    "FixedRigidityImageName": "a method receives no fixed labels",
    "InitialTransformParametersFileName": "registration starts from the identity",
    "InitialTransformParameterFileName": "registration starts from the identity",
    "RandomSeed": "the run's seed is used",
    "SegmentedImageName": "the case's images are the only input",
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
_COMMA = re.compile(r"[-+\d.,eE]*\d,[-+\d.,eE]*|.*,")
_VALUE = re.compile(r'"([^"]*)"|(\S+)')


def locate(parameters: str) -> Path:
    """The path of a parameter file.

    Args:
        parameters: `paper`, `tuned` or `fast` for a built-in file, else a path.

    Raises:
        FileNotFoundError: the file does not exist.
    """
    path = BUILT_IN.get(parameters, Path(parameters).expanduser())
    if not path.is_file():
        raise FileNotFoundError(
            f"parameters: expected {', '.join(BUILT_IN)} or the path of an elastix parameter file, "
            f"found nothing at {parameters}"
        )
    return path


def read(path: Path) -> Parameters:
    """Read a parameter file.

    Args:
        path: an elastix parameter file, in any encoding that `read_text` reads.

    Returns:
        The values of each parameter by name, as text.

    Raises:
        ValueError: a line is not a parameter, a name occurs twice, elastix does not know a name, or a name is in
            `RESERVED`. The message names the file and the line.
    """
    parameters: Parameters = {}
    for number, line in enumerate(read_text(path, single_bytes=True).split("\n"), start=1):
        text = _without_comment(line)
        if not text:
            continue
        where = f"{path}, line {number}"
        name, values = _entry(text, where)
        if name in parameters:
            raise ValueError(f"{where}: {name} is given twice; keep one")
        parameters[name] = values
    if not parameters:
        raise ValueError(f"{path}: expected elastix parameters, (Name value) a line, found none")
    check_names(parameters, str(path))
    return parameters


def _without_comment(line: str) -> str:
    """The part of `line` before the first `//` outside quotes; a path in quotes may contain two slashes."""
    outside = re.match(r'(?:"[^"]*"|/(?!/)|[^"/])*', line)
    return (outside.group(0) if outside else line).strip()


def _entry(text: str, where: str) -> tuple[str, tuple[str, ...]]:
    """The name and the values of one line; `where` begins an error message."""
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{where}: expected (Name value ...), got {text!r}")
    name, *rest = text[1:-1].split(maxsplit=1) or [""]  # any blank, such as a tab
    values = tuple(quoted or plain for quoted, plain in _VALUE.findall(rest[0] if rest else ""))
    if not values:
        raise ValueError(f"{where}: expected a value after {name!r}, got none")
    _check_commas(name, values, where)
    return name, values


def _check_commas(name: str, values: Iterable[str], source: str) -> None:
    """Raise ValueError for a decimal comma or a comma between values, which elastix does not read."""
    for value in values:
        if _COMMA.fullmatch(value):
            raise ValueError(
                f"{source}: expected values of {name} with decimal points and blanks between them, got {value!r}"
            )


def check_names(names: Iterable[str], source: str) -> None:
    """Check that elastix reads every parameter and that the method does not set it itself.

    Args:
        names: parameter names.
        source: where they come from; begins the error message.

    Raises:
        ValueError: elastix does not know a name, or a name is in `RESERVED`.
    """
    for name in names:
        if name in RESERVED:
            raise ValueError(f"{source}: leave {name} out; {RESERVED[name]}")
        # elastix also reads a name behind the label of its component, as in Metric0NumberOfHistogramBins.
        if name in KNOWN or _PER_METRIC.match(name) or _COMPONENT.sub("", name) in KNOWN:
            continue
        near = difflib.get_close_matches(name, KNOWN, n=1, cutoff=0.6)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"{source}: elastix knows no parameter {name!r} and would ignore it{hint}")


def penalised(parameters: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether the metrics include the rigidity penalty."""
    return PENALTY in parameters.get("Metric", ())


def with_changes(parameters: Parameters, changes: Mapping[str, Value | list[Value] | None]) -> Parameters:
    """A copy with changed parameters.

    Args:
        parameters: values as text by name.
        changes: new values by name; None removes the parameter.

    Raises:
        ValueError: a name is refused by `check_names`, or a list of values is empty.
    """
    check_names(changes, "changes")
    changed = dict(parameters)
    for name, value in changes.items():
        if value is None:
            changed.pop(name, None)
            continue
        values = value if isinstance(value, list) else [value]
        if not values:
            raise ValueError(f"changes: expected a value for {name}, got none; null removes it")
        changed[name] = tuple(str(v).lower() if isinstance(v, bool) else str(v) for v in values)
        _check_commas(name, changed[name], "changes")
    return changed


def with_metric(parameters: Parameters, metric: str) -> Parameters:
    """A copy with another mutual information, `mattes` or `nmi`.

    Raises:
        ValueError: the file uses neither of the two.
    """
    names = parameters.get("Metric", ())
    if not set(names) & set(METRICS.values()):
        raise ValueError(f"metric: expected a file that uses {' or '.join(METRICS.values())}, it uses {names}")
    return {**parameters, "Metric": tuple(METRICS[metric] if n in METRICS.values() else n for n in names)}


def with_rigidity_weight(parameters: Parameters, weight: float) -> Parameters:
    """A copy with another weight of the rigidity penalty, at least 0; 0 removes the penalty and its parameters.

    Raises:
        ValueError: the file has no penalty, or the penalty to remove is not the last metric.
    """
    names = _metrics_with_penalty(parameters, "rigidity_weight")
    index = names.index(PENALTY)
    if weight > 0:
        return {**parameters, f"Metric{index}Weight": (repr(weight),)}
    if index != len(names) - 1:
        raise ValueError(f"rigidity_weight: 0 removes {PENALTY}, which must be the last metric, got {names}")
    removed = re.compile(rf"^Metric{index}|^({'|'.join(_OF_PENALTY)})$")
    kept = {name: values for name, values in parameters.items() if not removed.match(name)}
    return {**kept, "Metric": names[:index]}


def with_condition(parameters: Parameters, condition: str, weight: float) -> Parameters:
    """A copy with another weight of one rigidity condition.

    Args:
        parameters: values as text by name.
        condition: `oc` (orthonormality), `pc` (properness) or `lc` (linearity).
        weight: at least 0; 0 switches the condition off.

    Raises:
        ValueError: the file has no rigidity penalty.
    """
    _metrics_with_penalty(parameters, condition)
    name, use = CONDITIONS[condition], ("true" if weight > 0 else "false",)
    return {
        **parameters,
        f"Use{name}Condition": use,
        # elastix computes every condition by default, even an unused one.
        f"Calculate{name}Condition": use,
        f"{name}ConditionWeight": (repr(weight),),
    }


def _metrics_with_penalty(parameters: Parameters, setting: str) -> tuple[str, ...]:
    """The metrics of a file that has the penalty; `setting` begins the error message for one that has not."""
    names = parameters.get("Metric", ())
    if PENALTY not in names:
        raise ValueError(f"{setting}: expected a file with the metric {PENALTY}, it has {names}")
    return names
