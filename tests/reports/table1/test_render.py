"""Table 1 in Markdown, CSV, LaTeX and the terminal."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from reports.printing import csv
from reports.run_data import data_sets
from reports.table1.render import latex, markdown, terminal
from reports.table1.sheet import make_sheet
from reports.table1.values import table1


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.replace(r"\|", "¦").strip("| ").split(" | ")]


def lines_of(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def shown(sheet, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal(sheet, width))
    return console.file.getvalue()


def test_markdown_has_the_papers_columns_with_its_figures_beside_ours(two_patients):
    text = markdown([make_sheet(two_patients.data(), with_paper=True)], "a CPU")
    head, voxelmorph = cells(lines_of(text, "| Method")[0]), cells(lines_of(text, "| VoxelMorph")[0])
    titles = [
        "DSC",
        "Soft DSC",
        "Rigid DSC",
        "Soft rigid DSC",
        "%Δvol",
        "¦J¦≤0",
        "SD log¦J¦",
        "SD log¦J¦ l2r",
        "Time [s]",
    ]
    ours = [name for name in head[1:-2] if name != "paper"]
    assert [name.split(" ↓")[0].split(" ↑")[0] for name in ours] == titles
    row = dict(zip(head, voxelmorph, strict=False))
    # The paper's DSC and rigid DSC are those of soft labels.
    assert (row["Soft DSC ↑²"], voxelmorph[3]) == ("0.80(0.10)", "0.78(0.10)")
    assert head[head.index("Rigid DSC ↑¹") + 1] == "Soft rigid DSC ↑²"
    assert (row["Vertebrae"], row["Patients"]) == ("3", "2")
    # The paper's SD log|J| is printed beside l2r.
    assert voxelmorph[head.index("SD log¦J¦ l2r ↓³") + 1] == "0.13(0.05)"


def test_markdown_rows_have_as_many_cells_as_the_head(two_patients):
    for with_paper in (False, True):
        text = markdown([make_sheet(two_patients.data(), with_paper=with_paper)], "a CPU")
        assert len({len(cells(line)) for line in lines_of(text, "|")}) == 1


def test_the_papers_figures_are_left_out_unless_asked_for(two_patients):
    sheet = make_sheet(two_patients.data())
    assert "| paper" not in markdown([sheet], "a CPU")
    assert "Jian" not in markdown([sheet], "a CPU")
    assert not [column for column in table1(two_patients.data()) if column.startswith("paper")]


def test_the_best_is_bold(two_patients):
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        two_patients.cell("oc", case, dict.fromkeys(vertebrae, (0.6, 0.95, 9.0)))
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert cells(lines_of(text, "| VoxelMorph")[0])[1:4:2] == ["**0.80(0.10)**", "0.90(0.10)"]
    assert cells(lines_of(text, "| oc")[0])[1:4:2] == ["0.60(0.00)", "**0.95(0.00)**"]


def test_missing_cells_are_listed_above_the_table_with_their_reason(two_patients):
    two_patients.cell("oc", "a", {}, status="crashed", error="Traceback ...\n  File ...\nMemoryError: 40 GiB | *all*\n")
    text = markdown([make_sheet(two_patients.data())], "a CPU")
    assert text.index("Incomplete") < text.index("| Method")
    assert "- oc@cpu: 1 patient (a) crashed: MemoryError: 40 GiB \\| \\*all\\*" in text
    assert "- oc@cpu: 1 patient (b) not run" in text
    assert cells(lines_of(text, "| oc")[0])[-2:] == ["0/3", "0/2"]


def test_a_complete_run_does_not_claim_to_be_incomplete(two_patients):
    assert "Incomplete" not in markdown([make_sheet(two_patients.data())], "a CPU")


def test_each_data_set_has_a_table_of_its_own(two_patients):
    two_patients.pair("a", 20, (0.1, 0.8, 2.0), dataset="folders")
    two_patients.cell("voxelmorph", "a", {20: (0.2, 0.8, 1.0)}, dataset="folders")
    titles = [make_sheet(data).title for data in data_sets(two_patients.run())]
    assert titles == [
        "Table 1: folders, test split, 1 vertebra of 1 patient",
        "Table 1: phantom, test split, 3 vertebrae of 2 patients",
    ]


def test_csv_holds_the_numbers_and_an_empty_field_for_none(two_patients):
    table = table1(two_patients.data(), with_paper=True)
    read = pd.read_csv(io.StringIO(csv(table)), index_col="row")
    assert read.loc["VoxelMorph", "volume_change_pct_sd"] == pytest.approx(13**0.5, rel=1e-5)
    assert read.loc["VoxelMorph", "paper_volume_change_pct_mean"] == 10.21
    assert pd.isna(read.loc["Initial", "seconds_mean"])
    assert csv(table) == csv(table1(two_patients.data(), with_paper=True))


@pytest.mark.parametrize("width", [96, 100, 110, 120])
def test_a_terminal_of_about_100_columns_prints_every_value_on_one_line(two_patients, width):
    field = {"folding_voxels": 99, "sd_log_jacobian": 0.25, "sd_log_jacobian_l2r": 0.13}
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        cell = dict.fromkeys(vertebrae, (0.78, 0.9, 12.34))
        two_patients.cell("pc+rigid-dice", case, cell, seconds=243.0, **field)
    lines = shown(make_sheet(two_patients.data(), with_paper=True), width).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("pc+rigid dice"))
    assert lines[row].split()[2:9] == [
        "0.78(0.00)", "0.90(0.00)", "12.34(0.00)", "99.00(0.00)", "0.25(0.00)", "0.13(0.00)", "243(0)",
    ]  # fmt: skip
    assert lines[row + 1].split() == [
        "paper", "0.78(0.11)", "0.90(0.05)", "5.12(6.13)", "18.30(63.20)", "0.13(0.06)", "3.4(1.1)",
    ]  # fmt: skip
    assert max(map(len, lines)) <= width
    assert any("[s]" in line for line in lines)


def test_a_wide_terminal_shows_both_scales_of_dice(two_patients):
    sheet = make_sheet(two_patients.data())
    assert "Soft" in shown(sheet, 150).split("VoxelMorph")[0] and "Soft" not in shown(sheet, 110).split("VoxelMorph")[0]


def test_footnotes_are_those_of_the_columns_numbered_without_gaps(two_patients):
    """No patient has a truth here, and a narrow terminal shows one scale of Dice."""
    sheet = make_sheet(two_patients.data())
    assert [note[0] for note in sheet.column_notes] == list("¹²³⁴⁵")
    texts = [markdown([sheet], "a CPU"), latex([sheet]), shown(sheet, 150), shown(sheet, 110)]
    assert not any("Target registration error" in text for text in texts)
    assert "released code, beside which" in texts[2] and "released code, beside which" not in texts[3]
    narrow = [line for line in texts[3].splitlines() if line[:1] in tuple("¹²³⁴⁵⁶")]
    assert [line[0] for line in narrow] == list("¹²³⁴") and "Initial⁴" in texts[3]
    assert narrow[3].startswith("⁴ The two labels of a pair before registration.")


def test_a_truth_has_its_footnote(two_patients):
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        two_patients.cell("oc", case, dict.fromkeys(vertebrae, (0.6, 0.95, 9.0)), {"tre_mm": 1.5})
    sheet = make_sheet(two_patients.data())
    assert "TRE [mm] ↓³" in sheet.printed.heads
    assert sheet.column_notes[2].startswith("³ Target registration error: ")


def test_a_terminal_counts_cases_where_several_are_of_one_patient(empty):
    for case in ("a", "b"):
        empty.pair(case, 20, (0.5, 0.9, 4.0), group="spine")
        empty.cell("voxelmorph", case, {20: (0.7, 0.9, 5.0)})
    text = shown(make_sheet(empty.data()), 150)
    assert "Cases" in text and "Pat." not in text


def test_a_narrow_terminal_still_shows_every_mean(two_patients):
    text = shown(make_sheet(two_patients.data()), 80)
    assert lines_of(text, "VoxelMorph")[0].split()[1:4] == ["0.80", "0.90", "4.00"]
    assert "…" not in text


def test_brackets_in_names_and_errors_are_text_not_markup(two_patients):
    two_patients.cell("mine[red]", "a", {}, status="failed", error="shape [3, 4] [bold]")
    text = shown(make_sheet(two_patients.data()), 120)
    assert "shape [3, 4] [bold]" in text
    assert lines_of(text, "mine[red]")


def test_marks_follow_the_values_of_the_table(ten_patients):
    sheet = make_sheet(ten_patients.data())
    line = next(line for line in markdown([sheet], "a CPU").splitlines() if line.startswith("| pc "))
    dsc, _, rigid, _, volume = line.split(" | ")[1:6]
    assert dsc.endswith("**⁺") and rigid == "**0.90(0.00)**" and volume.endswith("**⁺")


def test_reference_rows_follow_the_table_and_never_win(ten_patients):
    sheet = make_sheet(ten_patients.data(), references=True)
    lines = [line for line in markdown([sheet], "a CPU").splitlines() if line.startswith("| (")]
    assert [line.split(" | ")[0] for line in lines] == ["| (SSD-closest rigid fit)"]
    assert lines[0].split(" | ")[1] == "0.90(0.00)" and "**" not in lines[0]
    (note,) = [note for note in sheet.notes if note.startswith("In brackets: reference rows")]
    assert "SSD-closest rigid fit:" in note and "Identity" not in note and "True field" not in note


@pytest.fixture
def latex_sheet(two_patients):
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        two_patients.cell("oc", case, dict.fromkeys(vertebrae, (0.6, 0.95, 9.0)))
        two_patients.cell("[mine] 50%_{x} \\ ^~#&$ 中 é", case, dict.fromkeys(vertebrae, (0.5, 0.9, 9.0)))
    two_patients.cell("*star", "a", {}, status="failed", error="bad_thing % \\undefined {")
    return make_sheet(two_patients.data(), with_paper=True, references=True)


def test_latex_has_booktabs_rules_bold_best_and_reference_rows_apart(latex_sheet):
    lines = latex([latex_sheet]).splitlines()
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    row = next(line for line in lines if line.startswith("VoxelMorph"))
    assert row.startswith(r"VoxelMorph & \textbf{0.80(0.10)} & \textbf{0.80(0.10)} & 0.78(0.10) & 0.90(0.10)")
    columns = {line.count(" & ") for line in lines if line.endswith(r" \\")}
    assert len(columns) == 1
    assert "Incomplete run" in next(line for line in lines if line.startswith(r"\caption"))


def test_a_document_with_the_latex_table_compiles(latex_sheet, tmp_path: Path):
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip("no pdflatex and no tectonic here: LaTeX is written, not compiled")
    text = latex([latex_sheet])
    document = "\n".join([
        r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs,graphicx}",
        r"\begin{document}", text, r"\end{document}",
    ])  # fmt: skip
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "paper.tex"], cwd=tmp_path, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000
