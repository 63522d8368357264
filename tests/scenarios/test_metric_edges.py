"""The edges of every public function of metrics/: one table drives what must hold for all, figures by hand the rest.

What a function's own file of tests already pins (empty labels of Dice, NaN of the similarities, ...) is not here again.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from support.hand_built import ANISOTROPIC, UNIT, affine_field, bent_field, box, rotation

import metrics
from metrics import boxes, fields, label_warping, landmarks, overlap, procrustes, regularity, rigid, similarity, volume

SHAPE = (7, 9, 11)  # odd, and no two sides alike
BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
IDS = [1, 2]
DOUBLE, KEPT = torch.float64, None


def closest(labels: torch.Tensor, soft: torch.Tensor, u: torch.Tensor) -> rigid.RigidFit:
    return rigid.closest_rigid(labels, soft, IDS, ANISOTROPIC, u)


def landmark_error(u: torch.Tensor, points: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    last = points.new_tensor(u.shape[2:]) - 1
    return landmarks.landmark_error_mm(u, points[0] * last, others[0] * last, ANISOTROPIC)


# Name, call, what of `inputs` it is given, whether the first axis of all that is a batch, the dtype of its floats.
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
    ("rigid_field", lambda u, s: rigid.rigid_field(u, s, ANISOTROPIC), "u1 soft", False, KEPT),
    ("pose_error", lambda u, v, m: rigid.pose_error(u, v, m == 1, ANISOTROPIC), "u1 v1 fixed", False, DOUBLE),
    ("landmark_error_mm", landmark_error, "u1 points other_points", False, DOUBLE),
    ("mind_ssc", similarity.mind_ssc, "image", True, KEPT),
    ("mind_loss", similarity.mind_loss, "image other_image", True, KEPT),
    ("mutual_information", similarity.mutual_information, "image other_image", True, KEPT),
    ("nmi", similarity.nmi, "image other_image", True, KEPT),
    ("ngf", similarity.ngf, "image other_image", True, KEPT),
    (
        "warp_labels_and_soft",
        lambda labels, u: label_warping.warp_labels_and_soft(labels, u, IDS, IDS),
        "labels u1",
        False,
        KEPT,
    ),
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
    ("volume_loss", volume.volume_loss, "weights other_weights", True, KEPT),
]
EVERY = pytest.mark.parametrize(("call", "names", "dtype"), [pytest.param(c, n, d, id=i) for i, c, n, _, d in TABLE])
BATCHED = pytest.mark.parametrize(("call", "names"), [pytest.param(c, n, id=i) for i, c, n, batch, _ in TABLE if batch])
PUBLIC = {
    name: function
    for module in (importlib.import_module(f"metrics.{m.name}") for m in pkgutil.iter_modules(metrics.__path__))
    for name, function in inspect.getmembers(module, inspect.isfunction)
    # Defined there or handed on by name; the clock takes no tensor.
    if function.__module__ == module.__name__ or name in getattr(module, "__all__", ())
    if not name.startswith("_") and not module.__name__.startswith(("metrics._", "metrics.timing"))
}


def inputs(names: str, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = SHAPE) -> list[torch.Tensor]:
    """Two items of everything, made in float64: smooth fields, noise for images, two labels at the border."""
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


def parts(result: Any) -> list[torch.Tensor]:
    """Whatever a function returns, as a list of tensors."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, np.ndarray):
        return [torch.from_numpy(np.sort(result))]
    if isinstance(result, slice):
        return [torch.tensor([result.start, result.stop])]
    entries = vars(result).values() if isinstance(result, rigid.RigidFit) else result or []
    return [part for entry in entries for part in parts(entry)]


def same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    options = {"atol": tolerance, "rtol": tolerance, "equal_nan": True, "check_dtype": False}
    torch.testing.assert_close(parts(found), parts(expected), **options)


def test_every_public_function_is_in_the_table() -> None:
    assert sorted(name for name, *_ in TABLE) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_docstring_names_shapes_and_what_comes_back(name: str) -> None:
    """A shape in brackets; and a range, a unit or a type."""
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert re.search(r"\((\.\.\.|[1BNDd]),[^)]*\)", text), "no shape"
    assert re.search(r"at least 0|in \[-?\d+, ?\d+\]|\bmm\b|millimet|(?i:voxel)|percent|without unit", text), "no unit"


@EVERY
def test_double_precision_is_kept_and_agrees(call: Callable[..., Any], names: str, dtype: torch.dtype | None) -> None:
    single, double = call(*inputs(names)), call(*inputs(names, torch.float64))
    for result, given in ((single, torch.float32), (double, torch.float64)):
        assert {p.dtype for p in parts(result) if p.is_floating_point()} <= {dtype or given}
    same(single, double, 1e-3)


