"""The README's code runs unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.execution.worker import Worker, WorkerSpec
from methods.registry import DATASETS

README = Path(__file__).resolve().parents[1] / "README.md"
TINY = README.parent / "tests" / "plugins" / "tiny.py"


def test_the_method_of_the_readme_runs(tmp_path: Path) -> None:
    code = re.findall(r"```python\n(# mine\.py\n.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert len(code) == 1
    file = tmp_path / "mine.py"
    file.write_text(code[0])
    worker = Worker(WorkerSpec("mine", {}, "cpu", 1, 0, 1, (str(TINY), str(file))), 60)
    try:
        from methods.registry import load_plugin

        if "tiny" not in DATASETS:
            load_plugin(TINY)
        pair = DATASETS.create("tiny").load("one").pair.blind("token")
        registration, _ = worker.register(pair)
    finally:
        worker.close()
    assert np.ptp(registration.displacement_mm.reshape(-1, 3), axis=0).max() == 0, "one shift for all"
    assert 0 < registration.displacement_mm[0, 0, 0, 0] < 2.5, "towards the moving blocks, 2 mm to the left"


def test_the_loss_of_the_readme_has_a_gradient() -> None:
    (code,) = re.findall(
        r"```python\n(import torch\nfrom metrics.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL
    )
    names: dict[str, Any] = {}
    exec(code, names)
    assert 0 < names["loss"].item() < 1
    assert names["velocity"].grad.isfinite().all() and names["velocity"].grad.abs().max() > 0


def test_the_penalty_of_the_readme_is_a_loss_term(tmp_path: Path) -> None:
    import torch

    from methods.penalties import Warped
    from methods.registry import PENALTIES

    (code,) = re.findall(r"```python\n(# penalty\.py\n.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.search(r"--plugin penalty\.py --config mine\.yaml --methods mine", README.read_text(encoding="utf-8"))
    names: dict[str, Any] = {"PENALTIES": PENALTIES}
    exec(code.replace('@PENALTIES.register("my-penalty")\n', ""), names)
    labels = torch.zeros(8, 8, 8, dtype=torch.int32)
    labels[2:6, 2:6, 2:6] = 20
    assert names["my_penalty"](Warped(torch.ones(1, 3, 8, 8, 8), labels, [20])).item() == 3 * 64 / 512
