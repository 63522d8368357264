"""The paper's tuning series: three similarities at one smoothness weight, then several smoothness weights with MIND.

Every training has the same number of steps and is evaluated on the validation patients. Without another profile the
series has the profile `from-scratch`: it compares losses, which stages before them would hide and repeat.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.config import MethodConfig
from benchmark.errors import BadInput
from benchmark.training import Data, train
from methods.base import Progress
from methods.voxelmorph.settings import SIMILARITIES, make_training

SMOOTHNESS = (0.1, 0.3, 1.0, 3.0, 10.0)
ROW = MethodConfig(method="voxelmorph", name="voxelmorph")


def sweep(
    out: Path, data: Data, changes: dict[str, Any], seed: int, progress: Progress,
    series: Sequence[float] = SMOOTHNESS,
) -> pd.DataFrame:  # fmt: skip
    """Train the baseline once per similarity and once per smoothness weight. Finished trainings are not repeated.

    Args:
        out: gets a folder per training, sweep.csv and sweep.parquet.
        changes: settings that replace the method's; similarities are compared at their smoothness.
        series: smoothness weights.

    Returns:
        The table in sweep.csv, a line per training: stage (`similarity` or `smoothness`), similarity, smoothness,
        steps, dsc, sd_log_jacobian, folding_voxels, dsc_before.

    Raises:
        BadInput, methods.base.Paused: as `benchmark.training.train`.
    """
    changes = {"profile": "from-scratch", **changes}
    training = changes.get("training", {})
    try:
        common = make_training(changes["profile"], training, {}).smoothness
    except ValueError as error:
        raise BadInput(f"train --sweep: {error}") from error
    trainings = [("similarity", name, common) for name in SIMILARITIES]
    trainings += [("smoothness", "mind", weight) for weight in series if weight != common]
    records = []
    for stage, similarity, smoothness in trainings:
        folder = out / f"{similarity}-{smoothness:g}"
        settings = {**training, "similarity": similarity, "smoothness": smoothness}
        train([ROW], folder, data, {**changes, "training": settings}, seed, progress)
        card = json.loads((folder / ROW.name / f"{ROW.name}.json").read_text(encoding="utf-8"))
        chosen = {k: card["chosen"][k] for k in ("dsc", "sd_log_jacobian", "folding_voxels")}
        records.append({
            "stage": stage, "similarity": similarity, "smoothness": smoothness, "steps": card["steps"]["all"],
            **chosen, "dsc_before": card["validation"][0]["dsc"],
        })  # fmt: skip
    table = pd.DataFrame(records)
    table.to_csv(out / "sweep.csv", index=False)
    table.to_parquet(out / "sweep.parquet", index=False)
    return table