@EVERY
def test_strides_do_not_matter_and_arguments_stay(call: Callable[..., Any], names: str, dtype: object) -> None:
    plain = inputs(names)
    strided = [v.mT.contiguous().mT if v.ndim > 1 else v.repeat_interleave(2)[::2] for v in plain]
    assert not any(v.is_contiguous() for v in strided)
    same(call(*strided), call(*plain))
    for given, before in zip(strided + plain, 2 * inputs(names), strict=True):
        assert torch.equal(given, before)


@EVERY
@pytest.mark.parametrize("shape", [(1, 9, 11), (7, 1, 11), (7, 9, 1), (1, 1, 11), (1, 1, 1)])
def test_an_axis_of_one_voxel(shape: tuple[int, ...], call: Callable[..., Any], names: str, dtype: object) -> None:
    """No crash, and a figure: label 1 is there, even where label 2 is empty."""
    for precision in (torch.float32, torch.float64):
        assert parts(call(*inputs(names, precision, shape)))[0].isfinite().any()


@BATCHED
def test_a_batch_is_its_items(call: Callable[..., Any], names: str) -> None:
    together = parts(call(*inputs(names)))
    for k in range(2):
        same(call(*(v[k : k + 1] for v in inputs(names))), [p[k : k + 1] for p in together])


