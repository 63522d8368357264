"""Search for the rigid transform of each vertebra around its moving label, without fixed labels.

Images are compared by MIND-SSC, which does not depend on their contrast (metrics.similarity). The distance is the mean
of |M(s) - F(R s + t)|^2 over the positions s of the bone and a rim around it in the moving domain, where M and F are
the descriptors of the moving and the fixed image. The search has three steps and uses no random numbers:

1. on a coarse lattice, evaluate all translations within `reach_mm` for seven rotations by FFT, and refine the best ones
   by Levenberg-Marquardt;
2. choose for each vertebra the match that agrees with those of its neighbours, or none (`chain.py`), because a vertebra
   may resemble its neighbour more than itself;
3. refine the chosen matches on a fine lattice;
4. a vertebra without a match, or one that is moved apart from a neighbour, is refined again from the transforms of its
   neighbours: the right place of a small vertebra may not be among its matches on the coarse lattice. On validation
   phantom 0123 this finds T5, whose matches all show T4 or T6.

References:
    Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities, MICCAI
    2013 (MIND-SSC).
    Marquardt, J. SIAM 11(2), 1963 (the solver).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from pydantic import Field
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.base import Pair, Settings, vertebra_ids
from methods.bones.chain import APART_MM, are_neighbours, choose, gaps_mm
from methods.bones.lattice import Frame, Lattice, Pose, bone_and_rim, frame_of, lattice_around, smoothed, structured
from methods.bones.match import best_shifts, refine
from methods.vertebrae import place_in_spine

# Steps of the lattices, radius and dilation of MIND on them, and points to compare. On the validation phantoms finer
# lattices took longer and did not find more.
COARSE_MM, COARSE_MIND, COARSE_POINTS = 3.0, (1, 1), 1000
FINE_MM, FINE_MIND, FINE_POINTS = 1.0, (1, 2), 4000
FINE_REACH_MM = 3.0
SHIFTS, STARTS, MATCHES = 4, 8, 3  # kept: shifts per rotation, then starts of all rotations, then distinct matches
DISTINCT_MM = 1.0  # poses that differ less, on average over the bone, are one match


class SearchSettings(Settings):
    """Settings of the search.

    Attributes:
        reach_mm: largest translation along each axis, above 0.
        turn_deg: angle of the six initial rotations, two about each axis, in degrees, above 0.
        rim_mm: width of the rim around a bone in which images are compared, above 0.
    """

    reach_mm: float = Field(15.0, gt=0)
    turn_deg: float = Field(8.0, gt=0)
    rim_mm: float = Field(4.0, gt=0)


@dataclass(frozen=True)
class BoneMatches:
    """The result of the search.

    Attributes:
        to_moving: for each vertebra its transform fixed -> moving, 4 x 4, LPS millimetres.
        distances: for each vertebra with a match its MIND distance, in [0, 1].
        borrowed: for each vertebra without a match the vertebra whose transform it uses.
    """

    to_moving: Mapping[int, np.ndarray]
    distances: Mapping[int, float]
    borrowed: Mapping[int, int]

    @staticmethod
    def completed(
        found: Mapping[int, np.ndarray], ids: Sequence[int], distances: Mapping[int, float] | None = None
    ) -> BoneMatches:
        """The matches of all vertebrae `ids`, of which at least one was found; the others borrow from the nearest."""
        place = {v: place_in_spine(v) for v in {*ids, *found}}
        borrowed = {v: min(found, key=lambda k: (abs(place[k] - place[v]), place[k])) for v in ids if v not in found}
        return BoneMatches({v: found[borrowed.get(v, v)] for v in ids}, distances or {}, borrowed)


@dataclass(frozen=True)
class _Images:
    """Both images (1, D, H, W), smoothed for one lattice step, and the voxels where each has structure."""

    fixed: Tensor
    moving: Tensor
    fixed_structured: Tensor
    moving_structured: Tensor


class NothingShown(ValueError):
    """The fixed image shows no labelled vertebra."""


def find_bones(pair: Pair, settings: SearchSettings) -> BoneMatches:
    """Find the rigid transform of every vertebra in the moving labels.

    A vertebra has no match if the fixed image shows less than half of it, or if none of its matches agrees with those
    of its neighbours. It uses the transform of the nearest vertebra with a match and is listed in `borrowed`.

    Args:
        pair: both images and at least one labelled vertebra.
        settings: reach, rotations and rim of the search.

    Raises:
        NothingShown: no vertebra has a match.
    """
    assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
    ids = sorted(vertebra_ids(pair.moving.labels), key=place_in_spine)
    coarse, fine = (_images(pair, step) for step in (COARSE_MM, FINE_MM))
    frames = {v: frame_of(pair.moving.labels, v, pair.grid) for v in ids}
    regions = {v: bone_and_rim(pair.moving.labels, v, pair.grid, settings.rim_mm) for v in ids}
    candidates = {v: _matches(frames[v], regions[v], coarse, settings) for v in ids}
    matches = {v: match for v, match in candidates.items() if match is not None}
    to_fixed, distances = {}, {}
    for (v, (poses, _)), k in zip(matches.items(), _chosen(frames, matches), strict=True):
        if k is None:
            continue
        pose, distance = _refined(frames[v], regions[v], fine, poses[torch.tensor([k])], settings)
        if np.isfinite(distance):
            to_fixed[v], distances[v] = frames[v].to_lps(pose)[0], distance
    if not to_fixed:
        raise NothingShown(f"pair {pair.case}: the fixed image shows none of the {len(ids)} labelled vertebrae")

    def again(v: int, start: np.ndarray) -> tuple[np.ndarray, float]:
        pose, distance = _refined(frames[v], regions[v], fine, frames[v].to_local(start), settings)
        return frames[v].to_lps(pose)[0], distance

    _from_neighbours({v: frame.centre_mm for v, frame in frames.items()}, to_fixed, distances, again)
    return BoneMatches.completed({v: np.linalg.inv(matrix) for v, matrix in to_fixed.items()}, ids, distances)


def _from_neighbours(
    centres_mm: Mapping[int, np.ndarray], to_fixed: dict[int, np.ndarray], distances: dict[int, float],
    refine_from: Callable[[int, np.ndarray], tuple[np.ndarray, float]],
) -> None:  # fmt: skip
    """Refine doubtful vertebrae again from their neighbours; the least distance counts.

    A vertebra that had no match gets one only if it is not moved apart from a neighbour then.

    Args:
        centres_mm: LPS centres of all vertebrae, from the head down, moving domain.
        to_fixed: for each vertebra with a match its transform, moving -> fixed; changed.
        distances: those of the matches; changed.
        refine_from: refines a vertebra from a transform, moving -> fixed; returns the transform and its distance.
    """
    apart = {v for pair, gap in gaps_mm(centres_mm, to_fixed).items() if gap > APART_MM for v in pair}
    starts = dict(to_fixed)
    for v in centres_mm:
        neighbours = [w for w in starts if are_neighbours(v, w) or are_neighbours(w, v)]
        if v in starts and v not in apart:
            continue
        for w in neighbours:
            transform, distance = refine_from(v, starts[w])
            gaps = gaps_mm(centres_mm, {u: transform if u == v else starts[u] for u in centres_mm if u in {v, *starts}})
            agrees = v in starts or all(gap <= APART_MM for pair, gap in gaps.items() if v in pair)
            if distance < distances.get(v, np.inf) and agrees:
                to_fixed[v], distances[v] = transform, distance


def _chosen(frames: Mapping[int, Frame], matches: Mapping[int, tuple[Pose, Tensor]]) -> list[int | None]:
    """The index of the match of each vertebra, chosen by `chain.choose`."""
    if not matches:
        return []
    transforms = [(frames[v].to_lps(pose), distance.double().numpy()) for v, (pose, distance) in matches.items()]
    return choose(np.stack([frames[v].centre_mm for v in matches]), transforms)


def _images(pair: Pair, step_mm: float) -> _Images:
    """Both images, prepared for a lattice with this step."""
    fixed, moving = (smoothed(scan.image, pair.grid, step_mm) for scan in (pair.fixed, pair.moving))
    with_evidence = [structured(scan.image, scan.inside) for scan in (pair.fixed, pair.moving)]
    return _Images(fixed, moving, *with_evidence)


def _matches(frame: Frame, region: Tensor, images: _Images, settings: SearchSettings) -> tuple[Pose, Tensor] | None:
    """The best distinct poses on the coarse lattice and their distances, or None if the fixed image lacks the bone."""
    reach = round(settings.reach_mm / COARSE_MM)
    lattice = lattice_around(frame, COARSE_MM, settings.rim_mm + (reach + sum(COARSE_MIND)) * COARSE_MM)
    moving, mask = _described_bone(lattice, region, images, COARSE_MIND)
    starts, distances = [], []
    for rotation in _rotations(settings.turn_deg):
        pose = Pose(rotation[None], torch.zeros(1, 3))
        fixed, valid = _described_fixed(lattice, images, COARSE_MIND, pose)
        for shift, distance in best_shifts(moving, mask, fixed, valid, reach, SHIFTS):
            starts.append(Pose(rotation[None], (rotation @ (shift * COARSE_MM))[None]))
            distances.append(distance)
    if not starts:
        return None
    order = np.argsort(distances, kind="stable")[:STARTS]
    fixed, valid = _described_fixed(lattice, images, COARSE_MIND, Pose.identity())
    refined = refine(lattice, moving, mask, fixed, valid, Pose.stack([starts[i] for i in order]), COARSE_POINTS)
    kept = _distinct(*refined, lattice.points[mask])
    return (refined[0][kept], refined[1][kept]) if len(kept) else None


def _described_bone(lattice: Lattice, region: Tensor, images: _Images, mind: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The descriptors (12, d, h, w) of the moving image, and the points of the bone to compare, bool (d, h, w)."""
    mask = (lattice.values(region) > 0.5) & (lattice.valid(images.moving_structured, mind) > 0)
    return lattice.describe(images.moving, mind), mask


