"""The paper's tuning: three similarities at one smoothness, then a series of smoothness weights for MIND, each trained
for the same number of steps and judged on the validation patients."""

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
    """Train the baseline for each similarity and each weight of `series`, in a folder of `out` each; one that is
    finished is not trained again.

    changes: settings over the method's own; their smoothness is the one at which the similarities are compared.
    Writes and returns sweep.csv and sweep.parquet, a line per training: stage (similarity, smoothness), similarity,
    smoothness, steps, dsc, sd_log_jacobian (plain), folding_voxels, dsc_before. Raises as `benchmark.training.train`.
    """
    training = changes.get("training", {})
    try:
        common = make_training(changes.get("profile", "cpu"), training, {}).smoothness
    except ValueError as error:
        raise BadInput(f"train --sweep: {error}") from error
    tried = [("similarity", name, common) for name in SIMILARITIES]
    tried += [("smoothness", "mind", weight) for weight in series if weight != common]
    records = []
    for stage, similarity, smoothness in tried:
        folder = out / f"{similarity}-{smoothness:g}"
        asked = {**training, "similarity": similarity, "smoothness": smoothness}
        train([ROW], folder, data, {**changes, "training": asked}, seed, progress)
        card = json.loads((folder / ROW.name / f"{ROW.name}.json").read_text(encoding="utf-8"))
        figures = {k: card["chosen"][k] for k in ("dsc", "sd_log_jacobian", "folding_voxels")}
        records.append({
            "stage": stage, "similarity": similarity, "smoothness": smoothness, "steps": card["steps"]["all"],
            **figures, "dsc_before": card["validation"][0]["dsc"],
        })  # fmt: skip
    table = pd.DataFrame(records)
    table.to_csv(out / "sweep.csv", index=False)
    table.to_parquet(out / "sweep.parquet", index=False)
    return table
