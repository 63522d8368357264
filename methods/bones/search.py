"""A rigid transform for each vertebra, found on the two images around its moving label alone.

Images are compared by MIND-SSC, which does not see the contrast (metrics.similarity): the mean over the bone and a rim
of |M(s) - F(R s + t)|^2, M and F the descriptors of the moving and the fixed image, s in the moving domain, so that
fixed labels are not needed. Three steps, all of them without randomness:

1. on a coarse lattice every translation within `reach_mm`, for seven rotations, as one correlation by FFT; the best
   are refined by Levenberg-Marquardt;
2. a spine repeats itself: a vertebra can match its neighbour's place better than its own. Of each vertebra's matches
   the one is taken with which it also stays beside its neighbours, or none (`chain.py`);
3. the chosen ones are refined on a fine lattice.

References:
    Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities, MICCAI
    2013 (MIND-SSC). Marquardt, J. SIAM 11(2), 1963 (the solver).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.base import Pair, Settings, vertebra_ids
from methods.bones.chain import choose
from methods.bones.lattice import Frame, Lattice, Pose, frame_of, lattice_around, seen, smoothed, surroundings
from methods.bones.match import best_shifts, refine

# Steps of the lattices, and radius and dilation of MIND on them. Measured on the phantoms' validation patients: finer
# ones cost more and find nothing that these do not.
COARSE_MM, COARSE_MIND, COARSE_POINTS = 3.0, (1, 1), 1000
FINE_MM, FINE_MIND, FINE_POINTS = 1.0, (1, 2), 4000
FINE_REACH_MM = 3.0
SHIFTS, STARTS, MATCHES = 4, 8, 3  # kept: shifts a rotation; then starts of all rotations; then distinct matches
DISTINCT_MM = 1.0  # two poses that move a bone less apart are one match


class SearchSettings(Settings):
    """reach_mm: how far a vertebra is looked for, along each axis. turn_deg: the rotations tried at first, each way
    about each axis. rim_mm: how far around a bone images are compared.
    """

    reach_mm: float = Field(15.0, gt=0)
    turn_deg: float = Field(8.0, gt=0)
    rim_mm: float = Field(4.0, gt=0)


@dataclass(frozen=True)
class Found:
    """pulls: for each vertebra the transform fixed -> moving, 4 x 4, LPS millimetres.

    distances: MIND distance of its match, in [0, 1]. borrowed: vertebra that could not be found -> whose transform it
    was given.
    """

    pulls: Mapping[int, np.ndarray]
    distances: Mapping[int, float]
    borrowed: Mapping[int, int]


@dataclass(frozen=True)
class _Images:
    """Both images (1, D, H, W) for a lattice of one step, and where each shows anything."""

    fixed: Tensor
    moving: Tensor
    fixed_seen: Tensor
    moving_seen: Tensor


def find_bones(pair: Pair, settings: SearchSettings) -> Found:
    """The rigid transform of every vertebra in the moving labels.

    A vertebra of which the fixed image shows less than half, or that matches nowhere beside its neighbours, takes the
    transform of the nearest one found, and is named.
    Raises ValueError if no vertebra can be found.
    """
    assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
    ids = list(vertebra_ids(pair.moving.labels))
    coarse, fine = (_images(pair, step) for step in (COARSE_MM, FINE_MM))
    frames = {v: frame_of(pair.moving.labels, v, pair.grid) for v in ids}
    regions = {v: surroundings(pair.moving.labels, v, pair.grid, settings.rim_mm) for v in ids}
    every = {v: _matches(frames[v], regions[v], coarse, settings) for v in ids}
    matches = {v: match for v, match in every.items() if match is not None}
    pulls, distances = {}, {}
    for (v, (poses, _)), k in zip(matches.items(), _chosen(frames, matches), strict=True):
        if k is None:
            continue
        pose, distance = _finely(frames[v], regions[v], fine, poses[torch.tensor([k])], settings)
        if np.isfinite(distance):
            pulls[v], distances[v] = np.linalg.inv(frames[v].push(pose)[0]), distance
    if not pulls:
        raise ValueError(f"pair {pair.case}: the fixed image shows none of the {len(ids)} labelled vertebrae")
    borrowed = {v: min(pulls, key=lambda k: (abs(k - v), k)) for v in ids if v not in pulls}
    return Found({v: pulls[borrowed.get(v, v)] for v in ids}, distances, borrowed)


def _chosen(frames: Mapping[int, Frame], matches: Mapping[int, tuple[Pose, Tensor]]) -> list[int | None]:
    """Which match of each vertebra, by `chain.choose`."""
    if not matches:
        return []
    transforms = [(frames[v].push(pose), distance.double().numpy()) for v, (pose, distance) in matches.items()]
    return choose(np.stack([frames[v].centre_mm for v in matches]), transforms)


def _images(pair: Pair, step_mm: float) -> _Images:
    fixed, moving = (smoothed(scan.image, pair.grid, step_mm) for scan in (pair.fixed, pair.moving))
    return _Images(fixed, moving, seen(pair.fixed.image), seen(pair.moving.image))


def _matches(frame: Frame, region: Tensor, images: _Images, settings: SearchSettings) -> tuple[Pose, Tensor] | None:
    """The best distinct poses on the coarse lattice and their distances, or None where the bone is not seen."""
    reach = round(settings.reach_mm / COARSE_MM)
    lattice = lattice_around(frame, COARSE_MM, settings.rim_mm + (reach + sum(COARSE_MIND)) * COARSE_MM)
    bone, mask = _bone(lattice, region, images, COARSE_MIND)
    starts, distances = [], []
    for rotation in _rotations(settings.turn_deg):
        pose = Pose(rotation[None], torch.zeros(1, 3))
        scene, shown = _scene(lattice, images, COARSE_MIND, pose)
        for shift, distance in best_shifts(bone, mask, scene, shown, reach, SHIFTS):
            starts.append(Pose(rotation[None], (rotation @ (shift * COARSE_MM))[None]))
            distances.append(distance)
    if not starts:
        return None
    order = np.argsort(distances, kind="stable")[:STARTS]
    scene, shown = _scene(lattice, images, COARSE_MIND, Pose.identity())
    refined = refine(lattice, bone, mask, scene, shown, Pose.stack([starts[i] for i in order]), COARSE_POINTS)
    kept = _distinct(*refined, lattice.points[mask])
    return (refined[0][kept], refined[1][kept]) if len(kept) else None


def _bone(lattice: Lattice, region: Tensor, images: _Images, mind: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The moving image described on a lattice (12, d, h, w), and what of it is compared, bool (d, h, w)."""
    mask = (lattice.values(region) > 0.5) & (lattice.shown(images.moving_seen, mind) > 0)
    return lattice.describe(images.moving, mind), mask