@BATCHED
@BAD
def test_what_is_not_finite_stays_in_its_item(bad: float, call: Callable[..., Any], names: str) -> None:
    given = inputs(names)
    before = [p[0].clone() for p in parts(call(*given))]
    given[0][1].flatten()[given[0][1].numel() // 2] = bad
    same([p[0] for p in parts(call(*given))], before)


# --- a value that is not finite, in and beside a label


def one_bad_voxel(bad: float, where: tuple[int, int, int]) -> torch.Tensor:
    u = bent_field(SHAPE, 0.3)
    u[0, 1][where] = bad
    return u


LABEL = box(SHAPE, (1, 1, 1), (5, 5, 6))
IN_LABELS: dict[str, Callable[[torch.Tensor], Any]] = {
    "rigidity": lambda u: regularity.rigidity(u, (LABEL == 1)[None].float()),
    "rigid_field": lambda u: rigid.rigid_field(u, (LABEL == 1)[None].float(), UNIT),
    "pose_error": lambda u: rigid.pose_error(u, bent_field(SHAPE, 0.2), LABEL == 1, UNIT),
    "closest_rigid, hard": lambda u: rigid.closest_rigid(LABEL, LABEL, [1], UNIT, u),
    "rigid_dice, soft": lambda u: rigid.rigid_dice(LABEL, (LABEL == 1)[None].float(), [1], UNIT, u),
}


@BAD
@pytest.mark.parametrize("measure", IN_LABELS.values(), ids=IN_LABELS)
def test_a_field_that_is_not_finite_matters_inside_a_label_alone(measure: Callable[..., Any], bad: float) -> None:
    same(measure(one_bad_voxel(bad, (6, 7, 8))), measure(bent_field(SHAPE, 0.3)))
    inside = parts(measure(one_bad_voxel(bad, (2, 3, 3))))
    assert not any(p.isfinite().any() for p in inside if p.is_floating_point())
    assert not any(p.any() for p in inside if p.dtype == torch.bool)  # `converged`


@BAD
def test_a_field_that_is_not_finite_at_a_voxel(bad: float) -> None:
    """What looks at that voxel alone changes there alone; what looks at neighbours, there too; a mean as a whole."""
    u, clean, at = one_bad_voxel(bad, (2, 3, 3)), bent_field(SHAPE, 0.3), (2, 3, 3)
    ones = torch.ones(1, 1, *SHAPE)
    assert fields.warp(ones, u)[0, 0][at] == 0 and fields.warp(ones, u, padding="border")[0, 0][at] == pytest.approx(
        0 if bad != bad else 1
    )
    assert not label_warping.warp_soft(LABEL, u, [1])[0][at] and not label_warping.warp_labels(LABEL, u, [1])[at]
    others = torch.ones(SHAPE, dtype=torch.bool)
    others[at] = False
    for call in (label_warping.warp_soft, label_warping.warp_labels):
        assert torch.equal(call(LABEL, u, [1])[..., others], call(LABEL, clean, [1])[..., others])
    soft = u.clone().requires_grad_()
    label_warping.warp_soft(LABEL, soft, [1]).sum().backward()
    assert soft.grad is not None and soft.grad.isfinite().all() and not soft.grad[(0, slice(None), *at)].any()
    assert not fields.lands_inside(u, SHAPE)[0, 0][at]
    assert not fields.compose(u, clean)[0, 1][at].isfinite() and fields.compose(u, clean)[..., others].isfinite().all()
    assert not fields.integrate(u)[0, 1][at].isfinite() and not fields.invert(u)[1][0, 0][at].isfinite()
    j = fields.jacobian(u)
    assert (~j[0].isfinite()).any(dim=0).any(dim=0).nonzero().tolist() == [
        [1, 3, 3], [2, 2, 3], [2, 3, 2], [2, 3, 4], [2, 4, 3], [3, 3, 3]]  # fmt: skip
    assert regularity.folding(fields.jacobian_determinant(j), 0)[0].item() == 6
    assert regularity.folding(torch.full((1, 2, 2, 2), bad), 0)[1].item() == 100
    assert regularity.inverse_consistency(u, clean)[0][at].isnan()
    assert not regularity.diffusion(u).isfinite().any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("rest", [0.0, 1.0])
@pytest.mark.parametrize("given", [True, False], ids=["field", "no field"])
def test_a_warped_label_that_is_not_finite_has_no_transform(bad: float, rest: float, given: bool) -> None:
    """Nor does it stop the label beside it."""
    labels = LABEL + box(SHAPE, (5, 6, 7), (7, 9, 11), 2)
    soft = torch.stack([(labels == 1) * rest, labels == 2])
    soft[0, 3, 3, 3] = bad
    fit = rigid.closest_rigid(labels, soft, IDS, UNIT, torch.zeros(1, 3, *SHAPE) if given else None)
    assert fit.residual.isnan().tolist() == [True, False] and fit.converged.tolist() == [False, True]
    assert rigid.rigid_resample(labels, fit, IDS, UNIT).isnan().flatten(1).all(dim=1).tolist() == [True, False]


def test_one_huge_displacement_does_not_stop_the_fit_of_the_others() -> None:
    """Finite, but its square is not: an SVD refuses infinity for the whole batch."""
    points = torch.rand(2, 6, 3)
    target = points.clone()
    target[0, 0, 0] = 1e30
    assert procrustes.fit_rigid(points, target)[0].isnan().flatten(1).all(dim=1).tolist() == [True, False]


# --- labels: small, lost, at the border, on another grid


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
@pytest.mark.parametrize("size", [(3, 3, 2), (7, 8, 8)])  # 18 and 448 voxels
def test_a_small_vertebra_that_moves_rigidly(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    shape, turn, shift = (15, 17, 19), rotation((6, -4, 5)), (1.2, -0.7, 0.4)
    labels = box(shape, (4, 4, 5), [4 + size[0], 4 + size[1], 5 + size[2]])
    u = affine_field(turn, shift, shape, spacing, torch.float64)
    soft = label_warping.warp_soft(labels, u, [1])
    for start in (u, None):
        fit = rigid.closest_rigid(labels, soft, [1], spacing, start)
        assert fit.converged.all() and fit.residual.item() < 1e-3
        torch.testing.assert_close(fit.rotation[0], turn, atol=5e-3, rtol=0)
        assert rigid.rigid_dice(labels, soft, [1], spacing, fit=fit).item() > 0.9999
    assert rigid.rigid_field(u, soft, spacing).item() < 1e-10
    assert max(v.item() for v in regularity.rigidity(u, soft, spacing)) < 1e-12
    assert [v.item() < 1e-6 for v in rigid.pose_error(u, u, soft[0] > 0.5, spacing)] == [True] * 3


def test_one_voxel_by_hand() -> None:
    """Half-way to it is half; any motion of it is rigid; a slope of 0.5 along z at it is |J| = 1.5."""
    labels = box((5, 5, 5), (2, 2, 2), (3, 3, 3))
    u = torch.zeros(1, 3, 5, 5, 5)
    u[:, 2] = 0.5
    assert label_warping.warp_soft(labels, u, [1])[0, 2, 2].tolist() == [0, 0.5, 0.5, 0, 0]
    assert not label_warping.warp_labels(labels, u, [1]).any()  # background wins both ties
    u[0, 0] = 0.5 * torch.arange(5.0).view(5, 1, 1)
    soft = (labels == 1)[None].float()
    assert rigid.rigid_field(u, soft, ANISOTROPIC).item() == 0
    found = rigid.pose_error(u, 0 * u, labels == 1, ANISOTROPIC)
    assert [v.item() for v in found] == pytest.approx([0, math.hypot(2.5, 0.4), math.hypot(2.5, 0.4)], abs=1e-6)
    assert [v.item() for v in regularity.rigidity(u, soft)] == [0.25, 1.5625]  # (1.5^2 - 1)^2
    assert boxes.label_boxes(labels, [1, 2]) == [(slice(2, 3),) * 3, None]
    assert boxes.bounding_box(labels == 1) == (slice(2, 3),) * 3


@pytest.mark.parametrize("far", [50.0, -50.0, 1e30])
def test_a_displacement_that_takes_a_label_wholly_outside(far: float) -> None:
    u = torch.full((1, 3, *SHAPE), far, requires_grad=True)
    hard, soft, moving = (
        label_warping.warp_labels(LABEL, u, [1]),
        label_warping.warp_soft(LABEL, u, [1]),
        (LABEL == 1)[None].float(),
    )
    assert not hard.any() and not soft.any() and not fields.lands_inside(u, SHAPE).any()
    assert not fields.warp(moving[None], u).any()
    assert overlap.dice(LABEL, hard, [1]).tolist() == overlap.soft_dice(moving, soft).tolist() == [0]
    assert overlap.hd95_mm(LABEL, hard, [1], UNIT).isnan().all()
    assert volume.volume_change_pct(LABEL, hard, [1]).tolist() == [-100]
    assert volume.volume_loss(moving, soft).item() == 1
    for warped in (hard, soft):
        assert rigid.rigid_dice(LABEL, warped, [1], UNIT, u).isnan().all()
    assert rigid.rigid_field(u, soft, UNIT).isnan().all() and regularity.rigidity(u, soft)[0].isnan().all()
    assert regularity.inverse_consistency(u, u).isnan().all()
    away = rigid.RigidFit(torch.eye(3)[None], torch.full((1, 3), far), torch.zeros(1), torch.ones(1) > 0)
    assert not rigid.rigid_resample(LABEL, away, [1], UNIT).any()


def test_an_empty_label_leaves_the_gradient_of_the_others_alone() -> None:
    """`nansum` over labels of which one is empty: 0 / 0 has a NaN gradient, however little of it is wanted."""
    present = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, *SHAPE)
    u, w = bent_field(SHAPE).requires_grad_(), (torch.rand(2, *SHAPE) * present).requires_grad_()
    values = [*regularity.rigidity(u, w), regularity.weighted_mean(u[:, 0], w), rigid.rigid_field(u, w, UNIT)]
    for value in (*values, overlap.soft_dice(w, present / 2), volume.volume_loss(present[:, None], w[:, None])):
        assert value.isnan().sum() == 1
        of_u, of_w = torch.autograd.grad(value.nansum(), (u, w), retain_graph=True, allow_unused=True)
        assert of_w.isfinite().all() and of_w[0].any() and (of_u is None or of_u.isfinite().all())


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, -2, 0), (0, 0, 3), (-1, 2, -3)])
def test_a_whole_voxel_shift_is_exact(shift: tuple[int, int, int]) -> None:
    """On grids of two shapes, for a label at the border of the moving one: a box moves as it is, or is cut."""
    moving_shape, fixed_shape = (6, 7, 9), (11, 13, 15)
    low, high = (0, 2, 4), (3, 7, 9)  # at the first z, the last y and the last x
    labels, u = box(moving_shape, low, high), torch.zeros(1, 3, *fixed_shape)
    u += torch.tensor(shift).view(1, 3, 1, 1, 1)
    first, last = ([max(v - s, 0) for v, s in zip(edge, shift, strict=True)] for edge in (low, high))
    expected = box(fixed_shape, first, last)
    assert torch.equal(label_warping.warp_labels(labels, u, [1]), expected)
    soft = label_warping.warp_soft(labels, u, [1])
    assert torch.equal(soft[0], expected.float())
    torch.testing.assert_close(fields.warp((labels == 1).float()[None, None], u)[0], soft, atol=1e-5, rtol=0)
    assert torch.equal(fields.lands_inside(u, moving_shape), fields.warp(torch.ones(1, 1, *moving_shape), u).round())
    same([fields.compose(u, u), fields.integrate(u), *fields.invert(u)], [2 * u, u, -u, 0 * u[:, :1]])
    assert (fields.jacobian_determinant(fields.jacobian(u, ANISOTROPIC)) == 1).all()
    assert [v.item() for v in regularity.rigidity(u, soft, ANISOTROPIC)] == [0, 0]
    assert regularity.diffusion(u).item() == 0
    for start in (u, None):
        fit = rigid.closest_rigid(labels, soft, [1], ANISOTROPIC, start)
        same(
            [fit.translation[0] / torch.tensor(ANISOTROPIC), fit.rotation[0]], [torch.tensor(shift), torch.eye(3)], 2e-3
        )
        same(rigid.rigid_resample(labels, fit, [1], ANISOTROPIC, fixed_shape), soft, 5e-3)
        for warped in (soft, expected):
            assert rigid.rigid_dice(labels, warped, [1], ANISOTROPIC, fit=fit).item() == pytest.approx(1, abs=1e-5)
    kept = math.prod(b - a for a, b in zip(first, last, strict=True)) / (3 * 5 * 5)
    assert volume.volume_change_pct(labels, expected, [1]).item() == pytest.approx(100 * (kept - 1))


