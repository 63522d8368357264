"""Bounding boxes of labels, computed on the device that holds the label map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Box = tuple[slice, slice, slice]


def bounding_box(mask: Tensor) -> Box | None:
    """Compute the smallest box that holds every voxel that is not 0.

    Args:
        mask: (..., D, H, W), any dtype; leading axes are pooled. NaN counts as not 0.

    Returns:
        Three slices, in voxels; None for an empty mask.
    """
    if mask.dtype in (torch.bool, torch.uint16):
        mask = mask.to(torch.uint8) if mask.dtype == torch.bool else mask.int()
    volumes = mask.reshape(-1, *mask.shape[-3:])
    slices = []
    # Largest and smallest value along the innermost axes first: many times faster than `any`. NaN is not 0 either.
    side, front = (torch.stack([volumes.amax(dim=a), volumes.amin(dim=a)]) != 0 for a in (3, 2))
    for profile in (side.any(dim=3).flatten(0, 1), side.any(dim=2).flatten(0, 1), front.any(dim=2).flatten(0, 1)):
        where = profile.any(dim=0).nonzero()
        if not len(where):
            return None
        slices.append(slice(int(where[0]), int(where[-1]) + 1))
    return slices[0], slices[1], slices[2]


def label_boxes(labels: Tensor, ids: Sequence[int]) -> list[Box | None]:
    """Compute the bounding box of each label in one pass over the map.

    Only a small table is copied from another device to the CPU.

    Args:
        labels: integer (D, H, W), any device.
        ids: N label values, positive.

    Returns:
        N boxes, in voxels; None for an absent label.

    Raises:
        ValueError: an id is below 1.
    """
    if min(ids, default=1) < 1:
        raise ValueError(f"ids: expected positive label values, got {list(ids)}")
    if labels.device.type != "cpu":
        return _boxes_by_profiles(labels, ids)
    volume = np.ascontiguousarray(labels.detach().numpy(), dtype=np.int32)
    every = ndimage.find_objects(volume, max_label=max(ids, default=0))
    return [every[i - 1] for i in ids]


def _boxes_by_profiles(labels: Tensor, ids: Sequence[int]) -> list[Box | None]:
    """`label_boxes` in torch: only a table of labels by slices leaves the device."""
    labels = labels.detach()
    labels = labels.int() if labels.dtype == torch.uint16 else labels
    top = max(ids, default=0)
    z, y, x = labels.nonzero(as_tuple=True)
    # All values outside of `ids` share the last row.
    values = labels[z, y, x].long()
    values = values.where((values > 0) & (values <= top), top + 1)
    tables = []
    for n, place in zip(labels.shape, (z, y, x), strict=True):
        table = torch.zeros((top + 2, n), dtype=torch.bool, device=labels.device)
        table[values, place] = True
        tables.append(table)
    profiles = torch.cat(tables, dim=1).cpu().split(list(labels.shape), dim=1)
    boxes: list[Box | None] = []
    for i in ids:
        ends = [profile[i].nonzero()[:, 0].tolist() for profile in profiles]
        first = [slice(places[0], places[-1] + 1) for places in ends if places]
        boxes.append((first[0], first[1], first[2]) if first else None)
    return boxes


def pair_boxes(a: Sequence[Box | None], b: Sequence[Box | None]) -> list[tuple[Box, Box] | None]:
    """Pair the boxes of each label in two maps.

    Args:
        a: (N,) boxes of N labels in one map, in voxels, from `label_boxes`.
        b: (N,) boxes of the same labels in the other map.

    Returns:
        N pairs of boxes, in voxels; None where a map lacks the label.
    """
    return [(p, q) if p is not None and q is not None else None for p, q in zip(a, b, strict=True)]


def covering_box(boxes: Sequence[Box | None]) -> Box | None:
    """Compute the smallest box that holds several boxes.

    Args:
        boxes: (N,) boxes, in voxels, from `label_boxes`.

    Returns:
        Three slices, in voxels; None where all boxes are None.
    """
    present = [box for box in boxes if box is not None]
    if not present:
        return None
    z, y, x = (slice(min(b[a].start for b in present), max(b[a].stop for b in present)) for a in range(3))
    return z, y, x
