"""The data of the page: failures with their logs, and boxes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from reports.html.data import box, failures
from reports.run_data import data_sets


def test_the_log_of_a_failure_is_that_of_its_own_training(two_patients, tmp_path):
    two_patients.cell("pc", "a", {}, status="failed", error="first")
    two_patients.cell("pc", "b", {}, seed=1, status="failed", error="second")
    (tmp_path / "logs").mkdir()
    for name in ("pc", "pc-again"):
        (tmp_path / "logs" / f"{name}@cpu.log").write_text(f"printed by {name}", encoding="utf-8")
    rows = [{"name": "pc", "of": None, "seed": None}, {"name": "pc-again", "of": "pc", "seed": 1}]
    run = replace(two_patients.run(tmp_path), config={"methods": rows, "seed": 0})
    found = failures(data_sets(run)[0], run)
    assert [(f["row"], f["error"], f["log"]) for f in found] == [
        ("pc@cpu", "first", "printed by pc"), ("pc-again@cpu", "second", "printed by pc-again"),
    ]  # fmt: skip


def test_the_boxes_are_matplotlibs():
    values = np.array([1.0, 2, 3, 4, 5, 6, 7, 8, 30])
    from matplotlib.cbook import boxplot_stats

    (expected,) = boxplot_stats(values)
    found = box(values)
    assert found["quartiles"] == [expected["q1"], expected["med"], expected["q3"]]
    assert found["whiskers"] == [expected["whislo"], expected["whishi"]] == [1, 8]
    assert box(np.array([])) == {"quartiles": [], "whiskers": []}