@pytest.mark.parametrize("n", [3, 9, 49, 128, 257])
def test_a_whole_voxel_shift_of_an_image_is_exact_to_rounding(n: int) -> None:
    """grid_sample counts in half axes, so that a float32 position is off by some 1e-7 of one."""
    image, u = torch.rand(1, 1, 1, 1, n), torch.zeros(1, 3, 1, 1, n)
    u[:, 2] = 2
    torch.testing.assert_close(fields.warp(image, u)[..., :-2], image[..., 2:], atol=2e-7 * n, rtol=0)
    assert (fields.warp(image, u)[..., -2:] == 0).all()
    assert torch.equal(fields.warp(image, u, "nearest")[..., :-2], image[..., 2:])


def test_label_values_and_grids_that_cannot_be_meant_are_refused() -> None:
    """Label 0 would silently be the largest one's box; another grid would be read in the wrong order."""
    u, soft = torch.zeros(1, 3, *SHAPE), (LABEL == 1)[None].float()
    with pytest.raises(ValueError, match="ids: expected positive"):
        label_warping.warp_soft(LABEL, u, [0])
    for other in (u[..., 1:], u[..., 1:, :], u.expand(2, -1, -1, -1, -1)):
        with pytest.raises(ValueError, match="displacement: expected"):
            rigid.rigid_field(other, soft, UNIT)
        with pytest.raises(ValueError, match="true_displacement: expected"):
            rigid.pose_error(u, other, LABEL == 1, UNIT)
        with pytest.raises(ValueError, match="displacement: expected"):
            rigid.closest_rigid(LABEL, soft, [1], UNIT, other)
    with pytest.raises(ValueError, match="weights: expected grid"):
        regularity.rigidity(u[..., 1:], soft)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int64])
