"""The network, its flow, its losses and its penalties."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
import torch

from methods.base import Grid, Pair, Scan
from methods.registry import PENALTIES, create_method
from methods.voxelmorph import losses
from methods.voxelmorph import network as network_module
from methods.voxelmorph.inference import REACH, for_inference, in_pieces, predict
from methods.voxelmorph.items import coarsen
from methods.voxelmorph.losses import Warped, training_loss
from methods.voxelmorph.network import VelocityUNet, flow, pad_to_multiple
from metrics import _closest_rigid, boxes, label_warping, regularity
from metrics.fields import compose
from metrics.rigid import closest_rigid


def test_channels_and_sizes_are_the_papers() -> None:
    network = VelocityUNet()
    assert [c.out_channels for c in network.encoder] == [32, 32, 64, 64, 64]
    assert [(c.in_channels, c.out_channels) for c in network.decoder] == [(128, 64), (128, 64), (96, 64)]
    assert [c.out_channels for c in network.head] == [32, 32]
    image = torch.rand(1, 1, 32, 48, 16)
    assert network(image, image).shape == (1, 3, 16, 24, 8)
    with pytest.raises(ValueError, match="divisible by 16"):
        network(torch.rand(1, 1, 20, 32, 32), torch.rand(1, 1, 20, 32, 32))


def test_flow_of_a_constant_velocity_is_twice_it_in_full_voxels() -> None:
    velocity = torch.ones(1, 3, 8, 8, 8)
    torch.testing.assert_close(flow(velocity), torch.full((1, 3, 16, 16, 16), 2.0))


def test_flow_of_the_negative_velocity_is_the_inverse() -> None:
    torch.manual_seed(0)
    coarse = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4, 4), size=(16, 16, 16), mode="trilinear")
    there, back = flow(0.5 * coarse), flow(-0.5 * coarse)
    # Upsampling after integration leaves some tenths of a voxel: far below the displacement itself.
    inner = compose(there, back)[..., 6:-6, 6:-6, 6:-6]
    assert inner.abs().max() < 0.1 * there.abs().max()


def test_coarsening_keeps_intensity_and_labels_in_place(learner: ModuleType) -> None:
    pair = learner.block_case(0).pair
    item = coarsen(pair, 2)
    assert item.moving.shape == (1, 1, 16, 16, 16) and item.labels.shape == (16, 16, 16)
    assert item.moving.mean().item() == pytest.approx(float(pair.moving.image.mean()), rel=1e-5)
    assert item.labels[4:12, 4:12, 5:12].eq(20).all() and item.labels.eq(20).sum() == 8 * 8 * 7
    odd = pad_to_multiple(torch.arange(17.0).view(1, 1, 17, 1, 1).expand(1, 1, 17, 16, 5))
    assert odd.shape == (1, 1, 32, 16, 16) and odd[0, 0, 16:].unique().tolist() == [16], "continued, not cut to zero"


def test_prediction_is_on_the_pairs_own_grid_whatever_its_size() -> None:
    grid = Grid((21, 35, 18))
    image, labels = np.random.default_rng(0).random(grid.shape, np.float32), np.ones(grid.shape, np.uint16)
    pair = Pair("a", Scan(image, None, grid), Scan(image, labels, grid))
    assert predict(VelocityUNet(), pair, 2).shape == (1, 3, 21, 35, 18)


def strong(seed: int = 0) -> VelocityUNet:
    """A network whose velocity is some voxels long, so that a difference shows."""
    torch.manual_seed(seed)
    return VelocityUNet(start_sd=0.1)


@pytest.mark.parametrize("slices", [2, 6, 100])
def test_slabs_of_the_first_level_and_channels_last_change_nothing(
    monkeypatch: pytest.MonkeyPatch, slices: int
) -> None:
    network, images = strong(), torch.rand(1, 2, 32, 16, 16)
    expected = network.velocity_of(images).detach()
    monkeypatch.setattr(network_module, "SLAB", slices * 16 * 16)
    with torch.inference_mode():
        torch.testing.assert_close(network.velocity_of(images), expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(for_inference(network).velocity_of(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_pieces_give_the_velocity_of_the_whole(axis: int) -> None:
    sizes = [16, 16, 16]
    sizes[axis] = 240
    network, images = strong(), torch.rand(1, 2, *sizes)
    with torch.inference_mode():
        whole = in_pieces(network, images)
        pieces = in_pieces(network, images, largest=16 * 16 * 176)
        smallest = in_pieces(network, images, largest=1)
    assert whole.abs().mean() > 0.1
    torch.testing.assert_close(pieces, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(smallest, whole, rtol=1e-4, atol=1e-4)


def test_a_velocity_depends_on_no_voxel_further_away_than_reach() -> None:
    images = torch.rand(1, 2, 16 * 12, 16, 16, requires_grad=True)
    for row in (48, 55):  # of the half resolution; a multiple of 16 voxels, and just before the next
        (gradient,) = torch.autograd.grad(strong().velocity_of(images)[:, :, row].abs().sum(), images)
        seen = gradient.abs().amax(dim=(0, 1, 3, 4)).nonzero()[:, 0]
        assert 2 * row - seen.min() <= REACH and seen.max() - (2 * row + 1) <= REACH


@pytest.mark.parametrize("sizes", [(1, 1, 1), (2, 3, 4), (5, 4, 3)])
def test_convolving_what_is_repeated_twice_is_convolving_it_written_out(sizes: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    convolution = torch.nn.Conv3d(9, 7, 3, padding=1)
    x = torch.randn(2, 5, *sizes, generator=generator, requires_grad=True)
    skip = torch.randn(2, 4, *(2 * n for n in sizes), generator=generator, requires_grad=True)
    written_out = convolution(torch.cat([torch.nn.functional.interpolate(x, scale_factor=2), skip], dim=1))
    cotangent = torch.randn(written_out.shape, generator=generator)
    of = (x, skip, *convolution.parameters())
    expected = torch.autograd.grad(written_out, of, cotangent)
    ours = network_module._convolved_up(x, skip, convolution)
    assert torch.allclose(ours, written_out, atol=1e-5)
    for ours_grad, their_grad in zip(torch.autograd.grad(ours, of, cotangent), expected, strict=True):
        assert torch.allclose(ours_grad, their_grad, rtol=1e-4, atol=1e-4)


def test_bf16_moves_the_displacement_by_hundredths_of_a_voxel() -> None:
    grid = Grid((32, 32, 32))
    image = np.random.default_rng(0).random((2, *grid.shape), np.float32)
    pair = Pair("a", Scan(image[0], None, grid), Scan(image[1], np.ones(grid.shape, np.uint16), grid))
    network = for_inference(strong())
    exact, short = (predict(network, pair, 1, precision=p) for p in ("fp32", "bf16"))
    assert exact.norm(dim=1).mean() > 0.5
    assert 0 < (exact - short).norm(dim=1).mean() < 0.05 * exact.norm(dim=1).mean()


BLOCK = torch.zeros(24, 24, 24, dtype=torch.int32)
BLOCK[6:16, 6:16, 7:16] = 20


def turn(degrees: float, size: int = 24) -> torch.Tensor:
    """The displacement of a rotation about the grid's centre, axis z."""
    angle = torch.tensor(degrees).deg2rad()
    z, y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij")
    turned = torch.stack([z, angle.cos() * y - angle.sin() * x, angle.sin() * y + angle.cos() * x])
    return (turned - torch.stack([z, y, x]))[None]


