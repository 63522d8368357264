"""`phantom`: procedural spines, made in memory from a seed per patient; no files are needed."""

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
from benchmark.datasets.intensities import scale_ct, scale_mr
from benchmark.datasets.resampling import MARGIN_MM
from benchmark.datasets.splits import Splits, read_splits
from benchmark.datasets.synthesis.acquisition import acquire_ct, acquire_mr
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.annotation import draw_labels, draw_view
from benchmark.datasets.synthesis.blending import COARSE_MM
from benchmark.datasets.synthesis.contrast import TissueMap, ct_hu, mr_signal
from benchmark.datasets.synthesis.motion import MovedSpine, move_spine, warp_image
from benchmark.datasets.synthesis.poses import SHIFTED_MOTION, TRAINING_MOTION, MotionRanges, draw_motion
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import SHIFTED, TRAINING, Ranges
from benchmark.datasets.synthesis.rasterise import render, render_bones
from benchmark.datasets.synthesis.rods import Box
from methods.base import Case, Grid, Pair, Scan, Settings
from methods.geometry import spacing_zyx

SPLIT_DIR = data_splits.FOLDER
DIVISIBLE_BY = 16
# Spacings of the grids on which a motion is tested, the cheap one first, and the least |J| on each. They do not depend
# on the grid of the case, so that the motion does not either.
TEST_GRIDS = ((COARSE_MM, 0.15), (1.0, 0.05))
MAX_OVERLAP = 0.004
_ATTEMPTS = 40
# Along z, y and x: the share of CTs whose field of view ends before each face of the grid, and the most that it lacks.
# The labels lie MARGIN_MM from the faces.
CT_CUTS = ((0.4, 18.0), (0.1, 15.0), (0.15, 15.0))
_ANATOMY, _TEXTURE, _MOTION, _CT, _MR, _ANNOTATOR, _CT_VIEW = range(7)


class PhantomSettings(Settings):
    """Settings of the phantom.

    splits: a file of data_splits/ without .json. spacing_mm: of the isotropic grid. weighting: of the MR.
    vertebrae: number of labelled vertebrae per patient; None for 5 to 10. distortion_mm: of the MR at the edge of its
    field of view, at most; each patient has a share of it, and each vertebra follows it rigidly.
    """

    splits: str = "phantom"
    spacing_mm: float = Field(1.0, ge=0.5, le=4.0)
    vertebrae: int | None = Field(None, ge=3, le=10)
    weighting: Literal["T1", "T2"] = "T1"
    distortion_mm: float = Field(2.0, ge=0.0, le=4.0)


class Phantom(Dataset):
    """Procedural CT and MR of one spine in two positions, with the true displacement."""

    Settings = PhantomSettings
    settings: PhantomSettings
    computed = True

    def cases(self, split: str) -> list[str]:
        """List the patients of a split. Raises ValueError for another split, or for an unknown split file."""
        return _splits(self.settings.splits).of(split)

    def load(self, case: str) -> Case:
        """Make the case; about 2 s at 1 mm.

        Args:
            case: any `phantom-NNNN`, also one that no split lists.

        Raises:
            ValueError: for another name.
        """
        s = self.settings
        ranges = ranges_of(case, s.splits)
        return make_patient(
            case, _seed(case, s.splits), s.spacing_mm, s.vertebrae, s.weighting, ranges,
            SHIFTED_MOTION if ranges is SHIFTED else TRAINING_MOTION, s.distortion_mm,
        )  # fmt: skip

    def moving_scan(self, case: str) -> Scan:
        """Make the CT of a case alone, with its labels, in about a quarter of the time of `load`."""
        s = self.settings
        return make_ct(_seed(case, s.splits), s.spacing_mm, s.vertebrae, ranges_of(case, s.splits))

    def voxels(self, case: str) -> int | None:
        """The voxels of the case's grid, from its anatomy alone."""
        s = self.settings
        spine = draw_spine(anatomy_stream(case, s.splits), s.vertebrae, ranges_of(case, s.splits))
        return math.prod(grid_around(spine, self.settings.spacing_mm).shape)

    def fingerprint(self, case: str) -> str:
        """Settings, name and the seed, which is in the split file."""
        return f"{super().fingerprint(case)} {_seed(case, self.settings.splits)}"


