"""What a training step changes of a patient, drawn from the seed and the sample's number alone.

A flip, another anatomy and a crop change images and labels alike, another motion the moving image and its labels. The
appearance changes only what the network is shown, while the similarity is taken of the images as they are: the motion
must be found whatever the scanner and the field of view. Voxels that a real scan did not see have no weight in it.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from methods.voxelmorph.items import Sample
from methods.voxelmorph.settings import Training
from metrics.fields import compose, warp

KNOTS = 6
BODY_MM, BODY_SD_MM, BODY_SIZE = 30.0, 3.0, 0.22
SHIFT_MM, TURN_DEG, BEND_MM, WAVE_MM = 2.5, 3.0, 2.0, 80.0
CT_NOISE = 0.015  # of CT scaled from [-1000, 2000] HU: 45 HU
MR_NOISE = 0.04
# Of a field of view: the largest hidden share of a half-width, and the SD of its rotation.
VIEW_HIDDEN, VIEW_TURN_DEG = 0.6, 6.0


def augment(item: Sample, settings: Training, seed: int, sample: int) -> Sample:
    """A random left-right flip, another anatomy and motion, a crop centred on a vertebra, and another appearance."""
    rng = np.random.Generator(np.random.PCG64([seed, 1, sample]))
    if settings.flips and rng.random() < 0.5:
        width = item.labels.shape[-1]
        centres = {v: (z, y, width - 1 - x) for v, (z, y, x) in item.centres.items()}
        item = replace(item.each(lambda t: t.flip(-1)), centres=centres)
    if settings.anatomy or settings.motion:
        item = reshaped(item, rng, settings.anatomy, settings.motion)
    if settings.anatomy:
        item = laid(item, rng)
    if settings.patch is not None:
        item = _crop(item, settings.patch, rng)
    if settings.appearance:
        ct, _ = narrow_view(ct_appearance(item.moving, rng), rng)
        mr, seen = narrow_view(mr_appearance(item.fixed, rng), rng)
        if seen is None or item.fixed_inside is None:
            seen = item.fixed_inside if seen is None else seen
        else:
            seen = seen & item.fixed_inside
        item = replace(item, shown=(ct, mr), shown_inside=seen)
    return item


def reshaped(item: Sample, rng: np.random.Generator, anatomy: bool = True, motion: bool = False) -> Sample:
    """The patient with another body, another motion or both. What is drawn for the one does not depend on the other.

    anatomy: both scans and the labels go through one smooth map. Sizes change by up to a quarter along each axis,
    shapes by a field that is smooth over some 3 cm; now and then the spine is stood on its head or turned back to
    front. What a network learns of one kind of spine is not true of the next: it has to find the motion in what both
    images show.
    motion: the moving scan and its labels are turned, shifted and bent along the spine besides. What a network learns
    of how spines come to lie in MR is not true either.
    """
    streams = rng.spawn(2)
    shape = item.labels.shape
    field = torch.zeros(1, 3, *shape)
    if anatomy:
        turned = [axis - 3 for axis in (0, 1) if streams[0].random() < 0.25]
        item = item.each(lambda t: t.flip(turned))
        field = torch.from_numpy(_other_body(shape, item.spacing_mm, streams[0]))
    moving, fixed, labels, fixed_inside = item.moving, item.fixed, item.labels, item.fixed_inside
    if anatomy:
        fixed_inside = _warped_view(fixed, fixed_inside, field)
        fixed = warp(fixed, field.to(fixed.device), padding="border")
    if motion:
        field = compose(torch.from_numpy(_other_motion(shape, item.spacing_mm, streams[1])), field)
    moving_inside = _warped_view(moving, item.moving_inside, field)
    field = field.to(moving.device)
    moving = warp(moving, field, padding="border")
    labels = warp(labels[None, None].float(), field, mode="nearest")[0, 0].to(labels.dtype)
    centres = {v: tuple((labels == v).nonzero().float().mean(0).tolist()) for v in item.centres if (labels == v).any()}
    return replace(
        item, moving=moving, fixed=fixed, labels=labels, centres=centres, moving_inside=moving_inside,
        fixed_inside=fixed_inside,
    )  # fmt: skip


def _warped_view(image: Tensor, inside: Tensor | None, field: Tensor) -> Tensor | None:
    """The voxels of an image warped by `field` that show what the scan saw; None for all. The border is not seen."""
    seen = torch.ones_like(image) if inside is None else inside.to(image.dtype)
    warped = warp(seen, field.to(image.device)) > 0.5
    return None if warped.all() else warped


def laid(item: Sample, rng: np.random.Generator) -> Sample:
    """Half the time the z axis changed places with y or x.

    Along a spine little changes from voxel to voxel, and a network that never saw one lie otherwise did not follow a
    shift along it at all.
    """
    if rng.random() < 0.5:
        return item
    other = int(rng.integers(1, 3))
    order = [0, 1, 2]
    order[0], order[other] = other, 0
    item = item.each(lambda t: t.transpose(-3, other - 3).contiguous())
    spacing_mm = (item.spacing_mm[order[0]], item.spacing_mm[order[1]], item.spacing_mm[order[2]])
    centres = {v: tuple(centre[a] for a in order) for v, centre in item.centres.items()}
    return replace(item, spacing_mm=spacing_mm, centres=centres)


def _other_body(shape: tuple[int, ...], spacing_mm: tuple[float, float, float], rng: np.random.Generator) -> np.ndarray:
    """A smooth displacement (1, 3, D, H, W) in voxels: other sizes, and what is drawn at points 3 cm apart."""
    knots = [max(2, round(n * s / BODY_MM) + 1) for n, s in zip(shape, spacing_mm, strict=True)]
    drawn = rng.normal(0, BODY_SD_MM, (3, *knots)).astype(np.float32)
    field = F.interpolate(torch.from_numpy(drawn)[None], shape, mode="trilinear", align_corners=True).numpy()
    for axis, n in enumerate(shape):
        field[:, axis] /= spacing_mm[axis]
        at = (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(
            math.exp(rng.uniform(-BODY_SIZE, BODY_SIZE)) - 1
        )
        field[:, axis] += at.reshape([n if a == axis else 1 for a in range(3)])
    return field


def _other_motion(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """A displacement (1, 3, D, H, W) in voxels: a rigid one about the middle, and a curve sideways along the spine.

    The curve shifts each axial slice as a whole: it changes no volume.
    """
    axes = [(np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(s)
            for n, s in zip(shape, spacing_mm, strict=True)]  # fmt: skip
    turn = Rotation.from_rotvec(rng.normal(0, TURN_DEG, 3), degrees=True).as_matrix() - np.eye(3)
    at = np.stack(np.meshgrid(*axes, indexing="ij"))
    field = np.einsum("ij,jzyx->izyx", turn.astype(np.float32), at)
    field += rng.normal(0, SHIFT_MM, (3, 1, 1, 1)).astype(np.float32)
    length = max(shape[0] * spacing_mm[0], WAVE_MM)
    waves = np.arange(1, int(2 * length / WAVE_MM) + 1)
    curves = np.cos(np.pi * np.outer(waves, np.arange(shape[0]) / max(shape[0] - 1, 1)))
    bend = rng.normal(0, BEND_MM / np.sqrt(len(waves)), (2, len(waves))) @ curves
    field[1:] += bend[:, :, None, None].astype(np.float32)
    return (field / np.array(spacing_mm, np.float32)[:, None, None, None])[None]


def _crop(item: Sample, patch: tuple[int, int, int], rng: np.random.Generator) -> Sample:
    vertebrae = list(item.centres)
    if not vertebrae:
        raise ValueError(f"pair {item.case}: expected at least one vertebra in the moving labels, found none")
    centre = item.centres[vertebrae[rng.integers(len(vertebrae))]]
    window = []
    for at, size, extent in zip(centre, patch, item.labels.shape, strict=True):
        length = min(size, extent)
        start = int(np.clip(round(at) - length // 2, 0, extent - length))
        window.append(slice(start, start + length))
    z, y, x = window
    return item.each(lambda t: t[..., z, y, x])


def ct_appearance(image: Tensor, rng: np.random.Generator) -> Tensor:
    """A CT (1, 1, D, H, W) in [0, 1] of another sharpness and noise. HU mean the same everywhere."""
    return _noisy(_blurred(image, rng), rng.uniform(0, CT_NOISE), rng)


def mr_appearance(image: Tensor, rng: np.random.Generator) -> Tensor:
    """An MR (1, 1, D, H, W) in [0, 1] of another contrast, coil, sharpness and noise."""
    image = _shaded(recoloured(image.clamp(0, 1), rng), rng)
    return _noisy(_blurred(image, rng), rng.uniform(0, MR_NOISE), rng)


def recoloured(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Grey values in [0, 1] through a random curve that keeps black: a power, half the time mixed with disorder.

    Mixed, tissues may change ranks, as between T1 and T2.
    """
    knots = np.linspace(0, 1, KNOTS)
    curve = knots ** math.exp(rng.uniform(-0.7, 0.7))
    if rng.random() < 0.5:
        share = rng.uniform(0, 0.6)
        curve[1:] = (1 - share) * curve[1:] + share * rng.uniform(0, 1, KNOTS - 1)
    values = torch.from_numpy(curve.astype(np.float32)).to(image.device)
    position = image * (KNOTS - 1)
    below = position.long().clamp(0, KNOTS - 2)  # NaN is no index; it stays NaN
    return torch.lerp(values[below], values[below + 1], position - below)


