"""The network, its flow, its training loop and its penalties."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from methods.base import Case, Grid, Pair, Scan
from methods.registry import PENALTIES
from methods.voxelmorph.losses import Warped, training_loss
from methods.voxelmorph.network import VoxelMorph, flow, pad_to_multiple
from methods.voxelmorph.trainer import Training, coarsen, patient_of, predict, train
from metrics.fields import compose

ROOT = Path(__file__).resolve().parents[2]


def block_case(seed: int, size: int = 32) -> Case:
    grid = Grid((size, size, size))
    rng = np.random.default_rng(seed)
    fixed, moving = np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.uint16)
    fixed[8:24, 8:24, 8:22] = 20
    moving[8:24, 8:24, 10:24] = 20
    mr = (0.7 - 0.4 * (fixed > 0) + 0.02 * rng.random(grid.shape)).astype(np.float32)
    ct = (0.3 + 0.2 * (moving > 0) + 0.02 * rng.random(grid.shape)).astype(np.float32)
    return Case(Pair(f"case-{seed}", Scan(mr, fixed, grid), Scan(ct, moving, grid)))


def test_channels_and_sizes_are_the_papers() -> None:
    network = VoxelMorph()
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


def test_coarsening_keeps_intensity_and_labels_in_place() -> None:
    pair = block_case(0).pair
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
    assert predict(VoxelMorph(), pair, 2).shape == (1, 3, 21, 35, 18)


def test_every_epoch_sees_every_patient_once_in_another_order() -> None:
    epochs = [[patient_of(e * 10 + i, 10, seed=3) for i in range(10)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(10)) and epochs[0] != epochs[1]


QUICK = Training(steps=6, coarsening=1, lr=1e-3, validate_every=3, checkpoint_every=2, penalties={"pc": 0.01})


def test_killed_and_resumed_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    cases = [block_case(i) for i in range(3)]
    pairs = [c.pair.blind(c.pair.case) for c in cases]

    class Killed(RuntimeError):
        pass

    class Fuse(list):
        """Pairs that fail at the fourth request for a new patient's volume."""

        def __getitem__(self, i: int) -> Pair:  # type: ignore[override]
            if (tmp_path / "b" / "checkpoint.safetensors").exists():
                raise Killed
            return super().__getitem__(i)

    train(pairs, cases[:1], tmp_path / "a", QUICK, seed=1, progress=lambda line: None)
    with pytest.raises(Killed):
        train(Fuse(pairs), cases[:1], tmp_path / "b", QUICK, seed=1, progress=lambda line: None)
    train(pairs, cases[:1], tmp_path / "b", QUICK, seed=1, progress=lambda line: None)
    whole, resumed = (load_file(tmp_path / k / "checkpoint.safetensors") for k in "ab")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        assert torch.equal(value, resumed[name]), name
    history = json.loads((tmp_path / "a" / "history.json").read_text(encoding="utf-8"))
    assert [h["step"] for h in history] == [3, 6] and {"dsc", "similarity", "smoothness", "pc"} <= set(history[0])


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    case = block_case(0)
    for settings in (replace(QUICK, steps=2), replace(QUICK, steps=3)):
        train([case.pair.blind("a")], [case], tmp_path, settings, seed=0, progress=lambda line: None)
    with pytest.raises(ValueError, match="its checkpoint has other smoothness, lr; choose another folder"):
        train([case.pair.blind("a")], [case], tmp_path, replace(QUICK, smoothness=1, lr=1), 0, lambda line: None)


def test_a_loss_that_is_not_finite_stops_and_names_the_patient(tmp_path: Path) -> None:
    case = block_case(0)
    image = case.pair.fixed.image.copy()
    image[0, 0, 0] = np.nan
    bad = Pair("anna", Scan(image, None, case.pair.grid), case.pair.moving)
    with pytest.raises(FloatingPointError, match="step 0: the loss is nan on anna"):
        train([bad], [case], tmp_path, QUICK, seed=0, progress=lambda line: None)


def test_training_on_one_pair_makes_it_more_alike_than_no_motion(tmp_path: Path) -> None:
    case = block_case(0)
    settings = Training(steps=60, coarsening=1, patch=None, smoothness=0.5, lr=1e-3, validate_every=60)
    network = VoxelMorph()
    network.load_state_dict(
        load_file(train([case.pair.blind("a")], [case], tmp_path, settings, seed=0, progress=lambda line: None))
    )
    item = coarsen(case.pair, 1)
    with torch.no_grad():
        trained = network(item.moving, item.fixed)
        alike = [
            training_loss(v, item.moving, item.fixed, item.labels, [], 0, {}).terms["similarity"]
            for v in (torch.zeros_like(trained), trained)
        ]
    assert alike[1] < 0.98 * alike[0]


@pytest.mark.parametrize("name", ["pc", "oc", "volume"])
def test_a_penalty_is_zero_for_a_shift_and_has_a_gradient_otherwise(name: str) -> None:
    labels = torch.zeros(16, 16, 16, dtype=torch.int32)
    labels[4:10, 4:10, 4:10] = 20
    penalty = PENALTIES[name].load()
    shift = torch.ones(1, 3, 16, 16, 16)
    assert penalty(Warped(shift, labels, [20])).item() == pytest.approx(0, abs=1e-6)
    wild = (0.5 * torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0))).requires_grad_()
    value = penalty(Warped(wild, labels, [20]))
    value.backward()
    assert value > 0 and wild.grad.abs().sum() > 0


def test_penalties_enter_the_loss_with_their_weight() -> None:
    item = coarsen(block_case(0).pair, 1)
    velocity = 0.3 * torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = training_loss(velocity, item.moving, item.fixed, item.labels, [20], 0.1, {})
    more = training_loss(velocity, item.moving, item.fixed, item.labels, [20], 0.1, {"pc": 0.5})
    assert more.total.item() == pytest.approx(plain.total.item() + 0.5 * more.terms["pc"], rel=1e-5)


def test_the_training_path_runs_without_itk_and_simpleitk() -> None:
    code = (
        "import sys\n"
        "for name in ('itk', 'SimpleITK'): sys.modules[name] = None\n"
        "import benchmark.datasets.phantom, methods.voxelmorph.method, methods.voxelmorph.trainer, benchmark.training\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)
