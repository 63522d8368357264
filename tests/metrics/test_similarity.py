"""metrics/similarity.py: each measure against its definition written out, closed forms, invariance and gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import GlobalMutualInformationLoss
from scipy.interpolate import BSpline
from support.hand_built import ANISOTROPIC, UNIT

from metrics import _mind
from metrics.fields import identity_grid
from metrics.similarity import mind_loss, mind_ssc, mutual_information, ngf, nmi

SHAPE = (7, 8, 9)


def textured(seed: int = 0, batch: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *SHAPE, generator=generator, dtype=dtype)


def slow_patch_distances(image: torch.Tensor, radius: int, dilation: int) -> list[torch.Tensor]:
    """The twelve pairs of six-neighbours at a right angle, every patch summed voxel by voxel."""
    steps = [tuple(dilation * s * (a == b) for b in range(3)) for a in range(3) for s in (-1, 1)]
    pairs = [(a, b) for k, a in enumerate(steps) for b in steps[k + 1 :] if sum(p * q for p, q in zip(a, b)) == 0]  # noqa: B905
    reach = radius + dilation
    padded = F.pad(image, (reach,) * 6, mode="replicate")[0, 0]

    def at(z: int, y: int, x: int) -> torch.Tensor:
        starts = (reach + z, reach + y, reach + x)
        return padded[tuple(slice(s, s + n) for s, n in zip(starts, SHAPE, strict=True))]

    patch = list(product(range(-radius, radius + 1), repeat=3))
    return [
        sum((at(*(p + q for p, q in zip(a, o))) - at(*(p + q for p, q in zip(b, o)))) ** 2 for o in patch)  # noqa: B905
        for a, b in pairs
    ]


def test_against_the_definition() -> None:
    """exp(-(D - min D) / V), V the mean over the twelve pairs, in any order of the channels."""
    image = textured()
    distances = torch.stack(slow_patch_distances(image, 2, 2))
    distances = distances - distances.amin(0)
    expected = torch.exp(-distances / distances.mean(0))
    found = mind_ssc(image)[0]
    assert found.shape == (12, *SHAPE)
    torch.testing.assert_close(found.sort(0).values, expected.sort(0).values)
    for channel in found:  # and each channel is one of the definition's
        assert min((channel - e).abs().max().item() for e in expected) < 1e-9


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 50), st.booleans(), st.floats(-20, 20))
def test_it_does_not_see_scale_sign_or_offset(seed: int, a: float, negative: bool, b: float) -> None:
    image = textured(seed)
    torch.testing.assert_close(mind_ssc((-a if negative else a) * image + b), mind_ssc(image), atol=1e-6, rtol=1e-5)


def test_range_and_an_image_of_one_value() -> None:
    found = mind_ssc(textured(dtype=torch.float32))
    assert (found > 0).all() and (found <= 1).all()
    torch.testing.assert_close(found.amax(1), torch.ones(1, *SHAPE))  # the best pair has D - min D = 0
    assert (mind_ssc(torch.full((1, 1, *SHAPE), 0.3)) == 1).all()


def test_items_of_a_batch_do_not_see_each_other() -> None:
    images = textured(batch=2)
    images[1] *= 100
    together = mind_ssc(images)
    for k in range(2):
        torch.testing.assert_close(together[k : k + 1], mind_ssc(images[k : k + 1]))
    torch.testing.assert_close(mind_ssc(images.mT.contiguous().mT), together)


def test_loss_is_the_weighted_mean_squared_difference_of_the_descriptors() -> None:
    a, b = textured(batch=2), textured(1, batch=2)
    squares = (mind_ssc(a) - mind_ssc(b)).square().mean(dim=1, keepdim=True)
    torch.testing.assert_close(mind_loss(a, b), squares.mean(dim=(1, 2, 3, 4)))
    weights = textured(2, batch=2)
    expected = (squares * weights).sum(dim=(1, 2, 3, 4)) / weights.sum(dim=(1, 2, 3, 4))
    torch.testing.assert_close(mind_loss(a, b, weights), expected)
    torch.testing.assert_close(mind_loss(a, b, weights[:1]), mind_loss(a, b, weights[:1].expand_as(a)))
    weights[1] = 0
    assert mind_loss(a, b, weights).isnan().tolist() == [False, True]


@pytest.mark.parametrize("voxels", [1, 2 * 8 * 9, 3 * 8 * 9])
def test_slabs_leave_no_seam(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the slabs, the last one shorter: the same descriptors, loss and gradients."""
    results = []
    for slab in (10**6, voxels):
        monkeypatch.setattr(_mind, "SLAB", slab)
        a, b = textured().requires_grad_(), textured(1).requires_grad_()
        loss = mind_loss(a, b, textured(2))
        results.append([mind_ssc(a).detach(), loss.detach(), *torch.autograd.grad(loss.sum(), (a, b))])
    for one, many in zip(*results, strict=True):
        torch.testing.assert_close(many, one)


