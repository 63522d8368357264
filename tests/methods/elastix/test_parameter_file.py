"""Parameter files: names that elastix would ignore are refused, and settings change the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.elastix import parameter_file
from methods.registry import create_method

FAST = parameter_file.BUILT_IN["fast"]


def user_file(folder: Path, *lines: str, without: str = "") -> str:
    """A user's file: fast.txt without the lines that contain `without`, and with `lines` added."""
    kept = [line for line in FAST.read_text(encoding="utf-8").splitlines() if not without or without not in line]
    path = folder / "user.txt"
    path.write_text("\n".join([*kept, *lines]))
    return str(path)


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_paper_and_fast_have_the_values_of_facts_md(name: str) -> None:
    """Both metrics, weights 0.1 and 0.5, conditions 0.1 and 0.1, linearity off, 8 mm, three resolutions."""
    read = parameter_file.read(parameter_file.locate(name))
    assert read["Metric"] == ("AdvancedMattesMutualInformation", "TransformRigidityPenalty")
    assert (read["Metric0Weight"], read["Metric1Weight"]) == (("0.1",), ("0.5",))
    assert (read["OrthonormalityConditionWeight"], read["PropernessConditionWeight"]) == (("0.1",), ("0.1",))
    assert read["UseLinearityCondition"] == ("false",)
    assert read["FinalGridSpacingInPhysicalUnits"] == ("8.0",)
    assert read["ImagePyramidSchedule"] == tuple("444222111")


def test_tuned_has_the_conditions_and_the_schedule_of_paper() -> None:
    paper, tuned = (parameter_file.read(parameter_file.locate(name)) for name in ("paper", "tuned"))
    kept = ("Metric", "Transform", "NumberOfResolutions", "ImagePyramidSchedule", "HowToCombineTransforms")
    conditions = [name for name in paper if name.startswith("Use") and name.endswith("Condition")]
    assert len(conditions) == 3
    for name in (*kept, *conditions, "OrthonormalityConditionWeight", "PropernessConditionWeight"):
        assert tuned[name] == paper[name], name


def test_comments_quotes_and_paths_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text('// all\n(Metric "A" "B") // two\n\n  (SP_a 1 2.5)\n(ResultImageFormat "a//b c.mha")\n')
    assert parameter_file.read(file) == {
        "Metric": ("A", "B"),
        "SP_a": ("1", "2.5"),
        "ResultImageFormat": ("a//b c.mha",),
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("(OrthonormalityConditionWeigth 0.2)", "did you mean 'OrthonormalityConditionWeight'"),
        ("(Metric0NumberOfHistogramBin 32)", "would ignore it; did you mean 'NumberOfHistogramBins'"),
        ("(FinalGridSpacing 8.0)", "elastix knows no parameter 'FinalGridSpacing'"),
        ("(DefaultPixelValue 1)", "DefaultPixelValue is given twice"),
        ('(MovingRigidityImageName "bone.mha")', "leave MovingRigidityImageName out"),
        ('(SegmentedImageName "a.mha")', "leave SegmentedImageName out; the case's images are the only input"),
        ("(RandomSeed 7)", "leave RandomSeed out; the run's seed is used"),
        ("MaximumStepLength 1", "expected \\(Name value ...\\)"),
        ("(MaximumStepLength)", "expected a value after 'MaximumStepLength'"),
    ],
)
def test_lines_that_elastix_would_ignore_are_refused(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_method("staring", {"parameters": user_file(tmp_path, line)})


def test_a_users_own_file_is_accepted(tmp_path: Path) -> None:
    made = create_method("staring", {"parameters": user_file(tmp_path, "(Metric0NumberOfFixedHistogramBins 16)")})
    assert made.parameters["Metric0NumberOfFixedHistogramBins"] == ("16",)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_a_file_is_read_as_editors_save_it(tmp_path: Path, encoding: str) -> None:
    lines = ["(NumberOfResolutions\t3)", '( Metric   "A"\t"B" )', "(SP_a 1  2.5) // Größe"]
    (tmp_path / "a.txt").write_bytes("\r\n".join(lines).encode(encoding))
    read = parameter_file.read(tmp_path / "a.txt")
    assert read == {"NumberOfResolutions": ("3",), "Metric": ("A", "B"), "SP_a": ("1", "2.5")}


@pytest.mark.parametrize("values", ["0,1", "4, 4, 4", "1,5 2,5"])
def test_commas_are_refused_before_anything_runs(tmp_path: Path, values: str) -> None:
    with pytest.raises(ValueError, match=r"line \d+: expected values of SP_a with decimal points and blanks between"):
        create_method("staring", {"parameters": user_file(tmp_path, f"(SP_a {values})")})
    with pytest.raises(ValueError, match=r"changes: expected values of SP_a with decimal points"):
        create_method("staring", {"changes": {"SP_a": values.split()}})


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at no-such"):
        create_method("staring", {"parameters": "no-such"})


def test_settings_change_the_file() -> None:
    made = create_method("staring-fast", {"metric": "nmi", "rigidity_weight": 2, "oc": 0.3, "pc": 0, "lc": 1})
    assert made.parameters["Metric"] == ("NormalizedMutualInformation", "TransformRigidityPenalty")
    assert made.parameters["Metric1Weight"] == ("2.0",)
    assert made.parameters["OrthonormalityConditionWeight"] == ("0.3",)
    assert made.parameters["UsePropernessCondition"] == ("false",)
    assert made.parameters["UseLinearityCondition"] == made.parameters["CalculateLinearityCondition"] == ("true",)


def test_changes_override_the_file_and_their_names_are_checked() -> None:
    made = create_method(
        "staring-fast", {"changes": {"SP_a": [1, 2.5], "UseCyclicTransform": False, "Metric1Weight": None}}
    )
    assert made.parameters["SP_a"] == ("1", "2.5")
    assert made.parameters["UseCyclicTransform"] == ("false",)
    assert "Metric1Weight" not in made.parameters
    with pytest.raises(ValueError, match="changes: elastix knows no parameter 'SP_b'"):
        create_method("staring-fast", {"changes": {"SP_b": 1}})
    with pytest.raises(ValueError, match="changes: leave RandomSeed out"):
        create_method("staring-fast", {"changes": {"RandomSeed": 1}})
    with pytest.raises(ValueError, match="expected a value for SP_a, got none"):
        create_method("staring-fast", {"changes": {"SP_a": []}})


def test_weight_zero_removes_the_penalty() -> None:
    made = create_method("staring-fast", {"rigidity_weight": 0})
    assert made.parameters["Metric"] == ("AdvancedMattesMutualInformation",)
    assert not [name for name in made.parameters if "Condition" in name or name == "Metric1Weight"]


def test_a_weight_without_its_penalty_is_refused(tmp_path: Path) -> None:
    path = user_file(tmp_path, '(Metric "AdvancedMattesMutualInformation")', without="(Metric ")
    for setting in ("rigidity_weight", "oc"):
        with pytest.raises(ValueError, match=f"{setting}: expected a file with the metric TransformRigidityPenalty"):
            create_method("staring", {"parameters": path, setting: 1})


def test_bspline_accepts_a_users_file_with_or_without_the_penalty(tmp_path: Path) -> None:
    path = user_file(tmp_path)
    assert create_method("bspline", {"parameters": path}).parameters["Metric"] == ("AdvancedMattesMutualInformation",)
    path = user_file(tmp_path, '(Metric "NormalizedMutualInformation")', without="(Metric ")
    assert create_method("bspline", {"parameters": path}).parameters["Metric"] == ("NormalizedMutualInformation",)
