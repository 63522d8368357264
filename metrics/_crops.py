"""Behind `metrics.rigid`: vertebrae cut out to equal boxes, moved rigidly, and fitted to a label by least squares.

Points are (K, 3, P), millimetres in axis order (z, y, x) unless named voxels; K vertebrae are the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics.fields import identity_grid, warp
from metrics.volume import Box

# Voxels around the labels' surfaces in which eq. 2 is summed: the solver may move by one less before they are redrawn.
BAND = 2
# The solver ends where a step gains less than this share of the sum.
TOLERANCE = 1e-5


def cut(
    volume: Tensor, boxes: Sequence[Box], keys: Sequence[int], dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes of one size, each around its own box and inside the grid, so that nothing needs padding.

    volume: a label map (D, H, W), of which box k takes the label keys[k]; soft labels (N, D, H, W), of which it takes
    channel keys[k]; or a field (1, 3, D, H, W). Returns (K, C, d, h, w) and the first voxel of each, (K, 3).
    """
    shape, dtype = volume.shape[-3:], dtype or volume.dtype
    size = [max(b[a].stop - b[a].start for b in boxes) for a in range(3)]
    first = [[min(b[a].start, shape[a] - size[a]) for a in range(3)] for b in boxes]
    parts = []
    for key, start in zip(keys, first, strict=True):
        z, y, x = (slice(s, s + n) for s, n in zip(start, size, strict=True))
        if volume.dim() == 3:
            parts.append((volume[None, z, y, x] == key).to(dtype))
        else:
            parts.append(volume[key : key + 1, z, y, x] if volume.dim() == 4 else volume[0, :, z, y, x])
    return torch.stack(parts).to(dtype), torch.tensor(first, dtype=dtype, device=volume.device)


def covering(
    box: Box,
    target: Box,
    rotation: Sequence[Sequence[float]],
    translation: Sequence[float],
    spacing_mm: Sequence[float],
    shape: Sequence[int],
) -> Box:
    """The fixed box that holds `target` and all that the transform maps into the moving `box`, and the band around."""
    slices = []
    for axis in range(3):
        centre = half = 0.0
        # One axis of x = R^T (y - t) over the box of y: an interval about the image of its middle.
        for j in range(3):
            middle = (box[j].start + box[j].stop - 1) / 2 * spacing_mm[j] - translation[j]
            centre += rotation[j][axis] * middle
            half += abs(rotation[j][axis]) * (box[j].stop - box[j].start + 1) / 2 * spacing_mm[j]
        low = min(target[axis].start, (centre - half) / spacing_mm[axis]) - BAND
        high = max(target[axis].stop - 1, (centre + half) / spacing_mm[axis]) + BAND
        slices.append(slice(max(math.floor(low), 0), min(math.ceil(high) + 1, shape[axis])))
    return slices[0], slices[1], slices[2]


def positions(origin: Tensor, size: Sequence[int], spacing: Tensor) -> Tensor:
    """Positions (K, 3, d*h*w) of the voxels of boxes of `size` whose first voxels are `origin` (K, 3)."""
    grid = identity_grid(size, spacing.device, spacing.dtype).flatten(2)
    return (grid + origin.unsqueeze(-1)) * spacing.unsqueeze(-1)


def centroid(points: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (K, C) of points (K, C, P) with weights (K, P)."""
    return (points @ weights.unsqueeze(-1)).squeeze(-1) / weights.sum(dim=-1, keepdim=True)


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians."""
    rows = vector.unsqueeze(-2).expand(*vector.shape, 3)
    return torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3).to(vector).expand_as(rows), rows))


def transform(
    moving: Tensor,
    moving_origin: Tensor,
    rotation: Tensor,
    translation: Tensor,
    origin: Tensor,
    size: Sequence[int],
    spacing: Tensor,
) -> Tensor:
    """Moving crops (K, 1, ...) from moving voxel `moving_origin` on, resampled on boxes of `size` from `origin` on."""
    points = rotation @ positions(origin, size, spacing) + translation.unsqueeze(-1)
    # Counted from a margin of zeros, without which an axis of one voxel would have no outside.
    voxels = points / spacing.unsqueeze(-1) - moving_origin.unsqueeze(-1) + 1
    grid = identity_grid(size, rotation.device, rotation.dtype)
    return warp(F.pad(moving, (1,) * 6), voxels.unflatten(-1, tuple(size)) - grid)


