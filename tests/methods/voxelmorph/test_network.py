"""The network, its normalisation and its flow."""

from __future__ import annotations

import pytest
import torch
from support.short_training import strong_network

from methods.voxelmorph import network as network_module
from methods.voxelmorph.inference import for_inference
from methods.voxelmorph.network import VelocityUNet, flow, standardise
from metrics.fields import compose


def test_the_channels_are_the_papers_and_the_output_has_half_resolution() -> None:
    network = VelocityUNet()
    assert [c.out_channels for c in network.encoder] == [32, 32, 64, 64, 64]
    assert [(c.in_channels, c.out_channels) for c in network.decoder] == [(128, 64), (128, 64), (96, 64)]
    assert [c.out_channels for c in network.head] == [32, 32]
    image = torch.rand(1, 1, 32, 48, 16)
    assert network(image, image).shape == (1, 3, 16, 24, 8)
    with pytest.raises(ValueError, match="divisible by 16"):
        network(torch.rand(1, 1, 20, 32, 32), torch.rand(1, 1, 20, 32, 32))


def test_a_constant_velocity_gives_twice_its_value_in_full_voxels() -> None:
    velocity = torch.ones(1, 3, 8, 8, 8)
    torch.testing.assert_close(flow(velocity), torch.full((1, 3, 16, 16, 16), 2.0))


def test_the_flow_of_the_negative_velocity_is_the_inverse() -> None:
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4, 4), size=(16, 16, 16), mode="trilinear")
    forward, inverse = flow(0.5 * coarse), flow(-0.5 * coarse)
    # Upsampling after integration leaves an error of some tenths of a voxel, far below the displacement.
    inner = compose(forward, inverse)[..., 6:-6, 6:-6, 6:-6]
    assert inner.abs().max() < 0.1 * forward.abs().max()


@pytest.mark.parametrize("slices", [2, 6, 100])
def test_slabs_and_channels_last_do_not_change_the_velocity(monkeypatch: pytest.MonkeyPatch, slices: int) -> None:
    network, images = strong_network(), torch.rand(1, 2, 32, 16, 16)
    expected = network.velocity_of(images).detach()
    monkeypatch.setattr(network_module, "SLAB", slices * 16 * 16)
    with torch.inference_mode():
        torch.testing.assert_close(network.velocity_of(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(for_inference(network).velocity_of(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 4), (5, 4, 3)])
def test_convolving_without_upsampling_equals_upsampling_first(sizes: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = torch.nn.Conv3d(9, 7, 3, padding=1)
    x = torch.randn(2, 5, *sizes, generator=generator, requires_grad=True)
    skip = torch.randn(2, 4, *(2 * n for n in sizes), generator=generator, requires_grad=True)
    upsampled = convolution(torch.cat([torch.nn.functional.interpolate(x, scale_factor=2), skip], dim=1))
    cotangent = torch.randn(upsampled.shape, generator=generator)
    inputs = (x, skip, *convolution.parameters())
    expected = torch.autograd.grad(upsampled, inputs, cotangent)
    phases = network_module._convolved_up(x, skip, convolution)
    assert torch.allclose(phases, upsampled, atol=1e-5)
    for gradient, expected_gradient in zip(torch.autograd.grad(phases, inputs, cotangent), expected, strict=True):
        assert torch.allclose(gradient, expected_gradient, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [16, 32, 48])
def test_bf16_gradients_agree_with_float32_for_the_smallest_volumes(size: int) -> None:
    """oneDNN reads uninitialised memory if a level has two slices; here this memory is filled with NaN before."""
    torch.manual_seed(0)
    network, images = VelocityUNet(1e-2), torch.rand(2, 1, 1, size, 32, 32)

    def gradients(enabled: bool) -> dict[str, torch.Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            velocity = network(*images)
        (velocity * torch.linspace(-1, 1, velocity.numel()).view_as(velocity)).sum().backward()
        return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}

    expected = gradients(False)
    for _ in range(8):
        uninitialised = [torch.full((n,), torch.nan) for n in range(1000, 400_000, 40_000)]
        del uninitialised
        for name, gradient in gradients(True).items():
            assert (gradient - expected[name]).norm() < 0.2 * expected[name].norm(), name


def test_background_does_not_change_standardised_tissue() -> None:
    """64 voxels of 0.2 and 64 of 0.6 have mean 0.4 and SD 0.2, with any amount of air around them."""
    tissue = torch.tensor([0.2, 0.6]).repeat_interleave(64).reshape(1, 1, 2, 8, 8)
    for air in (0.0, 0.01):
        for slices in (0, 2, 20):
            image = torch.cat([tissue, torch.full((1, 1, slices, 8, 8), air)], dim=2)
            mr = standardise(torch.zeros_like(image), image)[1]
            assert torch.allclose(mr[:, :, :2], (tissue - 0.4) / 0.2, atol=1e-5)


def test_images_of_a_batch_are_standardised_separately_and_a_constant_one_is_zero() -> None:
    images = torch.stack([torch.rand(1, 4, 4, 4), torch.full((1, 4, 4, 4), 0.5), torch.zeros(1, 4, 4, 4)])
    mr = standardise(torch.zeros_like(images), images)[1]
    assert torch.equal(mr[:1], standardise(images[:1], images[:1])[1])
    assert (mr[1:] == 0).all()


def test_standardised_tissue_does_not_depend_on_unseen_voxels() -> None:
    tissue = torch.tensor([0.2, 0.6]).repeat_interleave(64).reshape(1, 1, 2, 8, 8)
    image = torch.cat([tissue, torch.full((1, 1, 5, 8, 8), 0.9)], dim=2)
    seen = torch.zeros_like(image, dtype=torch.bool)
    seen[:, :, :2] = True
    mr = standardise(torch.zeros_like(image), image, seen)[1]
    assert torch.allclose(mr[:, :, :2], (tissue - 0.4) / 0.2, atol=1e-5)
