"""A plugin file for the tests: a dataset on which a training step takes milliseconds, and a penalty."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from benchmark.datasets.base import Dataset
from methods.base import Case, Grid, Pair, Scan
from methods.penalties import Warped
from methods.registry import DATASETS, PENALTIES

GRID = Grid((32, 32, 32))


def block_case(seed: int) -> Case:
    """One block vertebra, shifted by 2 voxels along x in the CT."""
    rng = np.random.default_rng(seed)
    fixed, moving = np.zeros(GRID.shape, np.uint16), np.zeros(GRID.shape, np.uint16)
    fixed[8:24, 8:24, 8:22] = 20
    moving[8:24, 8:24, 10:24] = 20
    mr = (0.7 - 0.4 * (fixed > 0) + 0.02 * rng.random(GRID.shape)).astype(np.float32)
    ct = (0.3 + 0.2 * (moving > 0) + 0.02 * rng.random(GRID.shape)).astype(np.float32)
    return Case(Pair(f"block-{seed}", Scan(mr, fixed, GRID), Scan(ct, moving, GRID)))


@DATASETS.register("blocks")
class Blocks(Dataset):
    """Three training patients, one validation patient, one test patient."""

    def cases(self, split: str) -> list[str]:
        return {"train": ["block-0", "block-1", "block-2"], "val": ["block-3"], "test": ["block-4"]}[split]

    def load(self, case: str) -> Case:
        return block_case(int(case.removeprefix("block-")))


@PENALTIES.register("my-penalty")
def my_penalty(warped: Warped) -> Tensor:
    """Mean squared displacement over the vertebrae."""
    return (warped.displacement.square().sum(1) * warped.warped_soft.detach().sum(0)).mean()