def wild() -> torch.Tensor:
    """Noise, and a growth by a tenth, which changes volumes too."""
    noise = torch.randn(1, 3, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    return 0.5 * noise + 0.1 * (torch.stack(torch.meshgrid(*[torch.arange(24)] * 3, indexing="ij"))[None] - 11)


NAMES = ["pc", "oc", "rigid-dice", "rigid-field", "volume"]


@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_is_zero_for_a_rigid_motion_and_falls_along_its_gradient_otherwise(name: str) -> None:
    penalty = PENALTIES[name].load()
    assert penalty(Warped(torch.ones(1, 3, 24, 24, 24), BLOCK, [20])).item() == pytest.approx(0, abs=1e-5)
    # A resampled label is not quite as large as the label it came from.
    assert penalty(Warped(turn(8), BLOCK, [20])).item() == pytest.approx(0, abs=2e-3)
    field = wild().requires_grad_()
    value = penalty(Warped(field, BLOCK, [20]))
    (gradient,) = torch.autograd.grad(value, field)
    assert value > 0.005
    step = 0.02 * gradient / gradient.abs().max()
    assert penalty(Warped(field - step, BLOCK, [20])) < value, "the sign: what is minimised must straighten"


@pytest.mark.parametrize("name", NAMES[:-1])  # a label that is lost has lost its volume
def test_a_vertebra_that_has_left_the_view_counts_for_nothing(name: str) -> None:
    away = torch.full((1, 3, 24, 24, 24), 40.0, requires_grad=True)
    assert PENALTIES[name].load()(Warped(away, BLOCK, [20])).item() == 0


def test_rigid_dice_leaves_out_vertebrae_under_100_mm3_on_either_side() -> None:
    labels = BLOCK.clone()
    labels[18:22, 18:22, 18:23] = 21  # 80 voxels
    penalty = PENALTIES["rigid-dice"].load()
    alone, both = (penalty(Warped(wild(), labels, ids)) for ids in ([20], [20, 21]))
    assert both == alone and penalty(Warped(wild(), labels, [21])) == 0
    assert penalty(Warped(wild(), labels, [21], (2.0, 2.0, 2.0))) > 0, "millimetres, not voxels of a coarse grid"


def test_rigid_dice_holds_the_transform_fixed() -> None:
    """Its gradient is that of the Dice with the rigid label as a constant."""
    field = wild().requires_grad_()
    seen = Warped(field, BLOCK, [20])
    (ours,) = torch.autograd.grad(PENALTIES["rigid-dice"].load()(seen), field, retain_graph=True)
    fit = closest_rigid(BLOCK, seen.warped_soft.detach(), [20], (1.0, 1.0, 1.0), field.detach())
    rigid = losses.rigid_dice(BLOCK, seen.warped_soft, [20], (1.0, 1.0, 1.0), fit=fit)
    (theirs,) = torch.autograd.grad(1 - rigid.mean(), field)
    torch.testing.assert_close(ours, theirs)


def test_rigid_field_is_a_length_in_millimetres() -> None:
    penalty = PENALTIES["rigid-field"].load()
    one, two = (penalty(Warped(wild(), BLOCK, [20], (s, s, s))).item() for s in (1.0, 2.0))
    assert two == pytest.approx(2 * one, rel=1e-4) and 0.3 < one < 2


@pytest.mark.parametrize("name", [*NAMES, "my-penalty"])
def test_penalties_enter_the_loss_with_their_weight(name: str, learner: ModuleType) -> None:
    item = coarsen(learner.block_case(0).pair, 1)
    velocity = 0.3 * torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = training_loss(velocity, item.moving, item.fixed, item.labels, [20], 0.1, {})
    more = training_loss(velocity, item.moving, item.fixed, item.labels, [20], 0.1, {name: 0.5})
    assert more.total.item() == pytest.approx(plain.total.item() + 0.5 * more.terms[name], rel=1e-5)
    assert more.terms[name] > 0


@pytest.mark.parametrize("similarity", ["mind", "nmi", "ngf"])
def test_every_similarity_prefers_the_motion_that_brings_the_blocks_together(
    similarity: str, learner: ModuleType
) -> None:
    item = coarsen(learner.block_case(0).pair, 1)
    values = []
    for shift in (-1.0, 0.0, 1.0):  # of the velocity, half voxels: 2 voxels along x
        velocity = torch.zeros(1, 3, 16, 16, 16)
        velocity[:, 2] = shift
        loss = training_loss(velocity, item.moving, item.fixed, item.labels, [], 0, {}, similarity=similarity)
        values.append(loss.terms["similarity"])
    assert values[2] < values[1] < values[0]
    with pytest.raises(ValueError, match="expected mind, nmi or ngf, got 'mi'"):
        training_loss(velocity, item.moving, item.fixed, item.labels, [], 0, {}, similarity="mi")


def test_precision_and_pieces_are_settings_of_the_method() -> None:
    grid = Grid((320, 32, 32))  # at 2 mm a piece of 16 slices and what it reaches is not all of it
    image = np.random.default_rng(0).random((2, *grid.shape), np.float32)
    pair = Pair("a", Scan(image[0], None, grid), Scan(image[1], np.ones(grid.shape, np.uint16), grid))

    def displacement(**settings: object) -> np.ndarray:
        method = create_method("voxelmorph", settings)
        method.prepare("cpu", 1, 0)
        return method.register(pair).displacement_mm

    exact, short = displacement(precision="fp32"), displacement(precision="bf16")
    pieces = displacement(precision="fp32", largest_voxels=1)
    assert not np.array_equal(exact, short) and not np.array_equal(exact, pieces)
    np.testing.assert_allclose(pieces, exact, atol=1e-3)
    with pytest.raises(ValueError, match="precision"):
        create_method("voxelmorph", {"precision": "fp8"})


def test_all_penalties_of_a_step_find_each_label_s_boxes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    for name in ("label_boxes", "bounding_box"):
        original = getattr(boxes, name)

        def counting(*arguments: object, original: Callable = original, name: str = name) -> object:
            seen.append(name)
            return original(*arguments)

        for module in (boxes, losses, label_warping, regularity, _closest_rigid):
            monkeypatch.setattr(module, name, counting, raising=False)
    warped = Warped(wild(), BLOCK, [20])
    for name in NAMES:
        PENALTIES[name].load()(warped)
    assert sorted(seen) == ["bounding_box", "label_boxes"]
