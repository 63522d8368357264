"""Training patients as tensors, shrunk once and cached up to a memory limit."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Pair, Scan, vertebra_ids
from methods.geometry import spacing_zyx
from methods.voxelmorph.kept import code_of, kept_arrays, key_of
from methods.voxelmorph.network import MULTIPLE, network_image, network_mask
from metrics.boxes import label_boxes
from metrics.label_warping import LargestLabel

LAYOUT = 1  # version of a sample's file
VOLUMES = ("moving", "fixed", "labels", "moving_inside", "fixed_inside")


@dataclass(frozen=True)
class Sample:
    """One patient at the network's resolution.

    Attributes:
        case: the patient's name.
        moving: moving image (1, 1, D, H, W), in [0, 1].
        fixed: fixed image (1, 1, D, H, W), in [0, 1].
        labels: moving labels (D, H, W), int32, 0 = background.
        spacing_mm: (z, y, x) of the network's voxels.
        centres: for each vertebra its centre in voxels (z, y, x).
        network_input: moving and fixed image with another appearance, for the network only; None: as they are.
        moving_inside: bool (1, 1, D, H, W), the voxels that the moving scan saw; None: all.
        fixed_inside: the same for the fixed scan.
        network_inside: the same for the fixed image of `network_input`.
        network_moving_inside: the same for the moving image of `network_input`.
    """

    case: str
    moving: Tensor
    fixed: Tensor
    labels: Tensor
    spacing_mm: tuple[float, float, float]
    centres: Mapping[int, tuple[float, ...]]
    network_input: tuple[Tensor, Tensor] | None = None
    moving_inside: Tensor | None = None
    fixed_inside: Tensor | None = None
    network_inside: Tensor | None = None
    network_moving_inside: Tensor | None = None

    def each(self, change: Callable[[Tensor], Tensor]) -> Sample:
        """A copy with `change` applied to images, labels and masks, whose last axes are z, y, x."""
        moving, fixed, labels = (change(t) for t in (self.moving, self.fixed, self.labels))
        seen = [None if mask is None else change(mask) for mask in (self.moving_inside, self.fixed_inside)]
        return replace(self, moving=moving, fixed=fixed, labels=labels, moving_inside=seen[0], fixed_inside=seen[1])

    def to(self, device: str) -> Sample:
        """The sample with its images, labels and masks on a device."""
        return self.each(lambda t: t.to(device))

    @property
    def bytes(self) -> int:
        """Memory of images, labels and masks."""
        volumes = (self.moving, self.fixed, self.labels, self.moving_inside, self.fixed_inside)
        return sum(t.numel() * t.element_size() for t in volumes if t is not None)


def make_sample(pair: Pair, shrink_factor: int) -> Sample:
    """Pad a pair to the sizes that the network accepts, and shrink it.

    Args:
        pair: both images and the moving labels.
        shrink_factor: voxels of the pair per voxel of the sample along each axis, at least 1. Images are averaged over
            a block of voxels; a block gets the label of most of its voxels, background included.

    Raises:
        ValueError: the pair has no moving labels.
    """
    if pair.moving.labels is None:
        raise ValueError(f"pair {pair.case}: training needs the moving labels")
    labels = torch.from_numpy(pair.moving.labels.astype(np.int32))
    moving, fixed = (network_image(s.image, shrink_factor) for s in (pair.moving, pair.fixed))
    labels = F.pad(labels, [n for size in reversed(labels.shape) for n in (0, -size % (MULTIPLE * shrink_factor))])
    if shrink_factor > 1:
        labels = _shrunk_labels(labels, shrink_factor)
    z, y, x = (shrink_factor * s for s in spacing_zyx(pair.grid))
    centres = {v: tuple((labels == v).nonzero().float().mean(0).tolist()) for v in vertebra_ids(labels.numpy())}
    moving_inside, fixed_inside = (_seen(scan, shrink_factor) for scan in (pair.moving, pair.fixed))
    return Sample(
        pair.case, moving, fixed, labels, (z, y, x), centres, moving_inside=moving_inside, fixed_inside=fixed_inside
    )


def _seen(scan: Scan, shrink_factor: int) -> Tensor | None:
    """The voxels of a shrunk scan that it saw, bool (1, 1, D, H, W), or None for all. Padding was not seen."""
    extra = [(0, -n % (MULTIPLE * shrink_factor)) for n in scan.grid.shape]
    if scan.inside is None and not np.any(extra):
        return None
    inside = np.ones(scan.grid.shape, bool) if scan.inside is None else scan.inside
    return network_mask(np.pad(inside, extra), shrink_factor)


def _shrunk_labels(labels: Tensor, factor: int) -> Tensor:
    """The label of most voxels of each block of `factor`^3 voxels, background included, int32.

    The label of one voxel of each block would lie up to half a voxel off the averaged image.
    """
    largest = LargestLabel([n // factor for n in labels.shape], torch.float32)
    ids = list(vertebra_ids(labels.numpy()))
    for label, box in zip(ids, label_boxes(labels, ids), strict=True):
        if box is not None:
            blocks = [slice(s.start // factor, -(-s.stop // factor)) for s in box]
            part = labels[tuple(slice(s.start * factor, s.stop * factor) for s in blocks)] == label
            share = F.avg_pool3d(part.float()[None, None], factor)[0, 0]
            largest.add(label, (blocks[0], blocks[1], blocks[2]), share)
    return largest.labels()


class Samples:
    """The training patients by number. A sample is made at its first use and kept on the device while memory allows."""

    def __init__(self, pairs: Sequence[Pair], shrink_factor: int, device: str, memory_gb: float) -> None:
        """Make no sample yet.

        Args:
            pairs: training pairs, loaded when they are indexed.
            shrink_factor: as in `make_sample`.
            device: cpu or cuda.
            memory_gb: most memory of the samples that are kept.
        """
        self.key = (shrink_factor, device, memory_gb)
        self.pairs, self._bytes_left, self._kept = pairs, memory_gb * 2**30, dict[int, Sample]()

    def __getitem__(self, index: int) -> Sample:
        if index in self._kept:
            return self._kept[index]
        shrink_factor, device, _ = self.key
        sample = _kept_sample(self.pairs, index, shrink_factor).to(device)
        if sample.bytes <= self._bytes_left:
            self._bytes_left -= sample.bytes
            self._kept[index] = sample
        return sample


def _kept_sample(pairs: Sequence[Pair], index: int, shrink_factor: int) -> Sample:
    """`make_sample` of a pair, from the cache if the pair has a name there."""
    named = key_of(pairs, index)
    if named is None:
        return make_sample(pairs[index], shrink_factor)
    key = ["sample", LAYOUT, shrink_factor, code_of(__name__), torch.__version__, platform.machine(), named]
    return _unpacked(kept_arrays(key, lambda: _packed(make_sample(pairs[index], shrink_factor))))


def _packed(sample: Sample) -> dict[str, np.ndarray]:
    """The arrays of a sample as it was made, by name."""
    ids, centres = list(sample.centres), list(sample.centres.values())
    volumes = {name: getattr(sample, name) for name in VOLUMES}
    return {name: volume.numpy() for name, volume in volumes.items() if volume is not None} | {
        "case": np.frombuffer(sample.case.encode(), np.uint8),
        "spacing_mm": np.array(sample.spacing_mm),
        "ids": np.array(ids, np.int64),
        "centres": np.array(centres, np.float64).reshape(len(ids), 3),
    }


def _unpacked(arrays: Mapping[str, np.ndarray]) -> Sample:
    """The sample of `_packed`."""
    volumes = {name: torch.from_numpy(np.array(arrays[name])) for name in VOLUMES if name in arrays}
    z, y, x = arrays["spacing_mm"].tolist()
    centres = {v: tuple(c) for v, c in zip(arrays["ids"].tolist(), arrays["centres"].tolist(), strict=True)}
    return Sample(
        arrays["case"].tobytes().decode(), volumes["moving"], volumes["fixed"], volumes["labels"], (z, y, x), centres,
        moving_inside=volumes.get("moving_inside"), fixed_inside=volumes.get("fixed_inside"),
    )  # fmt: skip


_latest: Samples | None = None


def samples_of(pairs: Sequence[Pair], shrink_factor: int, device: str, memory_gb: float) -> Samples:
    """The samples of `pairs`. Successive calls with the same arguments share one object.

    The rows of one command train on the same patients one after the other, so the second row finds its samples made.
    """
    global _latest
    key = (shrink_factor, device, memory_gb)
    if _latest is None or _latest.pairs is not pairs or _latest.key != key:
        _latest = Samples(pairs, *key)
    return _latest
