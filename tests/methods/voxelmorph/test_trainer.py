"""The protocol: one trunk, branches that go on from it, and trainings that may be killed at any step."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from methods.base import Case, Pair, Paused, Preview, Progress, Scan
from methods.registry import create_method
from methods.voxelmorph import checkpoint, trainer
from methods.voxelmorph.items import coarsen
from methods.voxelmorph.losses import training_loss
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training, patient_of
from methods.voxelmorph.trainer import NETWORK, train

ROOT = Path(__file__).resolve().parents[3]
QUICK = Training(steps=10, coarsening=1, patch=(16, 32, 32), lr=1e-3, warm_up=2, validate_every=3, checkpoint_every=2,
                 precision="fp32", ema=0.9, penalties={"pc": 0.5})  # fmt: skip
CHANGES = {"steps": 10, "coarsening": 1, "patch": [16, 32, 32], "lr": 1e-3, "warm_up": 2, "validate_every": 5,
           "checkpoint_every": 3, "precision": "fp32", "ema": 0.9}  # fmt: skip


@pytest.fixture
def cases(learner: ModuleType) -> list[Case]:
    torch.set_num_threads(1)
    return [learner.block_case(i) for i in range(3)]


@pytest.fixture
def pairs(cases: list[Case]) -> list[Pair]:
    return [c.pair.blind(c.pair.case) for c in cases]


def same(a: Path, b: Path, part: str = "") -> bool:
    """Whether two safetensors files hold the same bits, all of them or those of one part."""
    left, right = ({k: v for k, v in load_file(f).items() if k.startswith(part)} for f in (a, b))
    assert left and left.keys() == right.keys()
    return all(torch.equal(v, right[k]) for k, v in left.items())


class Script(Progress):
    """Notes what it is told; says that time is up after `steps` steps."""

    def __init__(self, steps: int | None = None) -> None:
        self.left, self.lines, self.seen = steps, list[str](), list[tuple[str, int]]()
        self.glimpses: list[Preview | None] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def step(self, run: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        self.seen.append((run, done))
        self.left = None if self.left is None else self.left - 1

    def validated(self, run: str, done: int, figures: Mapping[str, float], preview: Preview | None) -> None:
        self.glimpses.append(preview)

    def out_of_time(self) -> bool:
        return self.left is not None and self.left <= 1


def test_the_baseline_through_its_trunk_is_the_uninterrupted_one_bit_for_bit(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    plain = replace(QUICK, penalties={})
    train(pairs, cases[:1], tmp_path / "whole", plain, 1, Progress())
    train(pairs, cases[:1], tmp_path / "trunk", plain, 1, Progress(), until=8)
    state = train(pairs, cases[:1], tmp_path / "base", plain, 1, Progress(), trunk=tmp_path / "trunk")
    assert state.branched_at == 8
    assert same(tmp_path / "whole" / checkpoint.NAME, tmp_path / "base" / checkpoint.NAME)
    assert same(tmp_path / "whole" / NETWORK, tmp_path / "base" / NETWORK)
    histories = [json.loads((tmp_path / n / "history.json").read_text()) for n in ("whole", "base")]
    assert histories[0] == histories[1] and [h["step"] for h in histories[0]] == [0, 3, 6, 9, 10]


def test_a_variant_goes_on_from_the_branch_with_the_same_data_and_ends_elsewhere(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, float]] = []
    original = trainer.augment

    def noted(item: Any, settings: Training, seed: int, sample: int) -> Any:
        crop = original(item, settings, seed, sample)
        drawn.append((sample, float(crop.fixed.sum() + crop.moving.sum())))
        return crop

    monkeypatch.setattr(trainer, "augment", noted)
    train(pairs, cases[:1], tmp_path / "trunk", replace(QUICK, penalties={}), 1, Progress(), until=8)
    for name, penalties in (("base", {}), ("pc", {"pc": 0.5})):
        settings = replace(QUICK, penalties=penalties)
        train(pairs, cases[:1], tmp_path / name, settings, 1, Progress(), trunk=tmp_path / "trunk")
    assert [sample for sample, _ in drawn] == [*range(8), 8, 9, 8, 9]
    assert drawn[8:10] == drawn[10:12]
    assert not same(tmp_path / "base" / NETWORK, tmp_path / "pc" / NETWORK)
    history = json.loads((tmp_path / "pc" / "history.json").read_text())
    assert "pc" not in history[2] and history[-1]["pc"] > 0, "no penalty before the branch"


def test_several_trainings_go_on_from_one_trunk_each_with_a_seed_of_its_own(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, int, str]] = []
    original = trainer.augment

    def noted(item: Any, settings: Training, seed: int, sample: int) -> Any:
        drawn.append((seed, sample, item.case))
        return original(item, settings, seed, sample)

    monkeypatch.setattr(trainer, "augment", noted)
    for name, branch_seed in (("voxelmorph", None), ("again", 1), ("third", 5)):
        settings = {"penalties": {}, "training": {**CHANGES, "branch_seed": branch_seed}}
        create_method("voxelmorph", settings, name).fit(pairs, cases[:1], tmp_path, 5, Progress())
    expected = [(seed, step) for seed, steps in ((5, range(10)), (1, (8, 9)), (5, (8, 9))) for step in steps]
    assert drawn == [(seed, step, pairs[patient_of(step, 3, seed)].case) for seed, step in expected]
    assert {patient_of(8, 3, 1), patient_of(9, 3, 1)} != {patient_of(8, 3, 5), patient_of(9, 3, 5)}
    files = [tmp_path / name / NETWORK for name in ("voxelmorph", "again", "third")]
    assert not same(files[0], files[1]) and same(files[0], files[2])
    card = json.loads((tmp_path / "again" / "again.json").read_text())
    assert card["seed"] == 5 and card["training"]["branch_seed"] == 1
    settings = replace(create_method("voxelmorph", {"training": CHANGES}).settings.resolved(), branch_seed=1)
    train(pairs, cases[:1], tmp_path / "whole", settings, 5, Progress())
    assert same(tmp_path / "whole" / NETWORK, files[1]), "with or without a trunk it is the same training"
    assert "branch_seed" not in " ".join(card["deviations_from_the_paper"]).replace(" ", "_")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_in_pieces_is_the_whole_one_whatever_the_pieces(
    precision: str, cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    settings = replace(QUICK, precision=precision)
    train(pairs, cases[:1], tmp_path / "whole", settings, 1, Progress())
    for steps in (1, 3, 4):
        with pytest.raises(Paused, match=r"has done \d+ of 10 steps"):
            train(pairs, cases[:1], tmp_path / "pieces", settings, 1, Script(steps))
    train(pairs, cases[:1], tmp_path / "pieces", settings, 1, Progress())
    assert same(tmp_path / "whole" / checkpoint.NAME, tmp_path / "pieces" / checkpoint.NAME)
    assert same(tmp_path / "whole" / NETWORK, tmp_path / "pieces" / NETWORK)


CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from methods.base import Progress
from methods.registry import DATASETS, create_method, load_plugin
load_plugin("tests/plugins/learner.py")
class Loud(Progress):
    def step(self, run, done, total, losses):
        print("step", flush=True)
data = DATASETS.create("blocks")
pairs, val = ([data.load(n).pair.blind(n) for n in data.cases("train")], [data.load(n) for n in data.cases("val")])
for name in ("voxelmorph", "pc+rigid-dice"):
    create_method(name, {"training": %r}).fit(pairs, val, Path(sys.argv[1]), 0, Loud())
"""