def anatomy_stream(case: str, splits: str = "phantom") -> PortableRng:
    """The random numbers of a patient's anatomy, for `draw_spine`."""
    return PortableRng(_seed(case, splits), _ANATOMY)


def ranges_of(case: str, splits: str = "phantom") -> Ranges:
    """The ranges of a patient's anatomy and appearance: shifted for the patients of the split test."""
    return SHIFTED if case in _splits(splits).of("test") else TRAINING


def _seed(case: str, splits: str) -> int:
    """The seed of a patient: that of the split file, and the number in the name."""
    match = re.fullmatch(r"phantom-(\d{4})", case)
    if match is None:
        raise ValueError(f"case: expected phantom-NNNN (four digits), got {case!r}")
    first = _splits(splits).seed
    if first is None:
        raise ValueError(f"splits: expected a seed in {splits}.json, found none; add one, patients are drawn from it")
    return first * 10_000 + int(match[1])


@cache
def _splits(name: str) -> Splits:
    return read_splits(SPLIT_DIR / f"{name}.json")


def make_patient(
    case: str, seed: int, spacing_mm: float, vertebrae: int | None = None, weighting: str = "T1",
    ranges: Ranges = TRAINING, motion: MotionRanges = TRAINING_MOTION, distortion_mm: float = 0.0,
) -> Case:  # fmt: skip
    """Make one patient. The same seed gives the same anatomy and the same motion on any grid.

    Args:
        case: name of the case.
        seed: of the patient.
        spacing_mm: of the isotropic grid.
        vertebrae: number of labelled vertebrae; None for 5 to 10.
        weighting: of the MR, T1 or T2.
        ranges: of anatomy and appearance.
        motion: ranges of the motion.
        distortion_mm: greatest distortion of the MR at the edge of its field of view.

    Returns:
        The case, with the true displacement.

    Raises:
        ValueError: if no motion without folding is found.
    """
    spine = draw_spine(PortableRng(seed, _ANATOMY), vertebrae, ranges)
    grid = grid_around(spine, spacing_mm)
    everything, tissues = render(spine, grid, PortableRng(seed, _TEXTURE), ranges)
    moved = _move_without_folding(spine, seed, spacing_mm, everything, motion, distortion_mm)
    mr, annotator = PortableRng(seed, _MR), PortableRng(seed, _ANNOTATOR)
    exact = _only_labelled(moved.labels, spine)
    view = draw_view(exact, spine.labelled, annotator)

    def mr_image() -> np.ndarray:
        signal = warp_image(mr_signal(tissues, mr, weighting, ranges), moved.displacement_mm, grid)
        return scale_mr(view.extend(acquire_mr(signal, grid, mr, view.thickness_mm, ranges)))

    # Each task has its own random numbers; torch holds the number of threads that this process may use.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        fixed = threads.submit(mr_image)
        moving = threads.submit(_ct_scan, tissues, _only_labelled(everything, spine), seed, ranges)
        drawing = threads.submit(draw_labels, exact, spine.labelled, grid, view, annotator)
        core = threads.submit(moved.core, grid)
    drawn = drawing.result()
    mr_scan = Scan(fixed.result(), drawn, grid, view.inside(grid.shape), "mr")
    return Case(
        Pair(case, mr_scan, moving.result()),
        moved.displacement_mm,
        core.result() & (exact == drawn) & (exact > 0),
    )


def make_ct(seed: int, spacing_mm: float, vertebrae: int | None = None, ranges: Ranges = TRAINING) -> Scan:
    """Make the CT of one patient alone, with its labels: the moving scan of `make_patient`. Arguments: the same."""
    spine = draw_spine(PortableRng(seed, _ANATOMY), vertebrae, ranges)
    grid = grid_around(spine, spacing_mm)
    everything, tissues = render(spine, grid, PortableRng(seed, _TEXTURE), ranges)
    return _ct_scan(tissues, _only_labelled(everything, spine), seed, ranges)