def test_loss_is_least_where_the_images_agree() -> None:
    image = textured()
    assert mind_loss(image, 1 - image).item() < 1e-12
    assert mind_loss(image, image.roll(1, -1)).item() > 0.01


def test_a_nan_stays_in_its_item() -> None:
    images = textured(batch=2)
    images[1, 0, 3, 3, 3] = torch.nan
    assert mind_loss(images, textured(1, batch=2)).isnan().tolist() == [False, True]
    assert mind_ssc(images).isnan().flatten(1).all(dim=1).tolist() == [False, True]


def test_gradient() -> None:
    """Where no guard binds; the guard's own mean is held fixed on purpose. Borders and flat patches are in it."""
    a, b = (textured(k)[..., :4, :4, :5].clone().requires_grad_() for k in range(2))
    weights = textured(2)[..., :4, :4, :5]
    assert torch.autograd.gradcheck(lambda u, v: mind_loss(u, v, weights, radius=1, dilation=1), (a, b))
    assert torch.autograd.gradcheck(lambda v: mind_ssc(v, radius=1, dilation=2), (a,))


def test_a_flat_image_has_no_gradient_and_no_nan() -> None:
    flat = torch.full((1, 1, *SHAPE), 0.5, requires_grad=True)
    mind_loss(flat, textured(dtype=torch.float32)).sum().backward()
    assert (flat.grad == 0).all()


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 4), (1, 4, 4, 4)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        mind_ssc(torch.zeros(shape))
    with pytest.raises(ValueError, match="expected"):
        mind_loss(torch.zeros(shape), torch.zeros(shape))


