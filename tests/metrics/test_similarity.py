"""metrics/similarity.py: mutual information and normalised gradient fields against definitions, scipy and MONAI."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.losses import GlobalMutualInformationLoss
from scipy.interpolate import BSpline
from support.hand_built import ANISOTROPIC, UNIT, textured
from support.hand_built import TEXTURED_SHAPE as SHAPE

from metrics.fields import identity_grid
from metrics.similarity import mutual_information, ngf, nmi, seen_in_both


def related(seed: int = 0, batch: int = 1, dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Two dependent images: the second is a nonlinear function of the first plus noise."""
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
    """MONAI spreads the range of the whole batch over bins - 4 bins and clips the upper end of the last one.

    A second item of range (bins - 4) / (bins - 5) keeps the first item away from that bin: it then has bins - 5 bins,
    as here with two bins fewer. In double precision MONAI's smoothing is small enough to have no effect.
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
def test_nmi_is_symmetric_bounded_and_invariant_to_contrast(
    seed: int, scale: float, negative: bool, offset: float
) -> None:
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
    """A voxel at an end of the range, which another voxel holds, has the one-sided slope of its window."""
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
def test_batches_and_strides_do_not_change_measures(measure: Callable[..., torch.Tensor]) -> None:
    """Each item equals its own result, for any strides; one mask serves all; single precision is near double."""
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
    assert ngf(2 * z, 3 * z, spacing_mm=spacing).item() == pytest.approx(1 - 0.5**2)  # epsilon is the mean slope


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
def test_ngf_is_symmetric_bounded_and_invariant_to_contrast(
    seed: int, scale: float, negative: bool, offset: float
) -> None:
    a, b = related(seed)
    found = ngf(a, b)
    torch.testing.assert_close(ngf(b, a), found)
    torch.testing.assert_close(ngf((-scale if negative else scale) * a + offset, b), found)
    assert 0 <= ngf(a, a).item() <= found.item() <= 1


def test_ngf_gradient() -> None:
    """With a given epsilon. The epsilon of `None` has no gradient, so both gradients agree."""
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


def test_voxels_are_compared_where_both_scans_saw_them() -> None:
    """The moving scan saw x < 4 and the fixed one x > 0; the field leads by one voxel, out of the image at x = 5."""
    x = torch.arange(6.0).expand(1, 1, 3, 3, 6)
    u = torch.zeros(1, 3, 3, 3, 6)
    u[:, 2] = 1
    weights = [
        seen_in_both(u, (3, 3, 6), moving_inside=moving, fixed_inside=fixed)[0, 0, 1, 1].tolist()
        for moving, fixed in ((None, None), (x < 4, None), (None, x > 0), (x < 4, x > 0))
    ]
    assert weights == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]]


def test_a_point_of_which_half_is_unseen_is_not_compared() -> None:
    u = torch.zeros(1, 3, 3, 3, 6)
    u[:, 2] = 0.5
    x = torch.arange(6.0).expand(1, 1, 3, 3, 6)
    assert seen_in_both(u, (3, 3, 6), moving_inside=x < 4)[0, 0, 1, 1].tolist() == [1, 1, 1, 0, 0, 0]


def test_fixed_limits_replace_the_range_of_the_images() -> None:
    """With the images' own ranges nothing changes; values beyond the limits count as the limits."""
    a, b = torch.rand(2, 1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    ranges = ((a.min().item(), a.max().item()), (b.min().item(), b.max().item()))
    torch.testing.assert_close(nmi(a, b, 16, limits=ranges), nmi(a, b, 16))
    inner = ((0.2, 0.8), (0.1, 0.9))
    clipped = nmi(a.clamp(0.2, 0.8), b.clamp(0.1, 0.9), 16, limits=inner)
    torch.testing.assert_close(nmi(a, b, 16, limits=inner), clipped)
    part = (a[..., :4], b[..., :4])
    assert nmi(*part, 16, limits=ranges) != nmi(*part, 16), "the range of a part is another"
