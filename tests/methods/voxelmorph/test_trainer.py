"""The protocol of a training: one trunk, branches that continue it, and trainings that are killed and resumed."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from support.short_training import CHANGES, QUICK, SHORT_STAGES, Recorder, same

from methods.base import Case, Pair, Paused, Progress, Scan
from methods.registry import create_method
from methods.voxelmorph import checkpoint, trainer, validation
from methods.voxelmorph.losses import training_loss
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.samples import make_sample
from methods.voxelmorph.settings import Training, patient_of
from methods.voxelmorph.trainer import NETWORK, train

ROOT = Path(__file__).resolve().parents[3]


def test_the_baseline_that_branches_off_equals_an_uninterrupted_training(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    plain = replace(QUICK, penalties={})
    train(pairs, cases[:1], tmp_path / "uninterrupted", plain, 1, Progress())
    train(pairs, cases[:1], tmp_path / "trunk", plain, 1, Progress(), until=8)
    state = train(pairs, cases[:1], tmp_path / "base", plain, 1, Progress(), trunk=tmp_path / "trunk")
    assert state.branched_at == 8
    assert same(tmp_path / "uninterrupted" / checkpoint.NAME, tmp_path / "base" / checkpoint.NAME)
    assert same(tmp_path / "uninterrupted" / NETWORK, tmp_path / "base" / NETWORK)
    histories = [json.loads((tmp_path / n / "history.json").read_text()) for n in ("uninterrupted", "base")]
    assert histories[0] == histories[1] and [h["step"] for h in histories[0]] == [0, 3, 6, 9, 10]


def test_a_variant_sees_the_same_data_as_the_baseline_after_the_branch(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, float]] = []
    original = trainer.augment

    def recording(sample: Any, settings: Training, seed: int, index: int) -> Any:
        crop = original(sample, settings, seed, index)
        drawn.append((index, float(crop.fixed.sum() + crop.moving.sum())))
        return crop

    monkeypatch.setattr(trainer, "augment", recording)
    train(pairs, cases[:1], tmp_path / "trunk", replace(QUICK, penalties={}), 1, Progress(), until=8)
    for name, penalties in (("base", {}), ("pc", {"pc": 0.5})):
        settings = replace(QUICK, penalties=penalties)
        train(pairs, cases[:1], tmp_path / name, settings, 1, Progress(), trunk=tmp_path / "trunk")
    assert [index for index, _ in drawn] == [*range(8), 8, 9, 8, 9]
    assert drawn[8:10] == drawn[10:12]
    assert not same(tmp_path / "base" / NETWORK, tmp_path / "pc" / NETWORK)
    history = json.loads((tmp_path / "pc" / "history.json").read_text())
    assert "pc" not in history[2] and history[-1]["pc"] > 0, "no penalty before the branch"


def test_trainings_from_one_trunk_have_their_own_branch_seeds(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int, str]] = []
    original = trainer.augment

    def recording(sample: Any, settings: Training, seed: int, index: int) -> Any:
        drawn.append((seed, index, sample.case))
        return original(sample, settings, seed, index)

    monkeypatch.setattr(trainer, "augment", recording)
    for name, branch_seed in (("voxelmorph", None), ("again", 1), ("third", 5)):
        settings = {"penalties": {}, "training": {**CHANGES, "branch": 0.8, "branch_seed": branch_seed}}
        create_method("voxelmorph", settings, name).fit(pairs, cases[:1], tmp_path, 5, Progress())
    expected = [(seed, step) for seed, steps in ((5, range(10)), (1, (8, 9)), (5, (8, 9))) for step in steps]
    assert drawn == [(seed, step, pairs[patient_of(step, 3, seed)].case) for seed, step in expected]
    assert {patient_of(8, 3, 1), patient_of(9, 3, 1)} != {patient_of(8, 3, 5), patient_of(9, 3, 5)}
    files = [tmp_path / name / NETWORK for name in ("voxelmorph", "again", "third")]
    assert not same(files[0], files[1]) and same(files[0], files[2])
    card = json.loads((tmp_path / "again" / "again.json").read_text())
    assert card["seed"] == 5 and card["training"]["branch_seed"] == 1
    changes = {**CHANGES, "branch": 0.8}
    settings = replace(create_method("voxelmorph", {"training": changes}).settings.resolved(), branch_seed=1)
    train(pairs, cases[:1], tmp_path / "uninterrupted", settings, 5, Progress())
    assert same(tmp_path / "uninterrupted" / NETWORK, files[1]), "the trunk does not change the result"
    assert "branch_seed" not in " ".join(card["deviations_from_the_paper"]).replace(" ", "_")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_paused_training_equals_an_uninterrupted_one(
    precision: str, cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    settings = replace(QUICK, precision=precision)
    train(pairs, cases[:1], tmp_path / "uninterrupted", settings, 1, Progress())
    for steps in (1, 3, 4):
        with pytest.raises(Paused, match=r"has done \d+ of 10 steps"):
            train(pairs, cases[:1], tmp_path / "paused", settings, 1, Recorder(steps))
    train(pairs, cases[:1], tmp_path / "paused", settings, 1, Progress())
    assert same(tmp_path / "uninterrupted" / checkpoint.NAME, tmp_path / "paused" / checkpoint.NAME)
    assert same(tmp_path / "uninterrupted" / NETWORK, tmp_path / "paused" / NETWORK)


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from methods.base import Progress
from methods.registry import DATASETS, create_method, load_plugin
load_plugin("tests/plugins/learner.py")
class Printing(Progress):
    def step(self, run, done, total, losses):
        print("step", flush=True)
data = DATASETS.create("blocks")
pairs, val = ([data.load(n).pair.blind(n) for n in data.cases("train")], [data.load(n) for n in data.cases("val")])
for name in ("voxelmorph", "pc+rigid-dice"):
    create_method(name, {"training": %r}).fit(pairs, val, Path(sys.argv[1]), 0, Printing())
"""