def ct_view(grid: Grid, rng: PortableRng) -> Box:
    """Draw the field of view of a CT: slices (z, y, x) of `grid`. It contains all labels, but not all neighbours."""
    box = []
    for n, spacing, (share, most_mm) in zip(grid.shape, spacing_zyx(grid), CT_CUTS, strict=True):
        cut, lost_mm = rng.uniform(size=2) < share, rng.uniform(0, most_mm, 2)
        start, stop = (int(c * mm / spacing) for c, mm in zip(cut, lost_mm, strict=True))
        box.append(slice(start, n - stop))
    return box[0], box[1], box[2]


def grid_around(spine: Spine, spacing_mm: float) -> Grid:
    """The isotropic LPS grid around the labelled vertebrae, with sizes divisible by 16. spacing_mm: of its voxels."""
    low, high = spine.extent_mm()
    needed = (high - low + 2 * MARGIN_MM) / spacing_mm
    size = (np.ceil(needed / DIVISIBLE_BY) * DIVISIBLE_BY).astype(int)
    nx, ny, nz = size.tolist()
    ox, oy, oz = ((low + high) / 2 - (size - 1) / 2 * spacing_mm).tolist()
    return Grid((nz, ny, nx), (spacing_mm, spacing_mm, spacing_mm), (ox, oy, oz))


def _ct_scan(tissues: TissueMap, labels: np.ndarray, seed: int, ranges: Ranges) -> Scan:
    rng = PortableRng(seed, _CT)
    image = acquire_ct(ct_hu(tissues, rng, ranges), tissues.grid, rng, ranges)
    box = ct_view(tissues.grid, PortableRng(seed, _CT_VIEW))
    inside = np.zeros(image.shape, bool)
    inside[box] = True
    # Outside its field of view a scan has its nearest seen value.
    padding = [(s.start, n - s.stop) for s, n in zip(box, image.shape, strict=True)]
    image = np.pad(image[box], padding, mode="edge")
    return Scan(scale_ct(image), labels, tissues.grid, None if inside.all() else inside)


def _move_without_folding(
    spine: Spine, seed: int, spacing_mm: float, labels: np.ndarray, ranges: MotionRanges, distortion_mm: float
) -> MovedSpine:
    """The spine after the first motion without overlap or near-folding. labels: of the grid of spacing_mm."""
    rendered = {spacing_mm: labels}
    for test_mm, _ in TEST_GRIDS:
        if test_mm != spacing_mm:
            rendered[test_mm], _ = render_bones(spine, grid_around(spine, test_mm))
    rng = PortableRng(seed, _MOTION)
    ids = [v.id for v in spine.vertebrae]
    centres = np.stack([v.centre_mm for v in spine.vertebrae])
    # Steps of the golden ratio spread the quantiles evenly over consecutive seeds, so that splits are equally hard.
    quantile = (seed * (math.sqrt(5) - 1) / 2 + 0.5) % 1
    for attempt in range(_ATTEMPTS):
        motion = draw_motion(
            rng, ids, centres, spine.labelled, 0.85**attempt, quantile, ranges=ranges, distortion_mm=distortion_mm
        )
        moved: dict[float, MovedSpine] = {}
        for test_mm, min_jacobian in TEST_GRIDS:
            grid = grid_around(spine, test_mm)
            moved[test_mm] = move_spine(motion, rendered[test_mm], grid)
            if moved[test_mm].overlap > MAX_OVERLAP or moved[test_mm].lowest_jacobian(grid) <= min_jacobian:
                break
        else:
            return moved.get(spacing_mm) or move_spine(motion, labels, grid_around(spine, spacing_mm))
    raise ValueError(
        f"phantom seed {seed}: expected a motion without folding, found none in {_ATTEMPTS} attempts; use another seed"
    )


def _only_labelled(labels: np.ndarray, spine: Spine) -> np.ndarray:
    """The labels without the unlabelled neighbours, uint16."""
    return np.where(np.isin(labels, spine.labelled), labels, 0).astype(np.uint16)
