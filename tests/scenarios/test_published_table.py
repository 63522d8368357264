"""The README's table against the tables of its run, which lie in docs/runs: Table 1 is computed again from them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from benchmark.results.store import read_run
from reports.publish import BEGIN, END
from reports.run_data import data_sets
from reports.table1.sheet import NOTE_MARKS, make_sheet

ROOT = Path(__file__).resolve().parents[2]
RUNS = ROOT / "docs" / "runs"
MOST_BYTES = 2_000_000
MARKS = re.compile(f"[{NOTE_MARKS}⁺⁻*\\\\]")


def published(text: str) -> tuple[str, list[dict[str, str]]]:
    """The run that the README names, and the lines of its table as texts by head; no line where it has no table."""
    block = text.partition(BEGIN)[2].partition(END)[0]
    named = re.search(r"Run `([^`]+)`", block)
    lines = [re.split(r"(?<!\\)\|", line.strip().strip("|")) for line in block.splitlines() if line.startswith("|")]
    cells = [[plain(cell) for cell in line] for line in lines]
    rows = [dict(zip(cells[0], line, strict=True)) for line in cells[2:]] if cells else []
    return (named[1] if named else ""), rows


def plain(text: str) -> str:
    """A text without bold, escapes, brackets of reference rows and marks of notes and significance."""
    return re.sub(r"^\((.*)\)$", r"\1", MARKS.sub("", text).strip())


def computed(folder: Path) -> dict[str, dict[str, str]]:
    """Table 1 of a kept run: the texts of each row by head."""
    tables = [make_sheet(data, references=True).printed for data in data_sets(read_run(folder))]
    return {
        plain(line[0].text): {plain(head): plain(cell.text) for head, cell in zip(table.heads, line, strict=True)}
        for table in tables
        for line in table.lines
    }


def test_the_readme_s_table_is_that_of_the_kept_run() -> None:
    run, rows = published((ROOT / "README.md").read_text(encoding="utf-8"))
    if not rows:
        return
    assert (RUNS / run / "vertebrae.parquet").is_file(), f"README.md shows run {run!r}, which docs/runs does not keep"
    again = computed(RUNS / run)
    for row in rows:
        expected = again[row["Method"]]
        assert row == {head: expected[head] for head in row}, row["Method"]


@pytest.mark.parametrize("run", sorted(folder.name for folder in RUNS.glob("*")) or ["none"])
def test_a_kept_run_is_small(run: str) -> None:
    assert sum(file.stat().st_size for file in (RUNS / run).glob("*")) < MOST_BYTES