def _shaded(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Times a smooth positive field, as a surface coil leaves it: a Gaussian of each axis."""
    for axis in (2, 3, 4):
        slope, bend = rng.normal(0, 0.15, 2)
        at = torch.linspace(-1, 1, image.shape[axis], device=image.device)
        shape = [1] * 5
        shape[axis] = -1
        image = image * (slope * at + bend * at.square()).exp().reshape(shape)
    return image


def _blurred(image: Tensor, rng: np.random.Generator) -> Tensor:
    """Half the time each axis smoothed over three voxels, as by thicker slices or a softer kernel."""
    if rng.random() < 0.5:
        return image
    for axis in (2, 3, 4):
        share, n = rng.uniform(0, 0.3), image.shape[axis]
        padding = [0, 0] * (4 - axis) + [1, 1]
        padded = F.pad(image, padding + [0] * (6 - len(padding)), mode="replicate")
        neighbours = padded.narrow(axis, 0, n) + padded.narrow(axis, 2, n)
        image = (1 - 2 * share) * image + share * neighbours
    return image


def _noisy(image: Tensor, level: float, rng: np.random.Generator) -> Tensor:
    noise = torch.from_numpy(rng.standard_normal(tuple(image.shape), dtype=np.float32))
    return image + level * noise.to(image.device)


def narrow_view(image: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor | None]:
    """Half the time limit an image to a smaller, slightly rotated field of view; its edge values continue beyond.

    The field of view is a slab, or a box that lacks one to four of the volume's sides. It contains the middle.

    Args:
        image: (1, 1, D, H, W).
        rng: draws the field of view.

    Returns:
        The image with the nearest seen value outside the field of view, and the seen voxels, bool (1, 1, D, H, W), or
        None for all of them.
    """
    if rng.random() < 0.5:
        return image, None
    half = (np.array(image.shape[2:], np.float32) - 1) / 2
    sides = np.full((2, 3), np.inf, np.float32)
    cut = (1 - rng.uniform(0, VIEW_HIDDEN, (2, 3))).astype(np.float32) * half
    if rng.random() < 0.5:
        axis = rng.integers(3)
        sides[:, axis] = cut[:, axis]
    else:
        chosen = rng.choice(6, rng.integers(1, 5), replace=False)
        sides.flat[chosen] = cut.flat[chosen]
    turn = Rotation.from_rotvec(rng.normal(0, VIEW_TURN_DEG, 3), degrees=True).as_matrix().astype(np.float32)
    axes = [torch.arange(n, dtype=torch.float32, device=image.device) for n in image.shape[2:]]
    points = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1) - torch.from_numpy(half).to(image.device)
    rotation, low, high = (torch.from_numpy(a).to(image.device) for a in (turn, -sides[0], sides[1]))
    along = points @ rotation
    nearest = along.clamp(low, high)
    seen = (nearest == along).all(dim=-1)[None, None]
    to_nearest = ((nearest - along) @ rotation.mT).permute(3, 0, 1, 2)[None]
    return image.where(seen, warp(image, to_nearest, padding="border")), seen
