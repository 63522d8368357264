"""metrics/_mind.py, by `mind_ssc` and `mind_loss`: the definition written out, invariance, slabs, gradients."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from support.hand_built import TEXTURED_SHAPE as SHAPE
from support.hand_built import textured

from metrics import _mind
from metrics.similarity import mind_loss, mind_ssc, mind_ssc_at


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
def test_descriptors_are_invariant_to_scale_sign_and_offset(seed: int, a: float, negative: bool, b: float) -> None:
    image = textured(seed)
    torch.testing.assert_close(mind_ssc((-a if negative else a) * image + b), mind_ssc(image), atol=1e-6, rtol=1e-5)


def test_range_and_an_image_of_one_value() -> None:
    found = mind_ssc(textured(dtype=torch.float32))
    assert (found > 0).all() and (found <= 1).all()
    torch.testing.assert_close(found.amax(1), torch.ones(1, *SHAPE))  # the best pair has D - min D = 0
    assert (mind_ssc(torch.full((1, 1, *SHAPE), 0.3)) == 1).all()


def test_items_of_a_batch_are_independent() -> None:
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
def test_results_do_not_depend_on_slabs(voxels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Descriptors, loss and gradients are the same for all slab sizes, also where the last slab is shorter."""
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
    """Where V is not clipped: the mean that clips it has no gradient. Borders and flat patches are included."""
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


@pytest.mark.parametrize("slab", [2**16, 200])
def test_descriptors_at_some_voxels_are_those_of_the_image(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal where the clipping of V, which depends on its mean, has no effect."""
    monkeypatch.setattr(_mind, "SLAB", slab)
    image = textured()
    chosen = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1)) < 0.1
    found = mind_ssc_at(image, chosen, 1, 2)
    torch.testing.assert_close(found, mind_ssc(image, 1, 2)[0][:, chosen].T)
    assert mind_ssc_at(image, torch.zeros_like(chosen)).shape == (0, 12)
    with pytest.raises(ValueError, match=r"image: expected \(1, 1, .*\), got"):
        mind_ssc_at(image[:, :, 1:], chosen)
