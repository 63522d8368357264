"""From a run folder to the report's files."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from reports.write import environment_line, print_table1, write_report


@pytest.fixture
def run_folder(two_patients, tmp_path) -> Path:
    return stored(two_patients, tmp_path / "run")


def stored(run, folder: Path) -> Path:
    folder.mkdir()
    for name, frame in zip(("pairs", "vertebrae", "cases"), run.frames(), strict=True):
        frame.to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump({"methods": ["initial", "voxelmorph"]}))
    (folder / "environment.json").write_text(json.dumps({"processor": "A CPU", "cores": 2, "python": "3.11.2"}))
    return folder


def test_a_report_is_five_files_and_an_index_that_links_them(run_folder):
    index = write_report(run_folder)
    assert index == run_folder / "report" / "index.md"
    names = {file.name for file in index.parent.iterdir()}
    assert names == {"index.md", "table1.md", "table1.csv", "fig2.png", "fig2.pdf"}
    text = index.read_text(encoding="utf-8")
    assert all(f"({name})" in text for name in names - {"index.md"})
    assert "Environment: A CPU · 2 cores · Python 3.11.2\n" in text
    assert "| paper |" in (index.parent / "table1.md").read_text(encoding="utf-8")


def test_the_same_run_gives_the_same_bytes(run_folder):
    folder = write_report(run_folder).parent
    first = {file.name: file.read_bytes() for file in folder.iterdir()}
    write_report(run_folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == first


def test_two_data_sets_have_a_figure_each(two_patients, tmp_path):
    two_patients.pair("a", 20, (0.1, 0.8, 2.0), dataset="folders:/a b/c", split=None)
    folder = write_report(stored(two_patients, tmp_path / "run")).parent
    assert {file.name for file in folder.glob("*.png")} == {"fig2-folders-a-b-c.png", "fig2-phantom-test.png"}
    assert (folder / "table1.md").read_text(encoding="utf-8").count("## Table 1") == 2


def test_the_report_does_without_the_papers_figures(run_folder):
    folder = write_report(run_folder, with_paper=False).parent
    assert "paper_" not in (folder / "table1.csv").read_text(encoding="utf-8")
    assert not [name for name in pd.read_csv(folder / "table1.csv") if "paper" in name]


def test_the_terminal_shows_the_table_unbroken_where_output_is_not_a_terminal(run_folder):
    console = Console(file=io.StringIO(), width=80)
    print_table1(run_folder, console)
    text = console.file.getvalue()
    row = next(line for line in text.splitlines() if line.startswith("VoxelMorph"))
    assert row.split()[1:3] == ["0.80(0.10)", "0.90(0.10)"]
    assert row.split()[-2:] == ["3", "2"]


def test_the_environment_line_names_what_is_known_and_leaves_out_what_is_not():
    known = {
        "date": "2026-01-02T03:04:05+00:00",
        "processor": "A CPU",
        "cores": 2,
        "memory_gb": 7.8,
        "gpu": None,
        "load": 0.5,
        "system": "Linux 6.1",
        "python": "3.11.2",
        "packages": {"torch": "2.13.0", "itk-elastix": None, "numpy": "2.4.6"},
        "commit": "b2cee2f0123456789",
        "modified": True,
    }
    assert environment_line(known) == (
        "A CPU · 2 cores · 7.8 GB · Linux 6.1 · Python 3.11.2 · torch 2.13.0 · rigidbench b2cee2f012 with local changes"
        " · 2026-01-02T03:04:05+00:00"
    )
    assert environment_line({}) == "not recorded"
