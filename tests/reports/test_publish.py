"""What goes from runs into the project's own pages."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from support.synthetic import write_run

from benchmark.errors import BadInput
from reports.publish import BEGIN, END, publish


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> Path:
    """Two runs, one of phantoms and one of other data, on a page and in a README, and a third on the page alone."""
    folder = tmp_path_factory.mktemp("published")
    runs = [write_run(folder / name, 3, ("initial", "voxelmorph", "pc", "volume")) for name in ("phantoms", "others")]
    for name in ("pairs", "vertebrae", "cases"):
        table = pd.read_parquet(runs[0] / f"{name}.parquet").assign(dataset="phantom")
        table.to_parquet(runs[0] / f"{name}.parquet", index=False)
    (folder / "README.md").write_text(f"Above.\n\n{BEGIN}\n\nAn old table.\n\n{END}\n\nBelow.\n", encoding="utf-8")
    publish(runs, folder / "docs", folder / "README.md", [write_run(folder / "further", 2, ("initial", "oc"))])
    return folder


def test_the_readme_has_the_runs_tables_between_its_marks(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    assert text.startswith("Above.\n") and text.endswith("Below.\n") and "An old table." not in text
    assert text.count("| VoxelMorph |") == 2 and "**Table 1: phantom, test split, 9 vertebrae of 3 patients**" in text
    heads = next(line for line in text.splitlines() if line.startswith("| Method"))
    assert "| DSC ↑ | paper | Rigid DSC ↑ | paper |" in heads and "l2r" not in heads and "Patients" not in heads
    for note in ("Initial: the two labels of a pair", "mean(SD), SD with n - 1", "In brackets: reference rows"):
        assert text.count(f"\n{note}") == 2, "both tables have the notes that explain them"
    page = (published / "docs" / "results.md").read_text(encoding="utf-8")
    assert "| oc |" not in text and "# further\n" in page and "| oc |" in page
    assert 'make results RUNS="runs/phantoms runs/others" MORE="runs/further"' in page
    lengths = {line.count(" | ") for line in text.splitlines() if line.startswith("|")}
    assert len(lengths) == 2, "the tables with and without the paper's columns, each of one length"


def test_the_page_has_every_chapter_and_its_pictures_exist(published):
    text = (published / "docs" / "results.md").read_text(encoding="utf-8")
    for heading in ("## Table 1: phantom", "## Supplement", "## Runtime"):
        assert heading in text
    for page, folder in ((text, published / "docs"), ((published / "README.md").read_text("utf-8"), published)):
        named = [part.partition(")")[0] for part in page.split("](")[1:]]
        pictures = [name for name in named if name.endswith(".png")]
        assert pictures and all((folder / name).is_file() for name in pictures)


def test_slices_are_shown_of_phantoms_alone(published):
    """Other data's licence may not allow it. The HTML report is the first run's."""
    names = {file.name for file in (published / "docs").glob("*.png")}
    assert {"phantoms-fig2.png", "phantoms-fig3.png", "others-fig2.png"} <= names and "others-fig3.png" not in names
    assert ("report.png" in names) == (shutil.which("chromium") is not None)


def test_a_readme_without_the_marks_is_refused_and_stays(published, tmp_path):
    (tmp_path / "README.md").write_text("No marks.", encoding="utf-8")
    with pytest.raises(BadInput, match="expected the lines <!-- results"):
        publish([published / "phantoms"], tmp_path / "docs", tmp_path / "README.md")
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "No marks."