def related(seed: int = 0, batch: int = 1, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two images that know something of each other: the second is a bent contrast of the first, with noise."""
    a = textured(seed, batch, dtype)
    return a, torch.sin(5 * a) + 0.3 * textured(seed + 1, batch, dtype)


def slow_joint_histogram(a: np.ndarray, b: np.ndarray, bins: int, weights: np.ndarray) -> np.ndarray:
    """Every voxel's window at every pair of bins, with scipy's cubic B-spline."""
    spline = BSpline.basis_element(np.arange(-2, 3), extrapolate=False)
    counts = weights > 0
    joint = np.zeros((bins, bins))
    for v, w, weight in zip(a[counts], b[counts], weights[counts], strict=True):
        places = [1 + (bins - 3) * (x - i[counts].min()) / np.ptp(i[counts]) for x, i in ((v, a), (w, b))]
        for i, j in product(range(bins), repeat=2):
            joint[i, j] += weight * np.nan_to_num(spline(i - places[0])) * np.nan_to_num(spline(j - places[1]))
    return joint / joint.sum()


@pytest.mark.parametrize("bins", [4, 9])
@pytest.mark.parametrize("weighted", [False, True])
def test_information_against_a_double_loop(bins: int, weighted: bool) -> None:
    """Mutual information as sum p log(p / (p_a p_b)); with weights, a third of them 0."""
    a, b = (v[..., :3, :4, :5] for v in related())
    weights = (textured(7)[..., :3, :4, :5] * 1.5 - 0.5).clamp(min=0) if weighted else torch.ones_like(a)
    p = slow_joint_histogram(a.numpy(), b.numpy(), bins, weights.numpy())
    p_a, p_b, seen = p.sum(1), p.sum(0), p > 0
    h_a, h_b, h_ab = (-(v[v > 0] * np.log(v[v > 0])).sum() for v in (p_a, p_b, p))
    given_weights = weights if weighted else None
    found = mutual_information(a, b, bins, given_weights).item()
    assert found == pytest.approx((p[seen] * np.log(p[seen] / np.outer(p_a, p_b)[seen])).sum(), abs=1e-12)
    assert nmi(a, b, bins, given_weights).item() == pytest.approx((h_a + h_b) / h_ab, abs=1e-12)


class CubicForBoth(GlobalMutualInformationLoss):
    """MONAI's b-spline loss, which has a box for the target, with its own cubic window there too."""

    def parzen_windowing(self, pred: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return *self.parzen_windowing_b_spline(pred, order=3), *self.parzen_windowing_b_spline(target, order=3)


def test_mutual_information_against_monai() -> None:
    """MONAI spreads the range of the whole batch over bins - 4 and presses the last of these onto its lower end.

    A second item of range (bins - 4) / (bins - 5) keeps the first clear of that: it then lies on bins - 5 bins, as it
    does here with two bins fewer. Double precision, and MONAI's smoothing made as small as no term shows.
    """
    bins = 20
    a, b = ((v - v.min()) / (v.max() - v.min()) for v in related())
    pairs = [torch.cat([v, v * (bins - 4) / (bins - 5)]) for v in (a, b)]
    monai = CubicForBoth("b-spline", bins, reduction="none", smooth_nr=1e-18, smooth_dr=1e-18)
    torch.testing.assert_close(mutual_information(a, b, bins - 2), -monai(*pairs)[:1], atol=1e-10, rtol=0)


def test_information_of_grey_levels_by_hand() -> None:
    """Four levels on bin centres, far apart: windows do not meet, each has the entropy h of (1/6, 4/6, 1/6).

    With itself I = ln 4 and NMI = 2 (ln 4 + h) / (ln 4 + 2 h); of levels along z and along x I = 0 and NMI = 1.
    """
    level = (identity_grid((4, 3, 4), dtype=torch.float64) * 20 - 7)[:, [0, 2]]
    a, b = level[:, :1], level[:, 1:]
    h = math.log(6) / 3 - 2 / 3 * math.log(2 / 3)
    assert mutual_information(a, a, bins=63).item() == pytest.approx(math.log(4))
    assert nmi(a, a, bins=63).item() == pytest.approx(2 * (math.log(4) + h) / (math.log(4) + 2 * h))
    assert mutual_information(a, b, bins=63).item() == pytest.approx(0, abs=1e-12)
    assert nmi(a, b, bins=63).item() == pytest.approx(1, abs=1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 50), st.booleans(), st.floats(-20, 20))
def test_nmi_is_symmetric_bounded_and_blind_to_contrast(seed: int, scale: float, negative: bool, offset: float) -> None:
    a, b = related(seed)
    found = nmi(a, b)
    torch.testing.assert_close(nmi(b, a), found)
    torch.testing.assert_close(nmi((-scale if negative else scale) * a + offset, b), found)
    assert 1 <= found.item() <= nmi(a, a).item() <= 2


def test_a_large_background_adds_up_in_single_precision() -> None:
    """0.44 added half a million times in float32 would be off by a per cent: half of the steps round alike."""
    a = torch.rand(1, 1, 64, 128, 128, generator=torch.Generator().manual_seed(0)).sub_(0.8).clamp_(min=0)
    b = a.flip(-1) + a
    torch.testing.assert_close(
        mutual_information(a, b).double(), mutual_information(a.double(), b.double()), atol=1e-5, rtol=0
    )


def with_range(inner: torch.Tensor) -> torch.Tensor:
    """(1, 1, 3, 3, 3) with 25 voxels of `inner` in (0, 1), and the 0 and 1 that set the range held fixed."""
    return torch.cat([inner, inner.new_tensor([0.0, 1.0])]).view(1, 1, 3, 3, 3)


@pytest.mark.parametrize("measure", [mutual_information, nmi])
def test_information_gradient(measure: Callable[..., torch.Tensor]) -> None:
    """Away from the ends of the range, which are held without gradient on purpose."""
    generator = torch.Generator().manual_seed(0)
    a, b, weights = (torch.rand(n, generator=generator, dtype=torch.float64, requires_grad=True) for n in (25, 25, 27))
    assert torch.autograd.gradcheck(
        lambda u, v, w: measure(with_range(u), with_range(v), 8, w.view(1, 1, 3, 3, 3)), (a, b, weights)
    )


def test_the_range_is_held_without_gradient() -> None:
    """A voxel at an end of the range, where another one holds it, has the slope of its window alone, from inside."""
    a, b = torch.linspace(0, 1, 25, dtype=torch.float64), textured()[..., :3, :3, :3]
    (found,) = torch.autograd.grad(nmi(with_range(a.requires_grad_()), b, 8).sum(), a)
    for end, step in ((0, 1e-6), (24, -1e-6)):
        moved = a.detach().clone()
        moved[end] += step
        expected = (nmi(with_range(moved), b, 8) - nmi(with_range(a.detach()), b, 8)) / step
        assert found[end].item() == pytest.approx(expected.item(), rel=1e-3)


def test_information_of_an_image_of_one_value() -> None:
    a, b = textured(dtype=torch.float32).requires_grad_(), torch.full((1, 1, *SHAPE), 0.3, requires_grad=True)
    assert mutual_information(a, b).item() == pytest.approx(0, abs=1e-6) and nmi(a, b).item() == pytest.approx(1)
    assert nmi(b, b).item() == pytest.approx(1)
    nmi(a, b).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert a.grad.abs().max() < 1e-6 and (b.grad == 0).all()


def test_a_voxel_without_weight_does_not_set_the_range() -> None:
    a, b = related()
    weights = (textured(5) > 0.4).double()
    far = a.where(weights > 0, 1000.0)
    torch.testing.assert_close(nmi(far, b, weights=weights), nmi(a, b, weights=weights))
    assert nmi(far, b).item() < nmi(a, b).item()


def test_fewer_bins_than_the_window_are_refused() -> None:
    with pytest.raises(ValueError, match="bins: expected at least 4"):
        nmi(*related(), bins=3)


MEASURES = pytest.mark.parametrize("measure", [mutual_information, nmi, ngf])


@MEASURES
def test_measures_of_a_batch_of_strange_layout(measure: Callable[..., torch.Tensor]) -> None:
    """Each item alone, whatever the strides; one mask for all; single precision near double."""
    a, b = related(batch=3)
    a[1] *= 100
    together = measure(a, b)
    assert together.shape == (3,) and together.dtype == torch.float64
    for k in range(3):
        torch.testing.assert_close(together[k : k + 1], measure(a[k : k + 1], b[k : k + 1]))
    torch.testing.assert_close(measure(a.mT.contiguous().mT, b.flip(3).contiguous().flip(3)), together)
    torch.testing.assert_close(measure(a, b, weights=torch.full_like(a, 0.2)), together)
    single = measure(a.float(), b.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), together, atol=1e-5, rtol=1e-5)


