"""Resampling of label maps: linear interpolation of the one-hot maps, then the largest, background included.

It is the rule of `metrics.label_warping`. Nearest neighbour would move a label by up to 0.5 mm along each axis against
its image, which is interpolated linearly; the largest one-hot map alone by up to 0.25 mm, because 1 mm voxels cannot
move by less. After a rigid transform the labels therefore keep their volumes and centroids (`label_moments`).
Each label is computed in its own box, so that the cost depends on the labelled volume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import torch
from torch import Tensor

from benchmark.datasets.label_moments import keep_moments
from benchmark.datasets.resampling import IDENTITY, Rigid
from methods.base import Grid, vertebra_ids
from methods.geometry import from_sitk, to_sitk
from metrics.boxes import Box, bounding_box, covering_box, label_boxes
from metrics.label_warping import LargestLabel, interpolate_mask

SLAB_VOXELS = 2_000_000  # of the result that are computed at a time: 24 bytes each for positions in float64


def resample_labels(labels: np.ndarray, grid: Grid, onto: Grid, to_source: Rigid = IDENTITY) -> np.ndarray:
    """Resample labels after a rigid transform: the voxel at p gets the largest label at to_source(p).

    Each label keeps the volume and the centroid of its linear interpolation, within the rounding of touching labels.

    Args:
        labels: integers (z, y, x), 0 is background.
        grid: of the labels.
        onto: grid of the result.
        to_source: from points of the result to points of the labels.

    Returns:
        uint16 (z, y, x); 0 outside the label map. Labels on the same grid do not change.
    """
    result = np.zeros(onto.shape, np.uint16)
    if not labels.any():
        return result
    source, source_grid = _cropped(labels, grid)
    to_index = _index_transform(onto, source_grid, to_source)
    ids = list(vertebra_ids(source.numpy()))
    boxes = label_boxes(source, ids)
    targets = [_target(box, to_index, onto.shape) for box in boxes]
    frame = covering_box(targets)
    if frame is None:
        return result
    largest = LargestLabel([s.stop - s.start for s in frame], torch.float32)
    for label, box, target in zip(ids, boxes, targets, strict=True):
        if box is not None and target is not None:
            points = _affine_points(to_index, target)
            soft = keep_moments(interpolate_mask(source[box] == label, box, points).numpy())
            largest.add(label, _moved(target, frame, -1), torch.from_numpy(soft))
    result[frame] = largest.labels().numpy()
    return result


def warp_label_map(labels: np.ndarray, grid: Grid, onto: Grid, to_source: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Resample labels after any transform, by the rule of `metrics.label_warping` alone.

    Volumes and centroids are not kept: a displacement may change them, and the tables' labels follow the same rule.

    Args:
        labels: integers (z, y, x), 0 is background.
        grid: of the labels.
        onto: grid of the result.
        to_source: gives for some slices z of `onto` the points of the labels, LPS mm (z, y, x, 3).

    Returns:
        uint16 (z, y, x); 0 outside the label map.
    """
    result = np.zeros(onto.shape, np.uint16)
    if not labels.any():
        return result
    source, source_grid = _cropped(labels, grid)
    ids = list(vertebra_ids(source.numpy()))
    boxes = label_boxes(source, ids)
    depth, height, width = source.shape
    everywhere = (slice(0, depth), slice(0, height), slice(0, width))
    for slab in slabs(onto):
        index = source_grid.to_indices_xyz(to_source(slab))[..., ::-1].astype(np.float32)
        points = torch.from_numpy(np.ascontiguousarray(np.moveaxis(index, -1, 0)))
        largest = LargestLabel(points.shape[1:], torch.float32)
        near = _landing(points, everywhere)
        for label, box in zip(ids, boxes, strict=True):
            part = box and near and _landing(points[:, *near], box)
            if box and near and part:
                where = _moved(part, near, 1)
                largest.add(label, where, interpolate_mask(source[box] == label, box, points[:, *where]))
        result[slab] = largest.labels().numpy()
    return result


