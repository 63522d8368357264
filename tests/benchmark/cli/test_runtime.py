"""`runtime`: grids, devices and the report of times."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import invoke


def test_without_a_gpu_the_report_says_why_and_the_status_is_0(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    out = tmp_path / "runtime"
    result = invoke("runtime", "--methods", "initial,voxelmorph", "--spacings", "4", "--limit", 1, "--repeats", 2,
                    "--out", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    text = (out / "report" / "runtime.md").read_text(encoding="utf-8")
    assert "VoxelMorph on cuda: unavailable: torch finds no CUDA device" in text
    kinds = ("md", "csv", "png", "pdf", "svg")
    assert {f.name for f in (out / "report").iterdir()} == {f"runtime.{kind}" for kind in kinds}
