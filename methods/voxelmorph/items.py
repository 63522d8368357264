"""What a training has of a patient: coarsened once, kept while memory lasts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Pair, Scan, vertebra_ids
from methods.geometry import spacing_zyx
from methods.voxelmorph.inference import images_of, inside_of
from methods.voxelmorph.network import MULTIPLE
from methods.voxelmorph.settings import Training


@dataclass(frozen=True)
class Sample:
    """One patient as the network sees it: (1, 1, D, H, W) images, (D, H, W) int32 moving labels.

    spacing_mm: (z, y, x) of the network's voxels. centres: of each vertebra, voxels (z, y, x).
    shown: moving and fixed image as the network is shown them, where that is not as they are.
    moving_inside, fixed_inside: bool (1, 1, D, H, W), the voxels that each scan saw; None: all.
    shown_inside: the same of the fixed image in `shown`.
    """

    case: str
    moving: Tensor
    fixed: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    centres: Mapping[int, tuple[float, ...]]
    shown: tuple[Tensor, Tensor] | None = None
    moving_inside: Tensor | None = None
    fixed_inside: Tensor | None = None
    shown_inside: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """A copy with `change` applied to images, labels and masks, whose last axes are z, y, x."""
        moving_inside, fixed_inside = (
            None if m is None else change(m) for m in (self.moving_inside, self.fixed_inside)
        )
        moving, fixed, labels = (change(t) for t in (self.moving, self.fixed, self.labels))
        return replace(
            self, moving=moving, fixed=fixed, labels=labels, moving_inside=moving_inside, fixed_inside=fixed_inside
        )

    def to(self, device: str) -> Sample:
        return self.each(lambda t: t.to(device))

    @property
    def bytes(self) -> int:
        volumes = (self.moving, self.fixed, self.labels, self.moving_inside, self.fixed_inside)
        return sum(t.numel() * t.element_size() for t in volumes if t is not None)


def coarsen(pair: Pair, factor: int) -> Sample:
    """A pair as tensors, images averaged over `factor`^3 voxels, labels taken at each block's first inner voxel."""
    if pair.moving.labels is None:
        raise ValueError(f"pair {pair.case}: training needs the moving labels")
    labels = torch.from_numpy(pair.moving.labels.astype(np.int32))
    moving, fixed = (images_of(s.image, factor) for s in (pair.moving, pair.fixed))
    labels = F.pad(labels, [n for size in reversed(labels.shape) for n in (0, -size % (MULTIPLE * factor))])
    if factor > 1:
        labels = labels[factor // 2 :: factor, factor // 2 :: factor, factor // 2 :: factor].contiguous()
    moving_inside, fixed_inside = (_seen(scan, MULTIPLE * factor, factor) for scan in (pair.moving, pair.fixed))
    z, y, x = (factor * s for s in spacing_zyx(pair.grid))
    centres = {v: tuple((labels == v).nonzero().float().mean(0).tolist()) for v in vertebra_ids(labels.numpy())}
    return Sample(
        pair.case, moving, fixed, labels, (z, y, x), centres, moving_inside=moving_inside, fixed_inside=fixed_inside
    )


def _seen(scan: Scan, multiple: int, factor: int) -> Tensor | None:
    """The voxels of a coarsened scan that it saw. Padding up to `multiple` was not seen, and has no weight."""
    extra = [(0, -n % multiple) for n in scan.grid.shape]
    if scan.inside is None and not np.any(extra):
        return None
    inside = np.ones(scan.grid.shape, bool) if scan.inside is None else scan.inside
    return inside_of(np.pad(inside, extra), factor)


class Items:
    """The patients by number, each coarsened when it is first asked for and kept on the device while there is room."""

    def __init__(self, pairs: Sequence[Pair], coarsening: int, device: str, memory_gb: float) -> None:
        self.key = (coarsening, device, memory_gb)
        self.pairs, self._room, self._kept = pairs, memory_gb * 2**30, dict[int, Sample]()

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        coarsening, device, _ = self.key
        item = coarsen(self.pairs[index], coarsening).to(device)
        if item.bytes <= self._room:
            self._room -= item.bytes
            self._kept[index] = item
        return item


_latest: Items | None = None


def items_of(pairs: Sequence[Pair], settings: Training) -> Items:
    """The items of `pairs`; those of the last call where it asked for the same, as the methods of one command do."""
    global _latest
    key = (settings.coarsening, settings.device, settings.memory_gb)
    if _latest is None or _latest.pairs is not pairs or _latest.key != key:
        _latest = Items(pairs, *key)
    return _latest
