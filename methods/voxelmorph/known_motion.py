"""Training items whose displacement is known: a synthetic pair, a moved training pair, and a pair with a teacher.

A training pair has an unknown motion of its own. Its CT in another pose, moved by a motion m that is known, makes a
pair whose displacement is the inverse of m, but for the unknown motion. In a synthetic pair the fixed image is made
from the same CT, and there is no unknown motion. With a teacher, the unknown motion is replaced by the displacement
that another method has found. Other anatomies, motions and contrasts are drawn for each item, and the displacement is
composed with them.

Displacements are drawn and composed at the half resolution, at which the network predicts them. Images are warped in
the patch alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.voxelmorph.augmentation import (
    crop_window,
    flipped,
    warped_view,
    with_appearance,
)
from methods.voxelmorph.network import upsampled
from methods.voxelmorph.pretext import bone_share, spine_position
from methods.voxelmorph.random_fields import Motion, anatomy_field, motion_field
from methods.voxelmorph.samples import Sample
from methods.voxelmorph.settings import Training, patient_of
from methods.voxelmorph.stages import ITEMS, Stage
from methods.voxelmorph.synthetic_mr import synthetic_mr, with_other_marrow
from metrics.boxes import Box
from metrics.fields import compose, integrate, warp
from metrics.label_warping import warp_labels

# Weights of the displacement's loss: in bone and one voxel of the half resolution around it, within two further voxels,
# and elsewhere.
IN_BONE, NEAR_BONE, ELSEWHERE = 1.0, 0.15, 0.02
INVERSION_STEPS = 8
SQUARINGS = 4  # the motions are smooth: more squarings change them by less than a hundredth of a voxel
LABEL_MARGIN = 16  # voxels by which labels are warped beyond the patch along z, so that it cuts fewer centroids
POSITIONS = 6  # channels of `spine_position`


@dataclass(frozen=True)
class Changes:
    """How an item of one kind differs from its training pair.

    Attributes:
        anatomy: probability of another anatomy.
        moves: probability of another motion.
        marrow: probability of marrow of another density.
        motion: the size of motions.
    """

    anatomy: float
    moves: float
    marrow: float
    motion: Motion


# Motions are larger than those between patients' scans, so that following them pays.
_WIDE = Motion(shift_mm=(1.0, 4.0, 4.0), turn_deg=4.0, bend_mm=2.0, slide_mm=10.0, ripple_mm=2.0)
_SMALLER = Motion(shift_mm=(4.0, 3.0, 3.0), turn_deg=3.0, bend_mm=4.0, ripple_mm=1.2)
CHANGES = {
    "synthetic": Changes(anatomy=1.0, moves=1.0, marrow=0.8, motion=_WIDE),
    "moved": Changes(anatomy=0.5, moves=1.0, marrow=0.5, motion=_WIDE),
    "taught": Changes(anatomy=0.5, moves=0.75, marrow=0.3, motion=_SMALLER),
}


@dataclass(frozen=True)
class KnownItem:
    """A pair with its displacement and with what is to be read in both images, at the half resolution.

    Attributes:
        sample: images, moving labels and masks, without the centres, which no loss of an item needs.
        displacement: (1, 3, d, h, w), voxels of the half resolution, fixed to moving points.
        weight: (1, 1, d, h, w), of the displacement's loss, which is least where either image shows nothing.
        reading: (1, 14, d, h, w); for the CT and then for the MR: six positions in [-1, 1], and bone as 1, all else as
            -1.
        reading_weight: (1, 14, d, h, w); 0 for a real MR, whose labels no training may use, and where an image shows
            nothing.
    """

    sample: Sample
    displacement: Tensor
    weight: Tensor
    reading: Tensor
    reading_weight: Tensor


def draw_item(
    samples: Callable[[int], Sample], taught: Callable[[int], Tensor], patients: int, stage: Stage, number: int,
    settings: Training, seed: int, index: int,
) -> KnownItem:  # fmt: skip
    """Make one item of a stage. Seed, stage and the item's number determine it.

    Args:
        samples: the sample of a patient's number.
        taught: the teacher's displacement of a patient's number, (1, 3, d, h, w), voxels of the half resolution.
        patients: number of training patients.
        stage: selects the kind of item, and its patch.
        number: of the stage.
        settings: of the training.
        seed: of the training.
        index: of the item in the stage, from 0.
    """
    rng = np.random.Generator(np.random.PCG64([seed, 2, number, index]))
    shares = np.array([stage.items.get(kind, 0.0) for kind in ITEMS])
    kind = str(rng.choice(ITEMS, p=shares / shares.sum()))
    patient = patient_of(index, patients, seed)
    item = known_item(samples(patient), kind, rng, taught(patient) if kind == "taught" else None, stage)
    if settings.appearance:
        item = replace(item, sample=with_appearance(item.sample, rng))
    return _where_seen(item)


def _where_seen(item: KnownItem) -> KnownItem:
    """The item with weights for what the network is shown: nothing is read, or compared, where a scan saw nothing."""
    sample = item.sample
    shown = sample.network_input is not None
    masks = (
        sample.network_moving_inside if shown else sample.moving_inside,
        sample.network_inside if shown else sample.fixed_inside,
    )
    ct, mr = (None if mask is None else F.avg_pool3d(mask.to(item.weight.dtype), 2) for mask in masks)
    weight, reading = item.weight, list(item.reading_weight.split(POSITIONS + 1, dim=1))
    if ct is not None:
        reading[0] = reading[0] * (ct > 0.5)
        weight = torch.minimum(weight, warp(ct, item.displacement, padding="border").clamp(min=ELSEWHERE))
    if mr is not None:
        reading[1] = reading[1] * (mr > 0.5)
        weight = torch.minimum(weight, mr.clamp(min=ELSEWHERE))
    return replace(item, weight=weight, reading_weight=torch.cat(reading, dim=1))


def known_item(
    sample: Sample, kind: str, rng: np.random.Generator, displacement: Tensor | None = None, stage: Stage | None = None
) -> KnownItem:
    """Make an item whose images have the appearance that they had, apart from another marrow.

    The CT at y becomes CT(y + a(y)), the fixed image likewise, for an anatomy a. The moving CT at p then becomes that
    of p + m(p). If the displacement of the pair was t, the new one is u = r + n(r), where n is the inverse of m and r
    the displacement in the other anatomy: r + a(q + r) = a + t(q + a).

    Args:
        sample: one training pair.
        kind: synthetic, moved or taught, for `CHANGES`.
        rng: the source of random numbers.
        displacement: t, (1, 3, d, h, w), voxels of the half resolution; None: 0.
        stage: selects the patch; None: the whole volume.
    """
    changes = CHANGES[kind]
    if rng.random() < 0.5:
        sample = flipped(sample)
        displacement = None if displacement is None else _mirrored(displacement)
    anatomy, velocity, window = _drawn_fields(sample, changes, rng, stage)
    target = integrate(-velocity, SQUARINGS)
    if displacement is not None:
        target = compose(_in_anatomy(displacement, anatomy), target)
    moved = compose(integrate(velocity, SQUARINGS), anatomy)

    ids = list(sample.centres)
    bone = (sample.labels > 0).to(sample.moving.dtype)[None, None]
    at_fixed, at_moving = _points(anatomy, window), _points(moved, window)
    ct = warp(sample.moving, at_moving, padding="border")
    if rng.random() < changes.marrow:
        ct = with_other_marrow(ct, warp(bone, at_moving), rng)
    source, inside = sample.fixed, sample.fixed_inside
    if kind == "synthetic":
        source, inside = sample.moving, sample.moving_inside
    mr = warp(source, at_fixed, padding="border")
    if kind == "synthetic":
        mr = synthetic_mr(mr, warp(bone, at_fixed), rng)
    wide, inner = _wide(window, anatomy.shape[2])
    labels = warp_labels(sample.labels, _points(moved, wide), ids)
    fixed_labels = warp_labels(sample.labels, _points(anatomy, wide), ids) if kind == "synthetic" else None
    reading = [t[:, :, inner] for t in _reading(labels, fixed_labels, sample.spacing_mm)]
    fixed_bone = warp(F.avg_pool3d(bone, 2), compose(target, moved))
    item = replace(
        sample, moving=ct, fixed=mr, labels=labels[2 * inner.start : 2 * inner.stop], centres={},
        moving_inside=warped_view(sample.moving, sample.moving_inside, at_moving),
        fixed_inside=warped_view(source, inside, at_fixed),
    )  # fmt: skip
    target, weight = (t[:, :, *window].contiguous() for t in (target, _weight(fixed_bone)))
    return KnownItem(item, target, weight, reading[0], reading[1])


def _drawn_fields(
    sample: Sample, changes: Changes, rng: np.random.Generator, stage: Stage | None
) -> tuple[Tensor, Tensor, Box]:
    """A random anatomy and the velocity of a random motion, voxels of the half resolution, and the patch's window.

    Both fields are (1, 3, d, h, w). The motion is centred on the patch.
    """
    half = tuple(n // 2 for n in sample.labels.shape)
    z, y, x = (2 * s for s in sample.spacing_mm)
    anatomy, velocity = (torch.zeros(1, 3, *half) for _ in range(2))
    if rng.random() < changes.anatomy:
        anatomy = torch.from_numpy(anatomy_field(half, (z, y, x), rng))
    window = _window(sample, anatomy, rng.spawn(1)[0], stage)
    if rng.random() < changes.moves:
        velocity = torch.from_numpy(motion_field(half, (z, y, x), rng, changes.motion, window))
    return anatomy.to(sample.moving.device), velocity.to(sample.moving.device), window


def _window(sample: Sample, anatomy: Tensor, rng: np.random.Generator, stage: Stage | None) -> Box:
    """The patch at a random vertebra of the other anatomy, in voxels of the half resolution."""
    if stage is None or stage.patch is None:
        d, h, w = anatomy.shape[2:]
        return slice(0, d), slice(0, h), slice(0, w)
    last = torch.tensor(anatomy.shape[2:]) - 1
    centres = {}
    for vertebra, centre in sample.centres.items():
        there = at = torch.tensor(centre) / 2
        for _ in range(2):  # where the anatomy puts the centre, to a voxel
            z, y, x = at.round().long().clamp(min=torch.zeros(3, dtype=torch.long), max=last).tolist()
            at = there - anatomy[0, :, z, y, x].cpu()
        centres[vertebra] = tuple((2 * at).tolist())
    full = crop_window(replace(sample, centres=centres), stage.patch, rng, stage.ends)
    z, y, x = (slice(s.start // 2, s.start // 2 + (s.stop - s.start) // 2) for s in full)
    return z, y, x


def _wide(window: Box, depth: int) -> tuple[Box, slice]:
    """The window with a margin along z, and the part of it that the window is, in voxels of the half resolution."""
    z, y, x = window
    start, stop = max(z.start - LABEL_MARGIN // 2, 0), min(z.stop + LABEL_MARGIN // 2, depth)
    return (slice(start, stop), y, x), slice(z.start - start, z.stop - start)


def _points(displacement: Tensor, window: Box) -> Tensor:
    """The displacement from a window to the whole volume, in full voxels, (1, 3, D, H, W) of the window.

    Args:
        displacement: (1, 3, d, h, w) of the whole volume, voxels of the half resolution.
        window: in voxels of the half resolution.
    """
    margins = [slice(max(s.start - 1, 0), s.stop + 1) for s in window]  # which linear interpolation needs
    part = upsampled(displacement[:, :, *margins])
    inner = [slice(2 * (s.start - m.start), 2 * (s.stop - m.start)) for s, m in zip(window, margins, strict=True)]
    starts = displacement.new_tensor([2 * s.start for s in window]).view(1, 3, 1, 1, 1)
    return part[:, :, *inner] + starts


def _in_anatomy(displacement: Tensor, anatomy: Tensor) -> Tensor:
    """The displacement r of a pair in another anatomy, by fixed-point iteration; (1, 3, d, h, w), voxels."""
    there = compose(anatomy, displacement)
    found = there - anatomy
    for _ in range(INVERSION_STEPS):
        found = there - warp(anatomy, found, padding="border")
    return found


def _mirrored(displacement: Tensor) -> Tensor:
    """The displacement (1, 3, d, h, w) of a pair with left and right exchanged."""
    return displacement.flip(-1) * displacement.new_tensor([1.0, 1.0, -1.0]).view(1, 3, 1, 1, 1)


def _weight(fixed_bone: Tensor) -> Tensor:
    """The weight of the displacement's loss, from the share of bone of the fixed image, (1, 1, d, h, w) each."""
    bone = F.max_pool3d(fixed_bone, 3, 1, 1)
    near = F.max_pool3d(bone, 5, 1, 2)
    return torch.maximum(IN_BONE * bone, NEAR_BONE * near).clamp(min=ELSEWHERE)


def _reading(
    moving_labels: Tensor, fixed_labels: Tensor | None, spacing_mm: tuple[float, float, float]
) -> tuple[Tensor, Tensor]:
    """Targets and weights of reading, (1, 14, d, h, w) each.

    Args:
        moving_labels: (D, H, W).
        fixed_labels: of a synthetic MR; None for a real one, whose targets are 0 with weight 0.
        spacing_mm: (z, y, x) of the labels.
    """
    targets, weights = list[Tensor](), list[Tensor]()
    for labels in (moving_labels, fixed_labels):
        if labels is None:
            targets += [torch.zeros_like(t) for t in targets]
            weights += [torch.zeros_like(w) for w in weights]
            break
        position, weight = spine_position(labels, spacing_mm)
        share = bone_share(labels)
        targets += [position, 2 * share - 1]
        weights += [weight.expand(POSITIONS, -1, -1, -1), torch.ones_like(share)]
    return torch.cat(targets)[None], torch.cat(weights)[None]