def near_surface(values: Tensor, near: Tensor, origin: Tensor, spacing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The voxels whose term of eq. 2 can change while the transform moves by less than the band.

    Far outside of both labels, `values` and `near` (K, 1, d, h, w), and deep inside of both, the term stays 0.
    Returns points (K, 3, P), their values (K, P) and which of them count (K, P): shorter rows are filled up.
    """
    outside = _dilate((torch.maximum(values, near) > 0).to(values.dtype))
    # NaN counts as surface, so that it reaches the residual.
    inside = _dilate((~(torch.minimum(values, near) >= 1 - 1e-5)).to(values.dtype))
    found = [a.nonzero() for a in ((outside * inside)[:, 0] > 0) | values.isnan()[:, 0]]
    voxels = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
    counts = torch.tensor([len(f) for f in found], device=values.device)
    valid = torch.arange(voxels.shape[1], device=values.device) < counts[:, None]
    k = torch.arange(len(found), device=values.device)[:, None]
    target = values[k, 0, voxels[..., 0], voxels[..., 1], voxels[..., 2]]
    points = (voxels.mT + origin.unsqueeze(-1)) * spacing.unsqueeze(-1)
    return points, target, valid.to(values.dtype)


def _dilate(mask: Tensor) -> Tensor:
    """Maximum over a cube of +-BAND voxels, one axis at a time."""
    for axis in range(3):
        reach = [BAND if a == axis else 0 for a in range(3)]
        mask = F.max_pool3d(mask, [2 * r + 1 for r in reach], stride=1, padding=reach)
    return mask


def blur(volumes: Tensor) -> Tensor:
    """A box of five voxels, twice, one axis at a time: about a Gaussian of two voxels; zeros around."""
    for axis in (0, 1, 2, 0, 1, 2):
        reach = [2 if a == axis else 0 for a in range(3)]
        volumes = F.avg_pool3d(volumes, [2 * r + 1 for r in reach], stride=1, padding=reach)
    return volumes


def sample(volumes: Tensor, voxels: Tensor) -> tuple[Tensor, Tensor]:
    """Trilinear value (K, P) and its exact gradient (K, 3, P) per voxel, in one pass over the eight corners.

    volumes: (K, d, h, w) with two voxels of zeros around, which stand for all that lies further. voxels: (K, 3, P).
    """
    _, depth, height, width = volumes.shape
    upper = torch.tensor([depth - 1, height - 1, width - 1], device=voxels.device, dtype=voxels.dtype)[:, None]
    # Within the outermost cell, which is all zeros: value and gradient vanish as they should.
    inside = voxels.clamp(min=0).minimum(upper - 0.5)
    corner = inside.floor()
    z, y, x = (inside - corner).unbind(1)
    cell = corner.long()
    first = (cell[:, 0] * height + cell[:, 1]) * width + cell[:, 2]
    flat = volumes.flatten(1)
    v = {c: flat.gather(1, first + (c[0] * height + c[1]) * width + c[2]) for c in product((0, 1), repeat=3)}
    rise = {c: v[(*c, 1)] - v[(*c, 0)] for c in product((0, 1), repeat=2)}
    line = {c: torch.addcmul(v[(*c, 0)], rise[c], x) for c in rise}
    climb = [line[i, 1] - line[i, 0] for i in (0, 1)]
    plane = [torch.addcmul(line[i, 0], climb[i], y) for i in (0, 1)]
    along_z = plane[1] - plane[0]
    along_y = torch.addcmul(climb[0], climb[1] - climb[0], z)
    row = [torch.addcmul(rise[i, 0], rise[i, 1] - rise[i, 0], y) for i in (0, 1)]
    along_x = torch.addcmul(row[0], row[1] - row[0], z)
    return torch.addcmul(plane[0], along_z, z), torch.stack([along_z, along_y, along_x], dim=1)


def minimise(
    moving: Tensor,
    moving_origin: Tensor,
    points: Tensor,
    target: Tensor,
    valid: Tensor,
    rotation: Tensor,
    translation: Tensor,
    spacing: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Levenberg-Marquardt on rotation about the label's centroid and translation, all vertebrae at once.

    moving: (K, d, h, w), two voxels of zeros around, from moving voxel `moving_origin` (K, 3) on. points, target and
    valid: as from `near_surface`. Returns rotation, translation, summed squared difference (K,), and whether it
    converged: the last step was shorter than a thousandth of a voxel, or gained less than `TOLERANCE` of the sum.
    """
    centre = centroid(points, target * valid)
    arms = points - centre.unsqueeze(-1)
    # A rotation measured in millimetres at the label's radius: one damping and one tolerance serve all six parameters.
    radius = centroid(arms.square().sum(1, keepdim=True), target * valid).sqrt().clamp(min=float(spacing.min()))
    image = (rotation @ centre.unsqueeze(-1)).squeeze(-1) + translation - moving_origin * spacing

    def linearised(rotation: Tensor, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        turned = rotation @ arms
        value, slope = sample(moving, (turned + image.unsqueeze(-1)) / spacing.unsqueeze(-1))
        error = (value - target) * valid
        slope = slope * (valid.unsqueeze(1) / spacing.unsqueeze(-1))
        jacobian = torch.cat([torch.linalg.cross(turned, slope, dim=1) / radius.unsqueeze(-1), slope], dim=1)
        cost = error.square().sum(dim=-1, dtype=torch.float64)
        return cost, jacobian @ jacobian.mT, (jacobian @ error.unsqueeze(-1)).squeeze(-1)

    state = linearised(rotation, image)
    damping = torch.full_like(radius, 1e-3)
    done = torch.zeros_like(state[0], dtype=torch.bool)
    for _ in range(iterations):
        cost, curvature, gradient = state
        diagonal = curvature.diagonal(dim1=-2, dim2=-1)
        floor = diagonal.amax(dim=-1, keepdim=True) * 1e-3 + torch.finfo(points.dtype).tiny
        system = curvature + torch.diag_embed(damping * diagonal.maximum(floor))
        step = -torch.linalg.solve_ex(system, gradient.unsqueeze(-1))[0].squeeze(-1)
        turn = rotation_matrix(step[:, :3] / radius)
        tried = linearised(turn @ rotation, image + step[:, 3:])
        better = (tried[0] < cost) & ~done
        small = step.abs().amax(dim=-1) < 1e-3 * spacing.min()
        done = done | small | (better & (cost - tried[0] < TOLERANCE * cost))
        rotation = (turn @ rotation).where(better[:, None, None], rotation)
        image = (image + step[:, 3:]).where(better[:, None], image)
        state = (
            tried[0].where(better, cost),
            tried[1].where(better[:, None, None], curvature),
            tried[2].where(better[:, None], gradient),
        )
        damping = torch.where(better.unsqueeze(-1), damping / 5, damping * 4).clamp(1e-6, 1e6)
        if bool(done.all()):
            break
    translation = image + moving_origin * spacing - (rotation @ centre.unsqueeze(-1)).squeeze(-1)
    return rotation, translation, state[0].to(points.dtype), done
