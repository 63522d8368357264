"""The contract of every public function of metrics/: documentation, precision, strides, batches, thin axes, NaN."""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.comparison import parts, same
from support.hand_built import ANISOTROPIC, UNIT, bent_field, box

import metrics
from metrics import (
    boxes,
    fields,
    label_warping,
    landmarks,
    neighbours,
    overlap,
    procrustes,
    regularity,
    rigid,
    similarity,
    volume,
)

SHAPE = (7, 9, 11)  # odd, and no two sides alike
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
IDS = [1, 2]
DOUBLE, KEPT = torch.float64, None


def closest(labels: torch.Tensor, soft: torch.Tensor, u: torch.Tensor) -> rigid.RigidFit:
    return rigid.closest_rigid(labels, soft, IDS, ANISOTROPIC, u)


def landmark_error(u: torch.Tensor, points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    last = points.new_tensor(u.shape[2:]) - 1
    return landmarks.landmark_error_mm(u, points[0] * last, others[0] * last, ANISOTROPIC)


def interpolated_mask(labels: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    whole = tuple(slice(0, n) for n in labels.shape)
    points = fields.identity_grid(labels.shape, dtype=u.dtype)[0] + u[0]
    return label_warping.interpolate_mask(labels == IDS[0], whole, points)


def seen_in_both(u: torch.Tensor) -> torch.Tensor:
    half = torch.zeros_like(u[:, :1])
    half[:, :, : u.shape[2] // 2] = 1
    return similarity.seen_in_both(u, u.shape[2:], half, half.flip(-3))


def warped_crops(labels: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    hard, soft = label_warping.warp_labels_and_crops(labels, u, IDS, IDS)
    return hard, soft.whole()


def rigidity_of_crops(labels: torch.Tensor, u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return regularity.rigidity_of_crops(u, label_warping.warp_crops(labels, u, IDS), ANISOTROPIC)


# Name, call, the `inputs` it takes, whether their first axis is a batch, the dtype of floating-point results.
TABLE: list[tuple[str, Callable[..., Any], str, bool, torch.dtype | None]] = [
    ("identity_grid", lambda u: fields.identity_grid(u.shape[2:], dtype=u.dtype), "u", False, KEPT),
    ("warp", fields.warp, "image u", True, KEPT),
    ("lands_inside", lambda u: fields.lands_inside(u, u.shape[2:]), "u", True, KEPT),
    ("compose", fields.compose, "u v", True, KEPT),
    ("integrate", fields.integrate, "u", True, KEPT),
    ("invert", fields.invert, "u", True, KEPT),
    ("gradient", lambda image: fields.gradient(image, ANISOTROPIC), "image", True, KEPT),
    ("jacobian", lambda u: fields.jacobian(u, ANISOTROPIC), "u", True, KEPT),
    ("jacobian_determinant", fields.jacobian_determinant, "j", True, KEPT),
    ("warp_soft", lambda m, u: label_warping.warp_soft(m, u, IDS), "labels u1", False, KEPT),
    ("warp_labels", lambda m, u: label_warping.warp_labels(m, u, IDS), "labels u1", False, KEPT),
    ("interpolate_mask", interpolated_mask, "labels u1", False, KEPT),
    ("seen_in_both", seen_in_both, "u", True, KEPT),
    ("dice", lambda a, b: overlap.dice(a, b, IDS), "labels fixed", False, DOUBLE),
    ("soft_dice", overlap.soft_dice, "weights other_weights", True, KEPT),
    ("surface_distances_mm", lambda a, b: overlap.surface_distances_mm(a, b, IDS, UNIT), "labels fixed", False, DOUBLE),
    ("hd95_mm", lambda a, b: overlap.hd95_mm(a, b, IDS, UNIT), "labels fixed", False, DOUBLE),
    ("assd_mm", lambda a, b: overlap.assd_mm(a, b, IDS, UNIT), "labels fixed", False, DOUBLE),
    ("hd95_from", lambda d: overlap.hd95_from([(d.numpy(), d.numpy())]), "distances", False, DOUBLE),
    ("assd_from", lambda d: overlap.assd_from([(d.numpy(), d.numpy())]), "distances", False, DOUBLE),
    ("properness_map", regularity.properness_map, "determinant", True, KEPT),
    ("orthonormality_map", regularity.orthonormality_map, "j", True, KEPT),
    ("weighted_mean", regularity.weighted_mean, "determinant weights", True, KEPT),
    ("rigidity", lambda u, w: regularity.rigidity(u, w, ANISOTROPIC), "u weights", True, KEPT),
    ("diffusion", regularity.diffusion, "u", True, KEPT),
    ("folding", lambda determinant: regularity.folding(determinant, 0), "determinant", True, DOUBLE),
    ("sd_log_jacobian", lambda determinant: regularity.sd_log_jacobian(determinant, crop=0), "determinant", True, KEPT),
    ("inverse_consistency", regularity.inverse_consistency, "u v", True, KEPT),
    ("fit_rigid", procrustes.fit_rigid, "points other_points", True, KEPT),
    ("closest_rigid", closest, "labels soft u1", False, KEPT),
    ("rigid_resample", lambda *a: rigid.rigid_resample(a[0], closest(*a), IDS, UNIT), "labels soft u1", False, KEPT),
    ("rigid_dice", lambda m, s, u: rigid.rigid_dice(m, s, IDS, ANISOTROPIC, u), "labels soft u1", False, KEPT),
    (
        "soft_rigid_dice",
        lambda m, s, u: rigid.soft_rigid_dice(m, s, IDS, ANISOTROPIC, u),
        "labels soft u1",
        False,
        KEPT,
    ),
    ("rigid_field", lambda u, s: rigid.rigid_field(u, s, ANISOTROPIC), "u1 soft", False, KEPT),
    ("pose_error", lambda u, v, m: rigid.pose_error(u, v, m == 1, ANISOTROPIC), "u1 v1 fixed", False, DOUBLE),
    ("landmark_error_mm", landmark_error, "u1 points other_points", False, DOUBLE),
    ("mind_ssc", similarity.mind_ssc, "image", True, KEPT),
    ("mind_ssc_at", lambda image, m: similarity.mind_ssc_at(image[:1], m == 1), "image labels", False, KEPT),
    ("mind_loss", similarity.mind_loss, "image other_image", True, KEPT),
    ("mutual_information", similarity.mutual_information, "image other_image", True, KEPT),
    ("nmi", similarity.nmi, "image other_image", True, KEPT),
    ("ngf", similarity.ngf, "image other_image", True, KEPT),
    ("warp_labels_and_crops", warped_crops, "labels u1", False, KEPT),
    ("warp_crops", lambda labels, u: label_warping.warp_crops(labels, u, IDS).whole(), "labels u1", False, KEPT),
    ("rigidity_of_crops", rigidity_of_crops, "labels u1", False, KEPT),
    ("voxel_counts", lambda labels: volume.voxel_counts(labels, IDS), "labels", False, KEPT),
    ("bounding_box", boxes.bounding_box, "soft", False, KEPT),
    ("label_boxes", lambda labels: boxes.label_boxes(labels, IDS), "labels", False, KEPT),
    (
        "pair_boxes",
        lambda *both: boxes.pair_boxes(*(boxes.label_boxes(m, IDS) for m in both)),
        "labels fixed",
        False,
        KEPT,
    ),
    ("covering_box", lambda labels: boxes.covering_box(boxes.label_boxes(labels, IDS)), "labels", False, KEPT),
    ("volume_change_pct", lambda a, b: volume.volume_change_pct(a, b, IDS), "labels fixed", False, DOUBLE),
    (
        "soft_volume_change_pct",
        lambda labels, s: volume.soft_volume_change_pct(labels, s, IDS),
        "labels soft",
        False,
        DOUBLE,
    ),
    (
        "gaps_mm",
        lambda s: neighbours.gaps_mm(s, [(0, 0)], ANISOTROPIC, [boxes.bounding_box(label) for label in s]),
        "soft",
        False,
        DOUBLE,
    ),
    (
        "overlaps_pct",
        lambda *a: neighbours.overlaps_pct(a[0], closest(*a), IDS, [(0, 0)], ANISOTROPIC),
        "labels soft u1",
        False,
        DOUBLE,
    ),
    ("volume_loss", volume.volume_loss, "weights other_weights", True, KEPT),
]
EVERY = pytest.mark.parametrize(("call", "names", "dtype"), [pytest.param(c, n, d, id=i) for i, c, n, _, d in TABLE])
BATCHED = pytest.mark.parametrize(("call", "names"), [pytest.param(c, n, id=i) for i, c, n, batch, _ in TABLE if batch])
PUBLIC = {
    name: function
    for module in (importlib.import_module(f"metrics.{m.name}") for m in pkgutil.iter_modules(metrics.__path__))
    for name, function in inspect.getmembers(module, inspect.isfunction)
    # Defined in the module or in its __all__. The functions of timing take no tensor.
    if function.__module__ == module.__name__ or name in getattr(module, "__all__", ())
    if not name.startswith("_") and not module.__name__.startswith(("metrics._", "metrics.timing"))
}


def inputs(names: str, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> list[torch.Tensor]:
    """Two items of each input, computed in float64: smooth fields, images of noise, two labels at the border."""
    generator = torch.Generator().manual_seed(0)
    sizes = {"image": (2, 1, *shape), "weights": (2, 3, *shape), "points": (2, 9, 3), "distances": (9,)}
    known = {n: torch.rand(size, generator=generator, dtype=DOUBLE) for n, size in sizes.items()}
    known |= {f"other_{n}": torch.rand(v.shape, generator=generator, dtype=DOUBLE) for n, v in known.items()}
    # Nothing moves along an axis of one voxel.
    thick = (torch.tensor(shape) > 1).double().view(3, 1, 1, 1)
    u, v = (torch.cat([bent_field(shape, a, DOUBLE) for a in pair]) * thick for pair in ((0.8, -0.5), (-0.7, 0.6)))
    labels = box(shape, (0, 0, 0), [-(-n // 2) for n in shape]) + box(shape, [n // 2 + 1 for n in shape], shape, 2)
    soft, fixed = label_warping.warp_soft(labels, u[:1], IDS), label_warping.warp_labels(labels, u[:1], IDS)
    j = fields.jacobian(u, ANISOTROPIC)
    known |= {"u": u, "v": v, "u1": u[:1], "v1": v[:1], "j": j, "determinant": fields.jacobian_determinant(j)}
    known |= {"labels": labels, "soft": soft, "fixed": fixed}
    return [known[n].to(dtype) if known[n].is_floating_point() else known[n] for n in names.split()]


def test_every_public_function_is_in_the_table() -> None:
    assert sorted(name for name, *_ in TABLE) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_docstring_has_shapes_a_unit_and_each_argument(name: str) -> None:
    """Sections Args and Returns; a shape in brackets; a range or a unit."""
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert "\nArgs:\n" in text and "\nReturns:\n" in text
    for argument in inspect.signature(PUBLIC[name]).parameters:
        assert re.search(rf"^    {argument}: ", text, flags=re.MULTILINE), f"{argument} is not documented"
    assert re.search(r"\((\.\.\.|[1BNDd]),[^)]*\)", text), "no shape"
    assert re.search(r"at least 0|in \[-?\d+, ?\d+\]|\bmm\b|millimet|(?i:voxel)|percent|without unit", text), "no unit"


@EVERY
def test_double_precision_is_kept_and_agrees(call: Callable[..., Any], names: str, dtype: torch.dtype | None) -> None:
    single, double = call(*inputs(names)), call(*inputs(names, torch.float64))
    for result, given in ((single, torch.float32), (double, torch.float64)):
        assert {p.dtype for p in parts(result) if p.is_floating_point()} <= {dtype or given}
    same(single, double, 1e-3)


@EVERY
def test_strides_do_not_matter_and_arguments_do_not_change(call: Callable[..., Any], names: str, dtype: object) -> None:
    plain = inputs(names)
    strided = [v.mT.contiguous().mT if v.ndim > 1 else v.repeat_interleave(2)[::2] for v in plain]
    assert not any(v.is_contiguous() for v in strided)
    same(call(*strided), call(*plain))
    for given, before in zip(strided + plain, 2 * inputs(names), strict=True):
        assert torch.equal(given, before)


@EVERY
@pytest.mark.parametrize("shape", [(1, 9, 11), (7, 1, 11), (7, 9, 1), (1, 1, 11), (1, 1, 1)])
def test_an_axis_of_one_voxel(shape: tuple[int, ...], call: Callable[..., Any], names: str, dtype: object) -> None:
    """The result has a finite value: label 1 is present, even where label 2 is empty."""
    for precision in (torch.float32, torch.float64):
        assert parts(call(*inputs(names, precision, shape)))[0].isfinite().any()


@BATCHED
def test_a_batch_is_its_items(call: Callable[..., Any], names: str) -> None:
    together = parts(call(*inputs(names)))
    for k in range(2):
        same(call(*(v[k : k + 1] for v in inputs(names))), [p[k : k + 1] for p in together])


@BATCHED
@BAD
def test_a_value_that_is_not_finite_affects_its_item_only(bad: float, call: Callable[..., Any], names: str) -> None:
    given = inputs(names)
    before = [p[0].clone() for p in parts(call(*given))]
    given[0][1].flatten()[given[0][1].numel() // 2] = bad
    same([p[0] for p in parts(call(*given))], before)
