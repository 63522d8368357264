"""How a described bone is matched with a described scene: every shift by FFT, then any pose by Levenberg-Marquardt."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.bones.lattice import Lattice, Pose, sample

LEAST_SEEN = 0.5  # of a bone and its rim; with less of it in the scene a match says nothing
ITERATIONS = 15
LEAST_GAIN = 1e-5  # of the distance; two steps in a row without it end the search
_APART = 2  # steps within which a second minimum is the same one


def best_shifts(
    bone: Tensor, mask: Tensor, scene: Tensor, shown: Tensor, reach: int, count: int
) -> list[tuple[Tensor, float]]:
    """The `count` best shifts of a bone in a scene, within `reach` steps along each axis: (shift x, y, z; distance).

    bone, scene: descriptors (C, d, h, w) on one lattice, which is wider than the mask by `reach` on each side.
    mask: bool (d, h, w), what counts of the bone. shown: (d, h, w), what counts of the scene, in [0, 1].
    The distance is the mean over what counts of (bone(s) - scene(s + shift))^2, for all shifts at once by FFT:
    sum bone^2 - 2 bone scene + scene^2. Empty where less than half of the bone is shown at any shift.
    """
    size = mask.shape
    of_bone = torch.fft.rfftn(torch.cat([bone * mask, (bone.square().sum(0) * mask)[None], mask[None] * 1.0]), s=size)
    of_scene = torch.fft.rfftn(torch.cat([scene * shown, shown[None], (scene.square().sum(0) * shown)[None]]), s=size)
    of_bone = of_bone.conj()
    product = of_bone[-2] * of_scene[-2] + of_bone[-1] * of_scene[-1] - 2 * (of_bone[:-2] * of_scene[:-2]).sum(0)
    total, seen = (torch.fft.irfftn(f, s=size) for f in (product, of_bone[-1] * of_scene[-2]))
    distance = (total / (len(bone) * seen.clamp(min=1))).where(seen > LEAST_SEEN * mask.sum(), torch.inf)
    near = torch.roll(distance, (reach,) * 3, (0, 1, 2))[(slice(2 * reach + 1),) * 3].clone()
    found: list[tuple[Tensor, float]] = []
    while len(found) < count and mask.any():
        lowest = near.min()
        if not lowest.isfinite():
            break
        place = np.unravel_index(int(near.argmin()), near.shape)
        found.append((torch.tensor([float(i - reach) for i in place[::-1]]), float(lowest)))
        near[tuple(slice(max(i - _APART, 0), i + _APART + 1) for i in place)] = torch.inf
    return found


def refine(
    lattice: Lattice, bone: Tensor, mask: Tensor, scene: Tensor, shown: Tensor, pose: Pose, count: int
) -> tuple[Pose, Tensor]:
    """K poses, each to the nearest least distance of bone and scene, by Levenberg-Marquardt, and the distances (K,).

    Arguments as in `best_shifts`. count: about as many points of the mask decide. An infinite distance: less than half
    of the bone is shown there.
    """
    points, values = lattice.points[mask], bone[:, mask]
    stride = max(1, len(points) // count)
    problem = _Problem(lattice, points[::stride], values[:, ::stride], scene, shown[None])
    damping = torch.full((len(pose),), 1e-2)
    idle = 0
    distance, normal, slope = problem.linearised(pose)
    for _ in range(ITERATIONS):
        scale = torch.diagonal(normal, dim1=1, dim2=2)
        step = -torch.linalg.solve(normal + torch.diag_embed(scale * damping[:, None] + 1e-9), slope)
        tried = _moved(step, pose)
        ahead, its_normal, its_slope = problem.linearised(tried)
        better = ahead < distance
        gain = (distance - ahead).where(better & distance.isfinite(), 0)
        pose = Pose(
            tried.rotation.where(better[:, None, None], pose.rotation),
            tried.translation.where(better[:, None], pose.translation),
        )
        normal, slope = its_normal.where(better[:, None, None], normal), its_slope.where(better[:, None], slope)
        distance = torch.minimum(distance, ahead)
        damping = torch.where(better, damping / 5, damping * 5).clamp(1e-6, 1e6)
        idle = 0 if (gain > LEAST_GAIN).any() else idle + 1
        if idle == 2:
            break
    return pose, distance


def _moved(step: Tensor, pose: Pose) -> Pose:
    """Each pose, then a small rotation about the frame's centre and a shift: step (K, 6), radians and millimetres."""
    rotation = torch.from_numpy(Rotation.from_rotvec(step[:, :3].numpy()).as_matrix()).to(step.dtype)
    return Pose(rotation, step[:, 3:]).after(pose)


class _Problem:
    """The distance as a sum of squares over points (N, 3) with descriptors (C, N)."""

    def __init__(self, lattice: Lattice, points: Tensor, values: Tensor, scene: Tensor, shown: Tensor) -> None:
        self.lattice, self.points, self.values, self.scene, self.shown = lattice, points, values, scene, shown
        half = lattice.step_mm / 2
        self.stencil = torch.stack([torch.zeros(3), *(s * half * a for a in torch.eye(3) for s in (1, -1))])

    def linearised(self, pose: Pose) -> tuple[Tensor, Tensor, Tensor]:
        """The distance (K,) at each pose, and J'J (K, 6, 6) and J'r (K, 6) of a small rotation and shift after it."""
        moved = pose.move(self.points)
        index = self.lattice.index(moved + self.stencil[:, None, None])
        found = sample(self.scene, index, "border")
        shown = sample(self.shown, index[0], "zeros")[0]
        residual = found[:, 0] - self.values[:, None]
        slope = (found[:, 1::2] - found[:, 2::2]).movedim(1, -1) / self.lattice.step_mm
        rows = torch.cat([torch.linalg.cross(moved.expand_as(slope), slope), slope], dim=-1)
        weighted = rows * shown[..., None]
        count = shown.sum(dim=1)
        distance = (residual.square().mean(dim=0) * shown).sum(dim=1) / count.clamp(min=1)
        distance = distance.where(count > LEAST_SEEN * len(self.points), torch.inf)
        normal = torch.einsum("ckni,cknj->kij", weighted, rows)
        return distance, normal, torch.einsum("ckni,ckn->ki", weighted, residual)
