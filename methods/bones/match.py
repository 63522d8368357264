"""Match a bone's descriptors with those of the fixed image: all shifts by FFT, then poses by Levenberg-Marquardt."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.bones.lattice import Lattice, Pose, sample

LEAST_VALID = 0.5  # least share of a bone and its rim inside the fixed field of view; with less, a match is unreliable
ITERATIONS = 15
LEAST_GAIN = 1e-5  # decrease of the distance; two successive steps below it end the search
_APART = 2  # lattice steps; minima that are closer count as one


def best_shifts(
    moving: Tensor, mask: Tensor, fixed: Tensor, valid: Tensor, reach: int, count: int
) -> list[tuple[Tensor, float]]:
    """The shifts of a bone with the least descriptor distances, of all integer shifts.

    The distance of a shift is the mean of (moving(s) - fixed(s + shift))^2 over the valid points s of the mask. Three
    correlations by FFT give it for all shifts: sum moving^2 - 2 moving fixed + fixed^2.

    Args:
        moving: descriptors of the moving image, (C, d, h, w).
        mask: points of the bone that are compared, bool (d, h, w), at least `reach` steps from the lattice's border.
        fixed: descriptors of the fixed image on the same lattice, (C, d, h, w).
        valid: weight of each point of the fixed image, (d, h, w), in [0, 1].
        reach: largest shift along each axis, in steps of the lattice.
        count: most shifts to return.

    Returns:
        Pairs (shift (3,) in steps, order x, y, z; distance), best first. Empty if the fixed image shows less than half
        of the bone at every shift.
    """
    size = mask.shape
    of_moving = torch.fft.rfftn(
        torch.cat([moving * mask, (moving.square().sum(0) * mask)[None], mask[None] * 1.0]), s=size
    )
    of_fixed = torch.fft.rfftn(torch.cat([fixed * valid, valid[None], (fixed.square().sum(0) * valid)[None]]), s=size)
    of_moving = of_moving.conj()
    product = of_moving[-2] * of_fixed[-2] + of_moving[-1] * of_fixed[-1] - 2 * (of_moving[:-2] * of_fixed[:-2]).sum(0)
    total, compared = (torch.fft.irfftn(f, s=size) for f in (product, of_moving[-1] * of_fixed[-2]))
    distance = (total / (len(moving) * compared.clamp(min=1))).where(compared > LEAST_VALID * mask.sum(), torch.inf)
    near = torch.roll(distance, (reach,) * 3, (0, 1, 2))[(slice(2 * reach + 1),) * 3].clone()
    shifts: list[tuple[Tensor, float]] = []
    while len(shifts) < count and mask.any():
        lowest = near.min()
        if not lowest.isfinite():
            break
        index = np.unravel_index(int(near.argmin()), near.shape)
        shifts.append((torch.tensor([float(i - reach) for i in index[::-1]]), float(lowest)))
        near[tuple(slice(max(i - _APART, 0), i + _APART + 1) for i in index)] = torch.inf
    return shifts


def refine(
    lattice: Lattice, moving: Tensor, mask: Tensor, fixed: Tensor, valid: Tensor, pose: Pose, count: int
) -> tuple[Pose, Tensor]:
    """Move each of K poses to the nearest minimum of the descriptor distance, by Levenberg-Marquardt.

    Args:
        lattice: the lattice of all arrays.
        moving: descriptors of the moving image, (C, d, h, w).
        mask: points of the bone that are compared, bool (d, h, w).
        fixed: descriptors of the fixed image, (C, d, h, w).
        valid: weight of each point of the fixed image, (d, h, w), in [0, 1].
        pose: K initial poses.
        count: approximate number of points of the mask to use.

    Returns:
        K poses and their distances (K,); infinite if the fixed image shows less than half of the bone.
    """
    points, values = lattice.points[mask], moving[:, mask]
    stride = max(1, len(points) // count)
    problem = _Problem(lattice, points[::stride], values[:, ::stride], fixed, valid[None])
    damping = torch.full((len(pose),), 1e-2)
    idle = 0
    distance, normal, slope = problem.linearised(pose)
    for _ in range(ITERATIONS):
        scale = torch.diagonal(normal, dim1=1, dim2=2)
        step = -torch.linalg.solve(normal + torch.diag_embed(scale * damping[:, None] + 1e-9), slope)
        trial = _moved(step, pose)
        trial_distance, trial_normal, trial_slope = problem.linearised(trial)
        better = trial_distance < distance
        gain = (distance - trial_distance).where(better & distance.isfinite(), 0)
        pose = Pose(
            trial.rotation.where(better[:, None, None], pose.rotation),
            trial.translation.where(better[:, None], pose.translation),
        )
        normal = trial_normal.where(better[:, None, None], normal)
        slope = trial_slope.where(better[:, None], slope)
        distance = torch.minimum(distance, trial_distance)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-6, 1e6)
        idle = 0 if (gain > LEAST_GAIN).any() else idle + 1
        if idle == 2:
            break
    return pose, distance


def _moved(step: Tensor, pose: Pose) -> Pose:
    """Each pose followed by a small rotation about the frame's centre and a shift; step: (K, 6), radians and mm."""
    rotation = torch.from_numpy(Rotation.from_rotvec(step[:, :3].numpy()).as_matrix()).to(step.dtype)
    return Pose(rotation, step[:, 3:]).after(pose)


class _Problem:
    """The descriptor distance of points (N, 3) with moving descriptors (C, N), as a least-squares problem."""

    def __init__(self, lattice: Lattice, points: Tensor, values: Tensor, fixed: Tensor, valid: Tensor) -> None:
        self.lattice, self.points, self.values, self.fixed, self.valid = lattice, points, values, fixed, valid
        half = lattice.step_mm / 2
        self.stencil = torch.stack([torch.zeros(3), *(s * half * a for a in torch.eye(3) for s in (1, -1))])

    def linearised(self, pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
        """At each pose the distance (K,), and J'J (K, 6, 6) and J'r (K, 6) for a small rotation and shift after it."""
        moved = pose.move(self.points)
        index = self.lattice.index(moved + self.stencil[:, None, None])
        fixed = sample(self.fixed, index, "border")
        valid = sample(self.valid, index[0], "zeros")[0]
        residual = fixed[:, 0] - self.values[:, None]
        slope = (fixed[:, 1::2] - fixed[:, 2::2]).movedim(1, -1) / self.lattice.step_mm
        rows = torch.cat([torch.linalg.cross(moved.expand_as(slope), slope), slope], dim=-1)
        weighted = rows * valid[..., None]
        count = valid.sum(dim=1)
        distance = (residual.square().mean(dim=0) * valid).sum(dim=1) / count.clamp(min=1)
        distance = distance.where(count > LEAST_VALID * len(self.points), torch.inf)
        normal = torch.einsum("ckni,cknj->kij", weighted, rows)
        return distance, normal, torch.einsum("ckni,ckn->ki", weighted, residual)
