"""From a run folder to the report's files."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from rich.console import Console

from benchmark.errors import BadInput
from reports.write import Options, write_report


@pytest.fixture
def run_folder(two_patients, tmp_path) -> Path:
    return stored(two_patients, tmp_path / "run")


def stored(run, folder: Path) -> Path:
    folder.mkdir()
    built = run.run()
    for name in ("pairs", "vertebrae", "cases"):
        getattr(built, name).to_parquet(folder / f"{name}.parquet", index=False)
    (folder / "config.yaml").write_text(yaml.safe_dump(built.config))
    (folder / "environment.json").write_text(json.dumps({"processor": "A CPU", "cores": 2, "python": "3.11.2"}))
    return folder


def test_a_report_is_files_and_an_index_that_links_every_one(run_folder):
    index = write_report(run_folder)
    assert index == run_folder / "report" / "index.md"
    names = {file.name for file in index.parent.iterdir()}
    # No pictures were kept, and two patients are too few for a test: no Fig. 3, no Fig. 1, no statistics, no claims.
    assert names == {
        "index.md", "report.html", "table1.md", "table1.csv", "table1.tex", "table1.html", "fig2.png", "fig2.pdf",
        "fig2.svg", "measures.md", "measures.csv", "measures-by-level.csv", "measures.tex", "supplement.md",
        "rigidity.csv",
        "runtime.md", "runtime.csv", "runtime.png", "runtime.pdf", "runtime.svg",
    }  # fmt: skip
    text = index.read_text(encoding="utf-8")
    assert all(f"({name})" in text for name in names - {"index.md"})
    assert "Environment: A CPU · 2 cores · Python 3.11.2\n" in text
    assert "| paper |" not in (index.parent / "table1.md").read_text(encoding="utf-8")


def test_files_that_only_an_earlier_report_wrote_are_removed(run_folder):
    folder = write_report(run_folder).parent
    assert (folder / "runtime.png").is_file()
    (folder / "mine.md").write_text("a reader's notes")
    cases = pd.read_parquet(run_folder / "cases.parquet")
    cases.assign(contended=True).to_parquet(run_folder / "cases.parquet", index=False)
    text = write_report(run_folder).read_text(encoding="utf-8")
    assert not list(folder.glob("runtime.p*")) and "runtime.png" not in text
    assert (folder / "mine.md").is_file(), "what no report made stays"
    assert "every cell ran beside others" in (folder / "runtime.md").read_text(encoding="utf-8")


def test_the_papers_figures_stand_beside_ours_on_request(run_folder):
    folder = write_report(run_folder, Options(with_paper=True)).parent
    assert "| paper |" in (folder / "table1.md").read_text(encoding="utf-8")
    assert 'class="paper"' in (folder / "report.html").read_text(encoding="utf-8")


def test_missing_cells_are_listed_first_and_common_patients_are_used_on_request(two_patients, tmp_path):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)})
    two_patients.cell("oc", "b", {}, status="crashed", error="no memory")
    run = stored(two_patients, tmp_path / "run")
    index = write_report(run).read_text(encoding="utf-8")
    assert index.index("oc@cpu: 1 patient (b) crashed: no memory") < index.index("report.html")
    table = pd.read_csv(run / "report" / "table1.csv").set_index("row")
    assert list(table.loc["VoxelMorph", ["vertebrae", "patients"]]) == [3, 2], "the others keep their patients"
    assert list(table.loc["oc", ["vertebrae", "patients", "crashed"]]) == [2, 1, 1]
    write_report(run, Options(common=True))
    text = (run / "report" / "table1.md").read_text(encoding="utf-8")
    assert "Common patients only (--common): the 1 of 2" in text and "2 vertebrae of 1 patient" in text
    assert "oc@cpu: 1 patient (b) crashed" in text, "lost cells of all patients are still listed"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(baseline="staring"), "--baseline staring: expected a row of the run, one of initial, voxelmorph"),
        (Options(case="z"), "Fig. 3: case z: expected a patient with pictures"),
        (Options(sweep=Path("/no/such")), "--sweep /no/such: expected a folder that `train --sweep"),
    ],
)
def test_an_option_that_the_run_cannot_meet_is_one_line(run_folder, options, message):
    with pytest.raises(BadInput) as caught:
        write_report(run_folder, options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_a_finished_tuning_is_part_of_the_supplement(run_folder):
    table = pd.DataFrame({"stage": ["similarity"], "similarity": ["mind"], "smoothness": [3.0], "steps": [500],
                          "dsc": [0.7123], "sd_log_jacobian": [0.05], "folding_voxels": [0.0],
                          "dsc_before": [0.68]})  # fmt: skip
    (run_folder / "sweep").mkdir()
    table.to_parquet(run_folder / "sweep" / "sweep.parquet")
    text = (write_report(run_folder).parent / "supplement.md").read_text(encoding="utf-8")
    assert "| mind | 3 | 500 | 0.7123 | 0.050 | 0 |" in text and "0.6800" in text


def test_two_data_sets_have_a_figure_each(two_patients, tmp_path):
    two_patients.pair("a", 20, (0.1, 0.8, 2.0), dataset="folders:/a b/c", split=None)
    folder = write_report(stored(two_patients, tmp_path / "run")).parent
    assert {file.name for file in folder.glob("*.png")} == {
        "fig2-folders-a-b-c.png", "fig2-phantom-test.png", "runtime-phantom-test.png",
    }  # fmt: skip
    assert (folder / "table1.md").read_text(encoding="utf-8").count("## Table 1") == 2
    assert "phantom, test split" in set(pd.read_csv(folder / "runtime.csv")["data"])


def test_too_few_patients_make_no_statistics_page(empty, tmp_path):
    for number in range(3):
        empty.pair(f"motion-{number}", 20, (0.5, 0.9, 4.0), group="spine")
        for method in ("staring", "voxelmorph", "pc"):
            empty.cell(method, f"motion-{number}", {20: (0.7, 0.8, 1.0)}, seconds=1.0)
    index = write_report(stored(empty, tmp_path / "run"))
    names = {file.name for file in index.parent.iterdir()}
    assert not names & {"statistics.md", "claims.md", "claims.csv", "ranking.csv", "intervals.csv", "differences.csv"}
    text = index.read_text(encoding="utf-8")
    assert "- No statistics and no claims: phantom, test split has 1 patient, and a test needs 6\n" in text
    assert 'id="statistics-0"' not in (index.parent / "report.html").read_text(encoding="utf-8")


def test_enough_patients_make_statistics_and_the_papers_claims(paper_rows, tmp_path):
    index = write_report(stored(paper_rows, tmp_path / "run"))
    names = {file.name for file in index.parent.iterdir()}
    assert {"statistics.md", "claims.md", "ranking.csv", "intervals.csv", "critical-difference.png"} <= names
    assert "No statistics" not in index.read_text(encoding="utf-8")


def test_the_terminal_shows_the_table_unbroken_where_output_is_not_a_terminal(run_folder):
    console = Console(file=io.StringIO(), width=80)
    write_report(run_folder, console=console)
    text = console.file.getvalue()
    row = next(line for line in text.splitlines() if line.startswith("VoxelMorph"))
    assert row.split()[1:4] == ["0.80(0.10)", "0.80(0.10)", "0.90(0.10)"], "DSC, soft DSC, rigid DSC"
    assert row.split()[-2:] == ["3", "2"]


def test_importing_the_reports_imports_no_drawing_library():
    """The command line imports reports to print a table: libraries of figures are imported when one is drawn."""
    code = "import reports.write, reports.figures.fig2, sys; "
    code += "print({'seaborn', 'matplotlib', 'torch'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", env=environment, check=True
    )
    assert result.stdout.strip() == "set()"