@MEASURES
def test_nan_and_absent_weights_stay_with_their_item(measure: Callable[..., torch.Tensor]) -> None:
    a, b = related(batch=3)
    weights = torch.ones_like(a)
    a[0, 0, 2, 3, 4], weights[2] = torch.nan, 0
    assert measure(a, b, weights=weights).isnan().tolist() == [True, False, True]
    assert measure(b, a).isnan().tolist() == [True, False, False]


@MEASURES
@pytest.mark.parametrize("shape", [(1, 5, 7), (6, 1, 1), (1, 1, 1)])
def test_an_axis_of_one_voxel(measure: Callable[..., torch.Tensor], shape: tuple[int, int, int]) -> None:
    a, b = (v[(..., *map(slice, shape))] for v in related())
    assert measure(a, b).isfinite().all()


@MEASURES
def test_another_pair_of_shapes_is_refused(measure: Callable[..., torch.Tensor]) -> None:
    a = textured()
    with pytest.raises(ValueError, match="a: expected"):
        measure(a[0], a[0])
    with pytest.raises(ValueError, match="b: expected the shape of a"):
        measure(a, a[..., 1:])


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
def test_ngf_of_slopes_by_hand(spacing: tuple[float, float, float]) -> None:
    """Along z and x, and at 45 degrees between them in millimetres; a slope s keeps s^2 / (s^2 + eps^2) of itself."""
    z, _, x = (identity_grid((4, 3, 5), dtype=torch.float64) * torch.tensor(spacing).view(1, 3, 1, 1, 1)).split(
        1, dim=1
    )
    kept, eps = 4 / (4 + 0.25), (0.5, 0.5)
    assert ngf(2 * z, 2 * x, eps, spacing).item() == 1
    assert ngf(2 * z, 2 * z, eps, spacing).item() == pytest.approx(1 - kept**2)
    assert ngf(2 * z, -2 * z, eps, spacing).item() == pytest.approx(1 - kept**2)
    assert ngf(2 * z, z + x, (1e-9, 1e-9), spacing).item() == pytest.approx(0.5)
    assert ngf(2 * z, 1 - z, (1e-9, 1e-9), spacing).item() == pytest.approx(0)
    assert ngf(2 * z, 3 * z, spacing_mm=spacing).item() == pytest.approx(1 - 0.5**2)  # the rule: eps is the slope


