"""The paper's tuning series: similarities, then smoothness weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from support.training import train


def test_the_series_is_trained_and_continued_after_a_pause(
    learner: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr("benchmark.sweep.sweep.__defaults__", ((0.3, 1.0),))
    arguments = ("--sweep", "--steps", 4, "--val-limit", 1)
    paused = train(tmp_path, *arguments, "--minutes", 0)
    assert paused.exit_code == 0, paused.stderr
    assert "Time is up" in paused.output and not (tmp_path / "sweep.md").exists()
    result = train(tmp_path, *arguments)
    assert result.exit_code == 0 and "sweep.md" in result.output, result.output
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert list(zip(table["similarity"], table["smoothness"], strict=True)) == [
        ("mind", 1.0), ("nmi", 1.0), ("ngf", 1.0), ("mind", 0.3),
    ]  # fmt: skip
    assert table[["dsc", "sd_log_jacobian", "dsc_before"]].notna().all(axis=None) and (table["steps"] == 4).all()
    text = (tmp_path / "sweep.md").read_text(encoding="utf-8")
    assert text.count("| mind |") == 2 and text.count("**") == 2 * (table["dsc"] == table["dsc"].max()).sum()
    for name in ("sweep.csv", "sweep.png", "sweep.pdf"):
        assert (tmp_path / name).stat().st_size > 100
