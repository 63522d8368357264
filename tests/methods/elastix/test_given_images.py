"""Parameter files for other images than those of a pair: values are replaced, or the file is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from methods.elastix import given_images, parameter_file
from methods.registry import create_method

WRITES = [name for name, (value, _) in given_images.REPLACED.items() if value == "false"]


def file_with(folder: Path, **values: str) -> str:
    """fast.txt with other lines for some names, as a file."""
    lines = parameter_file.BUILT_IN["fast"].read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not any(line.startswith(f"({name} ") for name in values)]
    path = folder / "user.txt"
    path.write_text("\n".join([*kept, *(f"({name} {value})" for name, value in values.items())]))
    return str(path)


@pytest.mark.parametrize("row", ["staring-fast", "bspline"])
@pytest.mark.parametrize("kind", ["short", "unsigned char", "double"])
def test_internal_pixels_are_floats_whatever_the_file_says(tmp_path: Path, row: str, kind: str) -> None:
    path = file_with(tmp_path, FixedInternalImagePixelType=f'"{kind}"', MovingInternalImagePixelType=f'"{kind}"')
    method = create_method(row, {"parameters": path})
    for name in given_images.OF_REGISTRATION:
        assert method.parameters[name] == ("float",)
    assert method.notes["warning"] == (
        f"the parameter file's FixedInternalImagePixelType {kind} by float and MovingInternalImagePixelType {kind} by "
        "float was replaced, since the images are in [0, 1]"
    )


def test_changes_in_yaml_are_replaced_too() -> None:
    method = create_method("staring-fast", {"changes": {"MovingInternalImagePixelType": "short"}})
    assert method.parameters["MovingInternalImagePixelType"] == ("float",)
    assert "MovingInternalImagePixelType short" in method.notes["warning"]


def test_values_for_a_ct_in_hu_and_for_files_are_replaced(tmp_path: Path) -> None:
    values = {"DefaultPixelValue": "-1024", "ResultImagePixelType": '"short"', **dict.fromkeys(WRITES, '"true"')}
    method = create_method("staring", {"parameters": file_with(tmp_path, **values)})
    assert method.parameters["DefaultPixelValue"] == ("0",)
    assert all(method.parameters[name] == ("false",) for name in WRITES)
    assert set(method.notes["replaced_parameters"].split()) == set(values)
    assert "warning" not in method.notes, "none of them changes the registration"


@pytest.mark.parametrize("name", ["paper", "tuned", "fast"])
def test_built_in_files_need_no_replacement(name: str) -> None:
    parameters = parameter_file.read(parameter_file.locate(name))
    assert given_images.with_replaced_values(parameters) == (parameters, [])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"FixedImageDimension": "2"}, "expected FixedImageDimension 3, got 2; leave the line out, pairs are 3-D"),
        ({"MovingImageDimension": "4"}, "expected MovingImageDimension 3, got 4"),
        (
            {"Metric": '"AdvancedMattesMutualInformation" "CorrespondingPointsEuclideanDistanceMetric"'},
            "got CorrespondingPointsEuclideanDistanceMetric, which needs files of points; choose another metric",
        ),
        ({"Metric": '"SumSquaredTissueVolumeDifference"'}, r"which needs a CT in HU, not in \[0, 1\]"),
    ],
)
def test_files_for_other_inputs_are_refused(tmp_path: Path, values: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=rf"user\.txt: .*{message}"):
        create_method("bspline", {"parameters": file_with(tmp_path, **values)})


def test_short_pixels_register_as_floats_do(done: Callable[[str], dict[str, Any]]) -> None:
    """With pixels of type short, elastix returns a field of zeros and no error."""
    job = done("short")
    assert job["error"].mean() < 0.5
    assert "FixedInternalImagePixelType short by float" in job["warning"]


def test_a_field_of_zeros_has_a_warning(done: Callable[[str], dict[str, Any]]) -> None:
    assert "elastix left every voxel where it was" in done("short")["not_replaced"]
