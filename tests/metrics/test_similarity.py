"""metrics/similarity.py: MIND-SSC against its definition written out, its invariance and its gradient."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.similarity import mind_loss, mind_ssc

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


def test_loss_by_hand() -> None:
    a, b = torch.zeros(2, 12, 2, 2, 2), torch.zeros(2, 12, 2, 2, 2)
    b[0], b[1, :6] = 0.5, 1.0
    assert mind_loss(a, b).tolist() == [0.25, 0.5]


def test_weighted_loss_by_hand() -> None:
    """Half of the voxels differ by 1: a weight of 3 there and 1 elsewhere makes 3 / 4; no weight at all has no mean."""
    a, b, weights = torch.zeros(2, 12, 2, 2, 2), torch.zeros(2, 12, 2, 2, 2), torch.ones(2, 1, 2, 2, 2)
    b[..., 0], weights[..., 0] = 1.0, 3.0
    weights[1] = 0
    found = mind_loss(a, b, weights)
    assert found[0].item() == 0.75 and found[1].isnan()
    torch.testing.assert_close(mind_loss(a, b, weights * 0 + 0.2), mind_loss(a, b))


def test_loss_is_least_where_the_images_agree() -> None:
    image = textured()
    assert mind_loss(mind_ssc(image), mind_ssc(1 - image)).item() < 1e-12
    assert mind_loss(mind_ssc(image), mind_ssc(image.roll(1, -1))).item() > 0.01


def test_gradient() -> None:
    """Of the descriptor where no guard binds; the guard's own mean is held fixed on purpose."""
    image = textured()[..., :4, :4, :5].clone().requires_grad_()
    other = mind_ssc(textured(1)[..., :4, :4, :5])
    assert torch.autograd.gradcheck(lambda v: mind_loss(mind_ssc(v, radius=1, dilation=1), other), (image,))


@pytest.mark.parametrize("shape", [(1, 2, 4, 4, 4), (1, 4, 4, 4)])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected"):
        mind_ssc(torch.zeros(shape))
