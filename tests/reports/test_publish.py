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
    (runs[0] / "following.csv").write_text("row,along the spine,front to back,left to right\npc,0.1,0.9,0.8\n")
    publish(runs, folder / "docs", folder / "README.md", [write_run(folder / "further", 2, ("initial", "oc"))])
    return folder


def test_the_readme_has_five_rows_of_the_first_run_between_its_marks(published):
    text = (published / "README.md").read_text(encoding="utf-8")
    assert text.startswith("Above.\n") and text.endswith("Below.\n") and "An old table." not in text
    assert "**Table 1: phantom, test split, 9 vertebrae of 3 patients**" in text and "others" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows[0] == "| Method | DSC ↑ | Rigid DSC ↑ | %Δvol ↓ | \\|J\\|≤0 ↓ | Time [s] ↓ |"
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| Initial", "| VoxelMorph", "| pc"]
    assert "tables of the run: docs/runs/phantoms" in text
    page = (published / "docs" / "results.md").read_text(encoding="utf-8")
    assert "# further\n" in page and "| oc |" in page
    assert 'make results RUNS="runs/phantoms runs/others" MORE="runs/further"' in page


def test_the_tables_of_every_run_are_kept(published):
    """Whoever doubts a value of the README can compute it again."""
    for name in ("phantoms", "others", "further"):
        kept, own = published / "docs" / "runs" / name, published / name
        for table in ("pairs.parquet", "vertebrae.parquet", "cases.parquet"):
            assert (kept / table).read_bytes() == (own / table).read_bytes()
        assert (kept / "following.csv").is_file() == (own / "following.csv").is_file() == (name == "phantoms")
    assert (published / "docs" / "before-after.png").is_file()


def test_the_page_has_every_chapter_and_its_pictures_exist(published):
    text = (published / "docs" / "results.md").read_text(encoding="utf-8")
    for heading in ("## Table 1: phantom", "## Supplement", "## Runtime"):
        assert heading in text
    named = [part.partition(")")[0] for part in text.split("](")[1:]]
    pictures = [name for name in named if name.endswith(".png")]
    assert pictures and all((published / "docs" / name).is_file() for name in pictures)


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