def test_a_training_that_was_killed_and_resumed_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    """SIGKILL arrives during a step, a validation or a write; all tensors must be equal bit for bit."""

    def run(folder: str, steps: int | None) -> int:
        command = [sys.executable, "-c", CHILD % CHANGES, str(tmp_path / folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8") as child:
            assert child.stdout is not None
            for count, _ in enumerate(child.stdout, 1):
                if count == steps:
                    child.kill()
            return child.wait()

    assert run("uninterrupted", None) == 0
    rng = random.Random(0)
    assert [run("killed", rng.randint(2, 5)) for _ in range(2)] == [-9, -9]
    assert run("killed", None) == 0
    for name in ("voxelmorph", "pc+rigid-dice"):
        for file in (checkpoint.NAME, NETWORK, f"{name}.safetensors"):
            assert same(tmp_path / "uninterrupted" / name / file, tmp_path / "killed" / name / file), (name, file)
        cards = [json.loads((tmp_path / f / name / f"{name}.json").read_text()) for f in ("uninterrupted", "killed")]
        assert cards[0] == cards[1]


def test_a_branch_from_another_step_is_refused(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    plain, trunk = replace(QUICK, penalties={}), tmp_path / "trunk"
    train(pairs, cases[:1], trunk, plain, 1, Progress(), until=6)
    with pytest.raises(ValueError, match="expected a checkpoint of step 8 to branch off from, got 6"):
        train(pairs, cases[:1], tmp_path / "pc", QUICK, 1, Progress(), trunk=trunk)
    train(pairs, cases[:1], trunk, plain, 1, Progress(), until=8)
    train(pairs, cases[:1], tmp_path / "pc", QUICK, 1, Progress(), trunk=trunk)
    with pytest.raises(ValueError, match="expected a training that branched off at step 16, got one from step 8"):
        train(pairs, cases[:1], tmp_path / "pc", replace(QUICK, steps=20), 1, Progress(), trunk=trunk)
    with pytest.raises(ValueError, match="expected a checkpoint of at most 4 steps, got 8"):
        train(pairs, cases[:1], trunk, plain, 1, Progress(), until=4)


@pytest.mark.parametrize("choose", ["last", "best"])
def test_the_last_or_the_best_network_is_kept(
    choose: str, cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best validation after the branch counts; the trunk's better validation does not."""
    scores = iter([0.5, 0.9, 0.7, 0.6])
    monkeypatch.setattr(trainer, "validate", lambda *_: ({"dsc": next(scores)}, None))
    settings = replace(QUICK, choose=choose, validate_every=4, steps=12, branch=0.5)
    train(pairs, cases[:1], tmp_path / "trunk", replace(settings, penalties={}), 1, Progress(), until=6)
    network = tmp_path / "pc" / NETWORK
    with pytest.raises(Paused):
        train(pairs, cases[:1], tmp_path / "pc", settings, 1, Recorder(3), trunk=tmp_path / "trunk")
    after_step_8 = network.read_bytes()
    train(pairs, cases[:1], tmp_path / "pc", settings, 1, Progress())
    assert (network.read_bytes() == after_step_8) == (choose == "best")


def test_a_loss_that_is_not_finite_names_the_patient_and_keeps_the_checkpoint(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    train(pairs, cases[:1], tmp_path, QUICK, 0, Progress(), until=4)
    before = (tmp_path / checkpoint.NAME).read_bytes()
    image = pairs[0].fixed.image.copy()
    image[...] = np.nan
    bad = [Pair("anna", Scan(image, None, p.grid), p.moving) for p in pairs]
    with pytest.raises(FloatingPointError, match="step 4: the loss is nan on anna; the last checkpoint in"):
        train(bad, cases[:1], tmp_path, QUICK, 0, Progress())
    assert (tmp_path / checkpoint.NAME).read_bytes() == before


def test_progress_receives_every_step_and_a_preview_of_each_validation(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    recorder = Recorder()
    train(pairs, cases[:1], tmp_path / "pc", QUICK, 0, recorder)
    assert recorder.steps == [("pc", n) for n in range(1, 11)]
    assert any("step 10: dsc 0." in line for line in recorder.lines)
    preview = recorder.previews[-1]
    assert preview is not None and preview.fixed.shape == preview.warped.shape == (32, 32)
    assert (preview.fixed_labels == 20).sum() == 16 * 16 and np.unique(preview.warped_labels).tolist() == [0, 20]
    assert preview.warped.max() < 0.6 < preview.fixed.max(), "warped is the CT, fixed is the MR"


def test_training_on_one_pair_makes_its_images_more_similar(learner: ModuleType, tmp_path: Path) -> None:
    case = learner.block_case(0)
    settings = Training(
        steps=60,
        shrink_factor=1,
        patch=None,
        smoothness=0.5,
        lr=1e-3,
        validate_every=60,
        precision="fp32",
        ema=0,
        flips=False,
        appearance=False,
    )
    train([case.pair.blind("a")], [case], tmp_path, settings, 0, Progress())
    network = VelocityUNet()
    network.load_state_dict(load_file(tmp_path / NETWORK))
    sample = make_sample(case.pair, 1)
    with torch.no_grad():
        trained = network(sample.moving, sample.fixed)
        distances = [
            training_loss(v, sample.moving, sample.fixed, sample.labels, [], 0, {}).terms["similarity"]
            for v in (torch.zeros_like(trained), trained)
        ]
    assert distances[1] < 0.98 * distances[0]


def test_the_training_path_runs_without_itk_simpleitk_and_yaml() -> None:
    code = (
        "import sys\n"
        "for name in ('itk', 'SimpleITK', 'yaml', 'matplotlib', 'pandas'): sys.modules[name] = None\n"
        "import methods.voxelmorph.method, methods.voxelmorph.trainer, methods.voxelmorph.card\n"
        "for name in ('yaml', 'pandas'): del sys.modules[name]\n"
        "import benchmark.datasets.phantom, benchmark.training\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_vertebrae_under_500_mm3_in_the_crop_are_not_penalised(learner: ModuleType) -> None:
    sample = make_sample(learner.block_case(0).pair, 2)
    settings = replace(QUICK, penalties={"pc": 1.0})
    network = checkpoint.initial_state(settings, 0).network
    cropped = replace(sample, labels=sample.labels.clone())
    for slices, penalised in ((8, True), (1, False)):  # of 8 x 7 voxels of 8 mm3 each
        cropped.labels[4 + slices :] = 0
        assert ("pc" in trainer.loss_of(network, cropped, settings).terms) == penalised


STAGED = replace(QUICK, stages=SHORT_STAGES, supervision=0.5)


def half_a_voxel(patient: int) -> torch.Tensor:
    """The displacement of a teacher."""
    return torch.full((1, 3, 16, 16, 16), 0.5)


def test_a_training_passes_through_its_stages(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    recorder = Terms()
    state = train(pairs, cases[:1], tmp_path, STAGED, 1, recorder, taught=half_a_voxel)
    read, compare, paper = {"positions", "bone"}, {"positions", "bone", "displacement"}, {"similarity", "smoothness"}
    assert [set(terms) for terms in recorder.terms] == [read, *5 * [compare], *4 * [{*paper, "pc", "displacement"}]]
    assert state.stage == 3 and isinstance(state.optimiser, torch.optim.Adam)
    weights = set(load_file(tmp_path / NETWORK))
    assert weights == set(VelocityUNet().state_dict()), "the layer that reads is not kept"
    record = json.loads((tmp_path / "history.json").read_text())[-1]
    assert {"follows_z", "follows_y", "follows_x"} <= set(record)


class Terms(Progress):
    """Records the terms of each step's loss."""

    def __init__(self) -> None:
        self.terms: list[dict[str, float]] = []

    def step(self, run: str, done: int, total: int, losses: Any) -> None:
        self.terms.append(dict(losses))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_that_is_paused_in_each_stage_equals_an_uninterrupted_one(
    precision: str, cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    settings = replace(STAGED, precision=precision)
    train(pairs, cases[:1], tmp_path / "uninterrupted", settings, 1, Progress(), taught=half_a_voxel)
    for steps in (1, 1, 2, 1, 1, 1):  # at the ends of stages and within them
        with pytest.raises(Paused):
            train(pairs, cases[:1], tmp_path / "paused", settings, 1, Recorder(steps), taught=half_a_voxel)
    train(pairs, cases[:1], tmp_path / "paused", settings, 1, Progress(), taught=half_a_voxel)
    for file in (checkpoint.NAME, NETWORK):
        assert same(tmp_path / "uninterrupted" / file, tmp_path / "paused" / file)


def test_items_of_a_second_thread_do_not_change_a_training(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    for name, background in (("one", False), ("two", True)):
        settings = replace(STAGED, background=background)
        train(pairs, cases[:1], tmp_path / name, settings, 1, Progress(), taught=half_a_voxel)
    assert same(tmp_path / "one" / checkpoint.NAME, tmp_path / "two" / checkpoint.NAME)


def test_a_branch_after_the_stages_equals_an_uninterrupted_training(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    plain = replace(STAGED, penalties={})
    train(pairs, cases[:1], tmp_path / "uninterrupted", plain, 1, Progress(), taught=half_a_voxel)
    trunk = tmp_path / "trunk"
    train(pairs, cases[:1], trunk, plain, 1, Progress(), until=8, taught=half_a_voxel)
    for name, penalties in (("base", {}), ("pc", {"pc": 0.5})):
        settings = replace(plain, penalties=penalties)
        train(pairs, cases[:1], tmp_path / name, settings, 1, Progress(), trunk, taught=half_a_voxel)
    assert same(tmp_path / "uninterrupted" / NETWORK, tmp_path / "base" / NETWORK)
    assert not same(tmp_path / "base" / NETWORK, tmp_path / "pc" / NETWORK)


def test_a_checkpoint_of_other_stages_is_refused(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    train(pairs, cases[:1], tmp_path, STAGED, 1, Progress(), until=1)
    other = replace(STAGED, stages=(replace(SHORT_STAGES[0], steps=2), *SHORT_STAGES[1:]))
    with pytest.raises(ValueError, match="its checkpoint has other stages; choose another folder"):
        train(pairs, cases[:1], tmp_path, other, 1, Progress())


def test_a_stage_without_a_teacher_refuses_to_draw_its_items(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="expected a teacher for items `taught`, got none"):
        train(pairs, cases[:1], tmp_path, STAGED, 1, Progress())


def test_a_network_that_no_longer_follows_stops_the_training(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([0.1, 0.1, 0.9, 0.4])
    monkeypatch.setattr(validation, "follows", lambda *_: np.array([1.0, next(values), 1.0]))
    settings = replace(STAGED, validate_every=3, least_following=0.5, steps=12)
    with pytest.raises(
        ValueError, match=r"step 12: expected .* at least 0.5 of it, got 0.40 front to back; raise train"
    ):
        train(pairs, cases[:1], tmp_path, settings, 1, Progress(), taught=half_a_voxel)
    free = replace(settings, least_following=0.0)
    assert train(pairs, cases[:1], tmp_path, free, 1, Progress(), taught=half_a_voxel).step == 12
