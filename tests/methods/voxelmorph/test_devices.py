"""Precision of a device, and one network trained by two processes over gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from support.cuda import needs_cuda

from methods.base import Progress
from methods.voxelmorph import checkpoint
from methods.voxelmorph.augmentation import augment
from methods.voxelmorph.devices import resolve_precision
from methods.voxelmorph.samples import make_sample
from methods.voxelmorph.settings import Training, learning_rate, patient_of
from methods.voxelmorph.trainer import NETWORK, loss_of, train

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = Training(steps=3, shrink_factor=1, patch=(16, 32, 32), precision="fp32", penalties={"pc": 0.5}, ema=0,
                    validate_every=2, checkpoint_every=2, clip=None)  # fmt: skip

CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from methods.base import Progress
from methods.registry import DATASETS, load_plugin
from methods.voxelmorph.settings import Training
from methods.voxelmorph.trainer import train
load_plugin("tests/plugins/learner.py")
data = DATASETS.create("blocks")
pairs = [data.load(n).pair.blind(n) for n in data.cases("train")]
for steps in (2, 3):  # the second call resumes
    train(pairs, [data.load("block-3")], Path(sys.argv[1]), {settings}, 0, Progress(), until=steps)
"""


def test_auto_is_bf16_if_the_processor_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for has_bf16, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda has=has_bf16: {"avx512_bf16": has}, raising=False)
        assert resolve_precision("auto", "cpu") == expected
        assert resolve_precision("fp32", "cpu") == "fp32" and resolve_precision("bf16", "cpu") == "bf16"


def test_bf16_changes_the_loss_little_and_keeps_float32_gradients(learner: ModuleType) -> None:
    sample = make_sample(learner.block_case(0).pair, 1)
    state = checkpoint.initial_state(replace(SETTINGS, final_layer_std=0.02), 0)
    fp32, bf16 = (loss_of(state.network, sample, replace(SETTINGS, precision=p)) for p in ("fp32", "bf16"))
    assert fp32.total.item() == pytest.approx(bf16.total.item(), rel=0.02) and fp32.total != bf16.total
    bf16.total.backward()
    assert {p.grad.dtype for p in state.network.parameters() if p.grad is not None} == {torch.float32}


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the message on a machine without a GPU")
def test_cuda_without_a_gpu_is_refused(learner: ModuleType, tmp_path: Path) -> None:
    case = learner.block_case(0)
    with pytest.raises(ValueError, match="expected cpu, got cuda, but torch finds no CUDA device; use cpu"):
        train([case.pair.blind("a")], [case], tmp_path, replace(SETTINGS, device="cuda"), 0, Progress())


@needs_cuda
def test_a_training_on_the_cpu_is_resumed_on_cuda(learner: ModuleType, tmp_path: Path) -> None:
    case = learner.block_case(0)
    pairs = [case.pair.blind("a")]
    train(pairs, [case], tmp_path, SETTINGS, 0, Progress(), until=2)
    state = train(pairs, [case], tmp_path, replace(SETTINGS, device="cuda"), 0, Progress())
    assert state.step == 3 and (tmp_path / NETWORK).is_file()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed")
def test_two_processes_take_the_step_of_the_mean_gradient(learner: ModuleType, tmp_path: Path) -> None:
    script = tmp_path / "child.py"
    script.write_text(CHILD.replace("{settings}", repr(SETTINGS)))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, script, tmp_path / "two"], cwd=ROOT, capture_output=True, encoding="utf-8",
                          timeout=250, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    loaded = checkpoint.initial_state(SETTINGS, 0)
    checkpoint.load(tmp_path / "two" / checkpoint.NAME, loaded, SETTINGS, {"seed": 0, "patients": 3, "processes": 2})
    # One process computes the expected weights: two crops a step, the mean of their gradients.
    torch.set_num_threads(1)
    samples = [make_sample(learner.block_case(i).pair, 1) for i in range(3)]
    state = checkpoint.initial_state(SETTINGS, 0)
    for step in range(3):
        state.optimiser.param_groups[0]["lr"] = learning_rate(step, SETTINGS, 1)
        state.optimiser.zero_grad()
        for index in (2 * step, 2 * step + 1):
            crop = augment(samples[patient_of(index, 3, 0)], SETTINGS, 0, index)
            (loss_of(state.network, crop, SETTINGS).total / 2).backward()
        state.optimiser.step()
    for name, value in state.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="its checkpoint has other processes"):
        checkpoint.load(tmp_path / "two" / checkpoint.NAME, state, SETTINGS, {"seed": 0, "patients": 3, "processes": 1})