def test_every_label_type_warps_and_fits_alike(dtype: torch.dtype) -> None:
    labels, u = LABEL.to(dtype), bent_field(SHAPE, 0.5)
    warped = label_warping.warp_labels(labels, u, [1])
    assert warped.dtype == dtype and torch.equal(warped.int(), label_warping.warp_labels(LABEL, u, [1]))
    same(rigid.rigid_dice(labels, warped, [1], UNIT, u), rigid.rigid_dice(LABEL, warped.int(), [1], UNIT, u), 0)


# --- gradients that no other file checks


def test_gradients_not_checked_elsewhere() -> None:
    """Away from whole voxels and from the border, where linear interpolation has a kink."""
    u, v = ((0.3 + bent_field((3, 3, 4), a, torch.float64)).requires_grad_() for a in (0.15, -0.1))
    assert torch.autograd.gradcheck(fields.compose, (u, v))
    assert torch.autograd.gradcheck(lambda a: fields.invert(a, 2)[0], (u,))
    labels = box((4, 3, 5), (0, 0, 1), (2, 2, 3)) + box((4, 3, 5), (2, 1, 3), (4, 3, 5), 2)
    assert torch.autograd.gradcheck(lambda a: label_warping.warp_soft(labels, a, IDS), (u,))  # two labels, another grid
    weights = torch.rand(1, 2, 3, 3, 4, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(regularity.weighted_mean, (u[:, 0], weights))


def test_rigid_field_gradient_in_the_weights() -> None:
    """With the fit held fixed: of a weighted mean, (the voxel's distance - the mean) / the sum of the weights."""
    u = bent_field((3, 4, 3), 0.5, torch.float64)
    weights = (torch.rand(1, 3, 4, 3, dtype=torch.float64) + 0.1).requires_grad_()
    mean = rigid.rigid_field(u, weights, UNIT)
    p = torch.ones(3, 4, 3).nonzero().double()
    moved = p + u[0].flatten(1).T
    r, t = procrustes.fit_rigid(p, moved, weights.detach().flatten())
    expected = ((moved - p @ r.T - t).norm(dim=1) - mean.detach()) / weights.detach().sum()
    torch.testing.assert_close(torch.autograd.grad(mean.sum(), weights)[0].flatten(), expected)
