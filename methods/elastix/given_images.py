"""Parameters that do not fit the images that elastix is given: floats in [0, 1], 3-D, from memory, results in memory.

Published parameter files are written for CT in HU and for the command line. Some of their lines would destroy the
images without an error: internal pixels of type short make zeros of [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping

FLOAT = "the images are in [0, 1]"
UNUSED = "the result is the transform; nothing else is kept"
# Values that replace those of a file, each with the reason. A file without the parameter stays without it.
REPLACED = {
    "FixedInternalImagePixelType": ("float", FLOAT),
    "MovingInternalImagePixelType": ("float", FLOAT),
    "ResultImagePixelType": ("float", FLOAT),
    "DefaultPixelValue": ("0", "air is 0 in the images"),
    **dict.fromkeys(
        (
            "WriteResultImage", "WriteResultImageAfterEachIteration", "WriteResultImageAfterEachResolution",
            "WritePyramidImagesAfterEachResolution", "WriteTransformParametersEachIteration",
            "WriteTransformParametersEachResolution", "WriteIterationInfo",
        ),
        ("false", UNUSED),
    ),
}  # fmt: skip
# Replaced values that would have changed the registration; the others concern what elastix writes.
OF_REGISTRATION = ("FixedInternalImagePixelType", "MovingInternalImagePixelType")

DIMENSIONS = ("FixedImageDimension", "MovingImageDimension")
# Metrics for which an input is missing, or whose meaning is lost in images in [0, 1].
OTHER_INPUT = {
    "CorrespondingPointsEuclideanDistanceMetric": "files of points",
    "StatisticalShapePenalty": "files of a shape model",
    "MissingVolumeMeshPenalty": "files of meshes",
    "PolydataDummyPenalty": "files of meshes",
    "AdvancedKappaStatistic": "masks in place of images",
    "SumSquaredTissueVolumeDifference": "a CT in HU, not in [0, 1]",
    "PCAMetric": "a series of images",
    "PCAMetric2": "a series of images",
    "SumOfPairwiseCorrelationCoefficientsMetric": "a series of images",
    "VarianceOverLastDimensionMetric": "a series of images",
}


def check_values(parameters: Mapping[str, tuple[str, ...]], source: str) -> None:
    """Refuse parameters for other images than 3-D ones from memory.

    Args:
        parameters: values as text by name.
        source: where they come from; begins the error message.

    Raises:
        ValueError: another dimension than 3, or a metric with another input.
    """
    for name in DIMENSIONS:
        if any(value != "3" for value in parameters.get(name, ())):
            found = " ".join(parameters[name])
            raise ValueError(f"{source}: expected {name} 3, got {found}; leave the line out, pairs are 3-D")
    for metric in parameters.get("Metric", ()):
        if metric in OTHER_INPUT:
            raise ValueError(
                f"{source}: expected a metric of two images, got {metric}, which needs {OTHER_INPUT[metric]}; choose "
                "another metric"
            )


def with_replaced_values(parameters: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, tuple[str, ...]], list[str]]:
    """Replace the values that would destroy the images, and those that make elastix write more than the transform.

    Args:
        parameters: values as text by name.

    Returns:
        The parameters, and the names of those that had another value.
    """
    replaced = [
        name for name, (value, _) in REPLACED.items()
        if name in parameters and any(not _same(v, value) for v in parameters[name])
    ]  # fmt: skip
    return {**parameters, **{name: (REPLACED[name][0],) for name in replaced}}, replaced


def warning(parameters: Mapping[str, tuple[str, ...]], replaced: list[str]) -> str | None:
    """A sentence on replaced values that would have changed the registration, or None.

    Args:
        parameters: before the replacement.
        replaced: names, from `with_replaced_values`.
    """
    told = [f"{n} {' '.join(parameters[n])} by {REPLACED[n][0]}" for n in replaced if n in OF_REGISTRATION]
    return f"the parameter file's {' and '.join(told)} was replaced, since {FLOAT}" if told else None


def _same(text: str, value: str) -> bool:
    """Whether two values are the same text or the same number."""
    try:
        return float(text) == float(value)
    except ValueError:
        return text == value