def slabs(grid: Grid) -> Iterator[slice]:
    """Slices along z that divide a grid into parts of at most `SLAB_VOXELS` voxels, or of one slice."""
    depth, height, width = grid.shape
    step = max(1, SLAB_VOXELS // (height * width))
    return (slice(z, min(z + step, depth)) for z in range(0, depth, step))


def slab_points_mm(grid: Grid, slab: slice) -> np.ndarray:
    """The LPS positions of the voxels of some slices along z, float64 (z, y, x, 3)."""
    z, y, x = np.meshgrid(np.arange(slab.start, slab.stop), *(np.arange(n) for n in grid.shape[1:]), indexing="ij")
    return grid.to_points_mm(np.stack([x, y, z], axis=-1))


def _cropped(labels: np.ndarray, grid: Grid) -> tuple[Tensor, Grid]:
    """The box of all labels, int32, with axes in the order and direction LPS, and its grid.

    The axes are reoriented so that rounding does not depend on their order in the file.
    """
    box = bounding_box(torch.from_numpy(labels.astype(np.int32)))
    assert box is not None
    part = labels[box]
    origin = tuple(float(v) for v in grid.to_points_mm(np.array([s.start for s in box[::-1]])))
    cropped = Grid(part.shape, grid.spacing_mm, (origin[0], origin[1], origin[2]), grid.direction)
    import SimpleITK as sitk

    oriented, oriented_grid = from_sitk(sitk.DICOMOrient(to_sitk(part.astype(np.int32), cropped), "LPS"))
    return torch.from_numpy(oriented), oriented_grid


def _index_transform(onto: Grid, source: Grid, to_source: Rigid) -> np.ndarray:
    """The matrix (3, 4) from voxel indices (z, y, x, 1) of `onto` to those of `source`."""
    corners = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    index = source.to_indices_xyz(to_source(onto.to_points_mm(corners)))
    return np.column_stack([(index[1:] - index[0])[::-1].T[::-1], index[0][::-1]])


def _target(box: Box | None, to_index: np.ndarray, shape: tuple[int, int, int]) -> Box | None:
    """The box of the result outside of which a label is 0; None if it is empty. box: of the label in the source."""
    if box is None:
        return None
    corners = np.array(list(product(*[(s.start - 1, s.stop) for s in box])), dtype=float)
    index = np.linalg.solve(to_index[:, :3], (corners - to_index[:, 3]).T).T
    start = np.clip(np.ceil(index.min(axis=0) - 1e-6), 0, shape).astype(int)
    stop = np.clip(np.floor(index.max(axis=0) + 1e-6) + 1, 0, shape).astype(int)
    if (start >= stop).any():
        return None
    z, y, x = (slice(int(a), int(b)) for a, b in zip(start, stop, strict=True))
    return z, y, x


def _affine_points(to_index: np.ndarray, where: Box) -> Tensor:
    """The source index of every voxel of a box of the result, float32 (3, d, h, w), components z, y, x."""
    z, y, x = (np.arange(s.start, s.stop, dtype=float) for s in where)
    rows = [a * z[:, None, None] + b * y[:, None] + c * x + d for a, b, c, d in to_index]
    return torch.from_numpy(np.stack(rows, dtype=np.float32, casting="same_kind"))


def _landing(points: Tensor, box: Box) -> Box | None:
    """The box of the voxels whose source index, points (3, d, h, w), lies within a voxel of `box`; None if none."""
    inside = torch.ones(points.shape[1:], dtype=torch.bool)
    for axis, part in enumerate(box):
        inside &= (points[axis] > part.start - 1) & (points[axis] < part.stop)
    return bounding_box(inside)


def _moved(box: Box, by: Box, sign: int) -> Box:
    """The box moved by the first voxel of another box, forwards (1) or backwards (-1)."""
    z, y, x = (slice(s.start + sign * b.start, s.stop + sign * b.start) for s, b in zip(box, by, strict=True))
    return z, y, x