def _described_fixed(lattice: Lattice, images: _Images, mind: tuple[int, int], pose: Pose) -> tuple[Tensor, Tensor]:
    """The descriptors (12, d, h, w) of the fixed image under a pose, and their valid points, 0 or 1 (d, h, w)."""
    return lattice.describe(images.fixed, mind, pose), lattice.valid(images.fixed_structured, mind, pose)


def _refined(frame: Frame, region: Tensor, images: _Images, pose: Pose, settings: SearchSettings) -> tuple[Pose, float]:
    """One pose refined on the fine lattice, and its distance; infinite if less than half of the bone can be compared.

    Two rounds resample the fixed image under the current pose before describing it, because MIND-SSC changes with the
    orientation of an image.
    """
    margin = settings.rim_mm + FINE_REACH_MM + sum(FINE_MIND) * FINE_MM
    lattice = lattice_around(frame, FINE_MM, margin)
    moving, mask = _described_bone(lattice, region, images, FINE_MIND)
    distance = torch.zeros(1)
    for _ in range(2):
        fixed, valid = _described_fixed(lattice, images, FINE_MIND, pose)
        step, distance = refine(lattice, moving, mask, fixed, valid, Pose.identity(), FINE_POINTS)
        pose = pose.after(step)
    return pose, float(distance)


def _rotations(degrees: float) -> Tensor:
    """The identity and rotations by +-`degrees` about each axis: (7, 3, 3)."""
    turns = [np.zeros(3), *(sign * degrees * axis for axis in np.eye(3) for sign in (1, -1))]
    return torch.from_numpy(Rotation.from_rotvec(turns, degrees=True).as_matrix()).float()


def _distinct(pose: Pose, distance: Tensor, points: Tensor) -> Tensor:
    """The indices of the best poses that move `points` (N, 3) differently, best first."""
    moved = pose.move(points[:: max(1, len(points) // 100)])
    kept: list[int] = []
    for i in distance.argsort().tolist():
        distinct = [(moved[i] - moved[j]).norm(dim=-1).mean() > DISTINCT_MM for j in kept]
        if distance[i].isfinite() and all(distinct) and len(kept) < MATCHES:
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)