def _scene(lattice: Lattice, images: _Images, mind: tuple[int, int], pose: Pose) -> tuple[Tensor, Tensor]:
    """The fixed image under a pose described on a lattice (12, d, h, w), and where it shows anything (d, h, w)."""
    return lattice.describe(images.fixed, mind, pose), lattice.shown(images.fixed_seen, mind, pose)


def _finely(frame: Frame, region: Tensor, images: _Images, pose: Pose, settings: SearchSettings) -> tuple[Pose, float]:
    """One pose refined on the fine lattice, and its distance, infinite where less than half of the bone is seen.

    The fixed image is turned by the pose before it is described, twice: a descriptor does not turn with its image.
    """
    margin = settings.rim_mm + FINE_REACH_MM + sum(FINE_MIND) * FINE_MM
    lattice = lattice_around(frame, FINE_MM, margin)
    bone, mask = _bone(lattice, region, images, FINE_MIND)
    distance = torch.zeros(1)
    for _ in range(2):
        scene, shown = _scene(lattice, images, FINE_MIND, pose)
        step, distance = refine(lattice, bone, mask, scene, shown, Pose.identity(), FINE_POINTS)
        pose = pose.after(step)
    return pose, float(distance)


def _rotations(degrees: float) -> Tensor:
    """The identity and `degrees` each way about each axis: (7, 3, 3)."""
    turns = [np.zeros(3), *(sign * degrees * axis for axis in np.eye(3) for sign in (1, -1))]
    return torch.from_numpy(Rotation.from_rotvec(turns, degrees=True).as_matrix()).float()


def _distinct(pose: Pose, distance: Tensor, points: Tensor) -> Tensor:
    """The places of the best poses that move `points` (N, 3) differently, best first."""
    moved = pose.move(points[:: max(1, len(points) // 100)])
    kept: list[int] = []
    for i in distance.argsort().tolist():
        apart = [(moved[i] - moved[j]).norm(dim=-1).mean() > DISTINCT_MM for j in kept]
        if distance[i].isfinite() and all(apart) and len(kept) < MATCHES:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