@pytest.mark.parametrize("epsilon", [None, (0.3, 2.0)])
def test_ngf_against_numpy(epsilon: tuple[float, float] | None) -> None:
    """numpy.gradient has the same differences, one-sided at the border too; half of the voxels count."""
    a, b = related()
    weights = (textured(5) > 0.5).double()
    counts = weights[0, 0].numpy() > 0
    g, h = (np.stack(np.gradient(v[0, 0].numpy(), *ANISOTROPIC)) for v in (a, b))
    e, f = epsilon or (np.linalg.norm(v, axis=0)[counts].mean() for v in (g, h))
    distance = 1 - (g * h).sum(0) ** 2 / (((g**2).sum(0) + e**2) * ((h**2).sum(0) + f**2))
    assert ngf(a, b, epsilon, ANISOTROPIC, weights).item() == pytest.approx(distance[counts].mean())


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.floats(0.05, 50), st.booleans(), st.floats(-20, 20))
def test_ngf_is_symmetric_bounded_and_blind_to_contrast(seed: int, scale: float, negative: bool, offset: float) -> None:
    a, b = related(seed)
    found = ngf(a, b)
    torch.testing.assert_close(ngf(b, a), found)
    torch.testing.assert_close(ngf((-scale if negative else scale) * a + offset, b), found)
    assert 0 <= ngf(a, a).item() <= found.item() <= 1


def test_ngf_gradient() -> None:
    """With epsilon given; the rule's epsilon is held without gradient, so that both have the same one."""
    a, b = (v[..., :3, :4, :2].clone().requires_grad_() for v in related())
    weights = textured(5)[..., :3, :4, :2].clone().requires_grad_()
    eps = [float(np.linalg.norm(np.stack(np.gradient(v[0, 0].detach().numpy())), axis=0).mean()) for v in (a, b)]
    assert torch.autograd.gradcheck(lambda u, v, w: ngf(u, v, (0.3, 2.0), ANISOTROPIC, w), (a, b, weights))
    by_rule = torch.autograd.grad(ngf(a, b).sum(), (a, b))
    torch.testing.assert_close(by_rule, torch.autograd.grad(ngf(a, b, (eps[0], eps[1])).sum(), (a, b)))


def test_ngf_of_a_flat_image() -> None:
    a, b = textured(dtype=torch.float32).requires_grad_(), torch.full((1, 1, *SHAPE), 0.3, requires_grad=True)
    assert ngf(a, b).item() == ngf(b, b).item() == 1
    (ngf(a, b) + ngf(b, b)).sum().backward()
    assert a.grad is not None and b.grad is not None
    assert (a.grad == 0).all() and (b.grad == 0).all()


@pytest.mark.parametrize("epsilon", [(0.0, 1.0), (1.0, -1.0), (1.0, math.nan)])
def test_an_epsilon_that_is_not_above_zero_is_refused(epsilon: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="epsilon: expected"):
        ngf(*related(), epsilon)
