"""Table 1 in LaTeX: what it holds, and that a document with it compiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from reports.printing import latex_text
from reports.table1.render import latex
from reports.table1.sheet import make_sheet


@pytest.fixture
def sheet(two_patients):
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        two_patients.cell("oc", case, dict.fromkeys(vertebrae, (0.6, 0.95, 9.0)))
        two_patients.cell("[mine] 50%_{x} \\ ^~#&$ 中 é", case, dict.fromkeys(vertebrae, (0.5, 0.9, 9.0)))
    two_patients.cell("*star", "a", {}, status="failed", error="bad_thing % \\undefined {")
    return make_sheet(two_patients.data(), with_paper=True, references=True)


def test_the_table_has_booktabs_rules_bold_best_and_reference_rows_apart(sheet):
    lines = latex([sheet]).splitlines()
    assert [line for line in lines if line.endswith("rule")] == [r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"]
    row = next(line for line in lines if line.startswith("VoxelMorph"))
    assert row.startswith(r"VoxelMorph & \textbf{0.80(0.10)} & 0.78(0.10) & 0.90(0.10)")
    columns = {line.count(" & ") for line in lines if line.endswith(r" \\")}
    assert len(columns) == 1
    assert "Incomplete run" in next(line for line in lines if line.startswith(r"\caption"))


def test_every_character_is_text():
    assert latex_text("50%_a\\b") == r"50\%\_a\textbackslash{}b"
    assert latex_text("[*]") == "{[}{*}{]}"
    assert latex_text("中é") == "{[}U+4E2D{]}é"


def test_a_document_with_it_compiles(sheet, tmp_path: Path):
    compiler = shutil.which("pdflatex") or shutil.which("tectonic")
    if compiler is None:
        pytest.skip("no pdflatex and no tectonic here: LaTeX is written, not compiled")
    text = latex([sheet])
    document = "\n".join([
        r"\documentclass{article}", r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs,graphicx}",
        r"\begin{document}", text, r"\end{document}",
    ])  # fmt: skip
    (tmp_path / "paper.tex").write_text(document, encoding="utf-8")
    options = ["-interaction=nonstopmode", "-halt-on-error"] if "pdflatex" in compiler else []
    done = subprocess.run([compiler, *options, "paper.tex"], cwd=tmp_path, capture_output=True, timeout=200)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 5000