def test_killed_at_any_step_and_started_again_equals_uninterrupted_bit_for_bit(tmp_path: Path) -> None:
    """SIGKILL from outside, some steps after the process spoke last: in a step, a validation or a write."""

    def run(folder: str, steps: int | None) -> int:
        command = [sys.executable, "-c", CHILD % CHANGES, str(tmp_path / folder)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for count, _ in enumerate(child.stdout, 1):
                if count == steps:
                    child.kill()
            return child.wait()

    assert run("whole", None) == 0
    rng = random.Random(0)
    assert [run("killed", rng.randint(2, 5)) for _ in range(3)] == [-9, -9, -9]
    assert run("killed", None) == 0
    for name in ("voxelmorph", "pc+rigid-dice"):
        for file in (checkpoint.NAME, NETWORK, f"{name}.safetensors"):
            assert same(tmp_path / "whole" / name / file, tmp_path / "killed" / name / file), (name, file)
        cards = [json.loads((tmp_path / f / name / f"{name}.json").read_text()) for f in ("whole", "killed")]
        assert cards[0] == cards[1]


def test_a_checkpoint_holds_everything_and_is_of_one_training_only(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    train(pairs, cases[:1], tmp_path / "a", QUICK, 1, Progress(), until=4)
    tensors = load_file(tmp_path / "a" / checkpoint.NAME)
    weights = len(VelocityUNet().state_dict())
    assert {part: sum(k.startswith(f"{part}.") for k in tensors) for part in ("network", "average", "adam")} == {
        "network": weights, "average": weights, "adam": 3 * weights,
    }  # fmt: skip
    for change, seed, names in (
        ({"smoothness": 2.0, "lr": 1.0}, 1, "smoothness, lr"),
        ({"similarity": "ngf"}, 1, "similarity"),
        ({"penalties": {}}, 1, "penalties"),
        ({}, 2, "seed"),
    ):
        with pytest.raises(ValueError, match=f"its checkpoint has other {names}; choose another folder"):
            train(pairs, cases[:1], tmp_path / "a", replace(QUICK, **change), seed, Progress())
    with pytest.raises(ValueError, match="has other patients"):
        train(pairs[:2], cases[:1], tmp_path / "a", QUICK, 1, Progress())
    train(pairs, cases[:1], tmp_path / "a", replace(QUICK, steps=5), 1, Progress())


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


def test_the_average_of_the_weights_is_what_is_kept(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    settings = replace(QUICK, steps=3, penalties={})
    state = train(pairs, cases[:1], tmp_path / "a", settings, 1, Progress())
    kept = load_file(tmp_path / "a" / NETWORK)
    name = "velocity.weight"
    assert torch.equal(kept[name], state.average[name])
    assert not torch.equal(kept[name], state.network.state_dict()[name])
    # By hand: the weights after each step, the first at 0.1 of the start and so on.
    expected = checkpoint.begin(settings, 1).network.state_dict()[name].clone()
    for step, share in ((1, 0.1), (2, 2 / 11), (3, 3 / 12)):
        weights = train(pairs, cases[:1], tmp_path / f"to-{step}", settings, 1, Progress(), until=step)
        expected = share * expected + (1 - share) * weights.network.state_dict()[name]
    torch.testing.assert_close(kept[name], expected)
    off = train(pairs, cases[:1], tmp_path / "off", replace(settings, ema=0.0), 1, Progress())
    assert not off.average
    assert torch.equal(load_file(tmp_path / "off" / NETWORK)[name], off.network.state_dict()[name])


@pytest.mark.parametrize("choose", ["last", "best"])
def test_the_network_that_is_kept(
    choose: str, cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best of those after the branch, as every variant: a trunk that was better does not count."""
    scores = iter([0.5, 0.9, 0.7, 0.6])
    monkeypatch.setattr(trainer, "validate", lambda *_: ({"dsc": next(scores)}, None))
    settings = replace(QUICK, choose=choose, validate_every=4, steps=12, branch=0.5)
    train(pairs, cases[:1], tmp_path / "trunk", replace(settings, penalties={}), 1, Progress(), until=6)
    at_8 = tmp_path / "pc" / NETWORK
    with pytest.raises(Paused):
        train(pairs, cases[:1], tmp_path / "pc", settings, 1, Script(3), trunk=tmp_path / "trunk")
    before = at_8.read_bytes()
    train(pairs, cases[:1], tmp_path / "pc", settings, 1, Progress())
    assert (at_8.read_bytes() == before) == (choose == "best")


def test_a_loss_that_is_not_finite_stops_names_the_patient_and_leaves_the_checkpoint(
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


def test_a_validation_is_shown_with_one_case_as_it_looks_now(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    script = Script()
    train(pairs, cases[:1], tmp_path / "pc", QUICK, 0, script)
    assert script.seen == [("pc", n) for n in range(1, 11)]
    assert any("step 10: dsc 0." in line for line in script.lines)
    preview = script.glimpses[-1]
    assert preview is not None and preview.fixed.shape == preview.warped.shape == (32, 32)
    assert (preview.fixed_labels == 20).sum() == 16 * 16 and np.unique(preview.warped_labels).tolist() == [0, 20]
    assert preview.warped.max() < 0.6 < preview.fixed.max(), "CT and MR are told apart"


def test_training_on_one_pair_makes_it_more_alike_than_no_motion(learner: ModuleType, tmp_path: Path) -> None:
    case = learner.block_case(0)
    settings = Training(
        steps=60,
        coarsening=1,
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
    item = coarsen(case.pair, 1)
    with torch.no_grad():
        trained = network(item.moving, item.fixed)
        alike = [
            training_loss(v, item.moving, item.fixed, item.labels, [], 0, {}).terms["similarity"]
            for v in (torch.zeros_like(trained), trained)
        ]
    assert alike[1] < 0.98 * alike[0]


def test_fit_writes_weights_that_run_and_a_card_that_says_how_they_came(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text('{"dataset": "blocks"}')
    method = create_method("pc", {"training": CHANGES})
    method.fit(pairs, cases[:1], tmp_path, 5, Progress())
    card = json.loads((tmp_path / "pc" / "pc.json").read_text())
    assert card["steps"] == {"all": 10, "with_penalties_from": 8} and card["profile"] == "cpu"
    assert card["data"]["dataset"] == "blocks" and card["data"]["train"] == 3 and card["seed"] == 5
    assert card["precision"] == "fp32" and card["device"].startswith("cpu, 1 threads") and card["version"]
    assert [h["step"] for h in card["validation"]] == [0, 5, 10] and card["chosen"]["step"] == 10
    said = card["deviations_from_the_paper"]
    assert said[0] == "10 steps instead of 500 epochs of 2 crops a patient" and "smoothness 1.0 instead of 0.01" in said
    moved = abs(card["weights"]["dsc_float16"] - card["weights"]["dsc_float32"])
    dtype = load_file(tmp_path / "pc" / "pc.safetensors")["velocity.weight"].dtype
    assert dtype == (torch.float16 if moved < 0.001 else torch.float32)
    trained = create_method(
        "voxelmorph", {"penalties": {"pc": None}, "weights": tmp_path / "pc" / "pc.safetensors"}, "x"
    )
    assert trained.unavailable("cpu") is None
    trained.prepare("cpu", 1, 0)
    trained.register(pairs[0]).check(pairs[0].grid)


def test_a_training_begins_from_the_weights_it_is_given_and_the_card_says_which(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    create_method("voxelmorph", {"training": CHANGES}).fit(pairs, cases[:1], tmp_path / "first", 5, Progress())
    file = tmp_path / "first" / "voxelmorph" / "voxelmorph.safetensors"
    settings = replace(QUICK, start=str(file))
    begun = checkpoint.begin(settings, 0).network.state_dict()
    assert all(torch.equal(begun[k], v.float()) for k, v in load_file(file).items())
    again = {"training": {**CHANGES, "start": str(file)}}
    create_method("voxelmorph", again).fit(pairs, cases[:1], tmp_path / "second", 5, Progress())
    card = json.loads((tmp_path / "second" / "voxelmorph" / "voxelmorph.json").read_text())
    start = card["training"]["start"]
    assert start["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and start["card"]["steps"]["all"] == 10
    assert card["deviations_from_the_paper"].count("begun from other weights instead of random ones") == 1
    assert str(tmp_path) not in json.dumps(card), "no path of this machine"


def test_weights_to_begin_from_must_be_such_weights(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with pytest.raises(
        ValueError, match=r"training.start: expected weights with a card beside them, found no .*w.safe"
    ):
        checkpoint.begin(replace(QUICK, start=str(file)), 0)
    save_file({"other": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"found no .*w.json"):
        checkpoint.begin(replace(QUICK, start=str(file)), 0)
    file.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="holds no network of this kind"):
        checkpoint.begin(replace(QUICK, start=str(file)), 0)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no network of this kind"):
        checkpoint.begin(replace(QUICK, start=str(file)), 0)


def test_weights_that_lose_by_half_precision_stay_float32(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.voxelmorph import card

    scores = iter([0.8, 0.798])
    monkeypatch.setattr(card, "validate", lambda *_: ({"dsc": next(scores)}, None))
    create_method("pc", {"training": CHANGES}).fit(pairs, cases[:1], tmp_path, 0, Progress())
    assert load_file(tmp_path / "pc" / "pc.safetensors")["velocity.weight"].dtype == torch.float32


def test_weights_of_other_penalties_are_not_taken_for_a_variants(tmp_path: Path) -> None:
    reason = create_method("voxelmorph", {"penalties": {"pc": 0.3}}, "mine").unavailable("cpu")
    assert reason and "no weights at methods/voxelmorph/weights/mine.safetensors" in reason
    assert "train --config FILE --methods mine" in reason
    shipped = create_method("voxelmorph").weights
    reason = create_method("voxelmorph", {"penalties": {"pc": 0.3}, "weights": shipped}).unavailable("cpu")
    assert reason and "trained with penalties {}, this row names {'pc': 0.3}" in reason
    reason = create_method("voxelmorph", {"penalties": {"pc": None}, "weights": shipped}).unavailable("cpu")
    assert reason and "trained with penalties {}, this row names {'pc': None}" in reason


def test_the_training_path_runs_without_itk_simpleitk_and_yaml() -> None:
    code = (
        "import sys\n"
        "for name in ('itk', 'SimpleITK', 'yaml', 'matplotlib', 'pandas'): sys.modules[name] = None\n"
        "import methods.voxelmorph.method, methods.voxelmorph.trainer, methods.voxelmorph.card\n"
        "for name in ('yaml', 'pandas'): del sys.modules[name]\n"
        "import benchmark.datasets.phantom, benchmark.training\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, timeout=120)


def test_vertebrae_of_which_a_crop_shows_under_500_mm3_carry_no_penalty(learner: ModuleType) -> None:
    item = coarsen(learner.block_case(0).pair, 2)
    settings = replace(QUICK, penalties={"pc": 1.0})
    network = checkpoint.begin(settings, 0).network
    shown = replace(item, labels=item.labels.clone())
    for slices, counted in ((8, True), (1, False)):  # of 8 x 7 voxels of 8 mm3 each
        shown.labels[4 + slices :] = 0
        assert ("pc" in trainer.loss_of(network, shown, settings).terms) == counted


def test_a_path_in_settings_is_from_where_the_command_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method's process works in a folder of its own: the path is made absolute with the settings."""
    monkeypatch.chdir(tmp_path)
    method = create_method("voxelmorph", {"weights": "w/mine.safetensors"})
    monkeypatch.chdir("/")
    assert method.weights == tmp_path / "w" / "mine.safetensors"


def test_a_mistyped_penalty_without_weights_is_named() -> None:
    reason = create_method("voxelmorph", {"penalties": {"pcc": 1.0}}, "mine").unavailable("cpu")
    assert reason is not None and "no penalty 'pcc'" in reason
    reason = create_method("voxelmorph", {"penalties": {"pc": 1.0}}, "mine").unavailable("cpu")
    assert reason is not None and "train --config FILE --methods mine" in reason


def test_weights_that_the_settings_name_are_made_by_the_configuration_that_names_them(tmp_path: Path) -> None:
    """`train --methods pc` alone would not make these."""
    reason = create_method("pc", {"weights": tmp_path / "pc.safetensors"}).unavailable("cpu")
    assert reason is not None and "train --config FILE --methods pc" in reason
