"""`phantom`: procedural spines, in memory, no files needed. A patient is its seed."""

from __future__ import annotations

import math
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Literal

import numpy as np
import torch
from pydantic import Field

import data_splits
from benchmark.datasets.base import Dataset
from benchmark.datasets.preprocessing import scale_ct, scale_mr
from benchmark.datasets.splits import Splits, read_splits
from benchmark.datasets.synthesis.acquisition import acquire_ct, acquire_mr
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.annotation import draw_labels, draw_view
from benchmark.datasets.synthesis.contrast import ct_hu, mr_signal
from benchmark.datasets.synthesis.motion import COARSE_MM, Moved, carry_image, carry_out, draw_motion
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.rasterise import render, render_bones
from methods.base import Case, Grid, Pair, Scan, Settings

SPLIT_DIR = data_splits.FOLDER
MARGIN_MM = 7.0
DIVISIBLE_BY = 16
# The grids that decide on a motion, whatever the grid asked for, the cheap one first, and the least |J| on each.
JUDGES = ((COARSE_MM, 0.3), (1.0, 0.1))
MOST_OVERLAP = 0.004
_ATTEMPTS = 40
_ANATOMY, _TEXTURE, _MOTION, _CT, _MR, _READER = range(6)


class PhantomSettings(Settings):
    """splits: a file of data_splits/ without .json. spacing_mm: of the isotropic grid. weighting: of the MR.

    vertebrae: labelled ones per patient; None for 5 to 10, as the patient has.
    """

    splits: str = "phantom"
    spacing_mm: float = Field(1.0, ge=0.5, le=4.0)
    vertebrae: int | None = Field(None, ge=3, le=10)
    weighting: Literal["T1", "T2"] = "T1"


class Phantom(Dataset):
    """Procedural CT and MR of one spine in two positions, with the true displacement."""

    Settings = PhantomSettings
    settings: PhantomSettings
    computed = True

    def cases(self, split: str) -> list[str]:
        return _splits(self.settings.splits).of(split)

    def load(self, case: str) -> Case:
        """The case, about 2 s at 1 mm. Any `phantom-NNNN` can be loaded, listed in a split or not."""
        s = self.settings
        return make_patient(case, _seed(case, s.splits), s.spacing_mm, s.vertebrae, s.weighting)

    def fingerprint(self, case: str) -> str:
        """The seed too, which stands in the split file."""
        return f"{super().fingerprint(case)} {_seed(case, self.settings.splits)}"


def anatomy_stream(case: str, splits: str = "phantom") -> PortableRng:
    """What a patient's anatomy is drawn from (`draw_spine`)."""
    return PortableRng(_seed(case, splits), _ANATOMY)


def _seed(case: str, splits: str) -> int:
    match = re.fullmatch(r"phantom-(\d{4})", case)
    if match is None:
        raise ValueError(f"case: expected phantom-NNNN (four digits), got {case!r}")
    first = _splits(splits).seed
    if first is None:
        raise ValueError(f"splits: expected a seed in {splits}.json, found none; a patient is drawn from it")
    return first * 10_000 + int(match[1])


@cache
def _splits(name: str) -> Splits:
    return read_splits(SPLIT_DIR / f"{name}.json")


def make_patient(case: str, seed: int, spacing_mm: float, vertebrae: int | None = None, weighting: str = "T1") -> Case:
    """One patient. The same seed is the same anatomy and the same motion on any grid."""
    spine = draw_spine(PortableRng(seed, _ANATOMY), vertebrae)
    grid = grid_around(spine, spacing_mm)
    everything, tissues = render(spine, grid, PortableRng(seed, _TEXTURE))
    moved = _accepted(spine, seed, spacing_mm, everything)
    ct, mr, reader = PortableRng(seed, _CT), PortableRng(seed, _MR), PortableRng(seed, _READER)
    shown = _shown(moved.labels, spine)
    view = draw_view(shown, spine.labelled, reader)

    def mr_image() -> np.ndarray:
        signal = carry_image(mr_signal(tissues, mr, weighting), moved.displacement_mm, grid)
        return scale_mr(view.cut(acquire_mr(signal, grid, mr, view.thickness_mm)))

    # Each has random numbers of its own; torch knows how many threads this process may have.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        fixed = threads.submit(mr_image)
        moving = threads.submit(lambda: scale_ct(acquire_ct(ct_hu(tissues, ct), grid, ct)))
        drawing = threads.submit(draw_labels, shown, spine.labelled, grid, view, reader)
        core = threads.submit(moved.core, grid)
    drawn = drawing.result()
    return Case(
        Pair(case, Scan(fixed.result(), drawn, grid), Scan(moving.result(), _shown(everything, spine), grid)),
        moved.displacement_mm,
        core.result() & (shown == drawn) & (shown > 0),
    )


def grid_around(spine: Spine, spacing_mm: float) -> Grid:
    """An isotropic LPS grid about the labelled vertebrae, its sizes divisible by 16."""
    low, high = spine.extent_mm()
    need = (high - low + 2 * MARGIN_MM) / spacing_mm
    size = (np.ceil(need / DIVISIBLE_BY) * DIVISIBLE_BY).astype(int)
    nx, ny, nz = size.tolist()
    ox, oy, oz = ((low + high) / 2 - (size - 1) / 2 * spacing_mm).tolist()
    return Grid((nz, ny, nx), (spacing_mm, spacing_mm, spacing_mm), (ox, oy, oz))


def _accepted(spine: Spine, seed: int, spacing_mm: float, labels: np.ndarray) -> Moved:
    """The first motion without overlap or near-folding, carried out on `labels`, those on the grid of spacing_mm."""
    rendered = {spacing_mm: labels}
    for judge, _ in JUDGES:
        if judge != spacing_mm:
            rendered[judge], _ = render_bones(spine, grid_around(spine, judge))
    rng = PortableRng(seed, _MOTION)
    ids = [v.id for v in spine.vertebrae]
    centres = np.stack([v.centre_mm for v in spine.vertebrae])
    # Evenly spread over any run of patients, so that a split of 25 is as hard as another: steps of the golden ratio.
    quantile = (seed * (math.sqrt(5) - 1) / 2 + 0.5) % 1
    for attempt in range(_ATTEMPTS):
        motion = draw_motion(rng, ids, centres, spine.labelled, bending=0.85**attempt, quantile=quantile)
        done: dict[float, Moved] = {}
        for judge, least in JUDGES:
            grid = grid_around(spine, judge)
            done[judge] = carry_out(motion, rendered[judge], grid)
            if done[judge].overlap > MOST_OVERLAP or done[judge].lowest_jacobian(grid) <= least:
                break
        else:
            return done.get(spacing_mm) or carry_out(motion, labels, grid_around(spine, spacing_mm))
    raise ValueError(f"phantom seed {seed}: no motion without folding in {_ATTEMPTS} attempts; use another seed")


def _shown(labels: np.ndarray, spine: Spine) -> np.ndarray:
    return np.where(np.isin(labels, spine.labelled), labels, 0).astype(np.uint16)
