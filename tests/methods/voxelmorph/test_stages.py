"""Stages of a training: their settings, their schedules, and the order in which they follow each other."""

from __future__ import annotations

import pytest

from methods.registry import create_method
from methods.voxelmorph.settings import (
    Training,
    branch_step,
    deviations,
    learning_rate,
    make_training,
    stage_steps,
)
from methods.voxelmorph.stages import STAGES, Stage, make_stages, scaled, stage_number


def test_the_profile_cpu_reads_compares_and_distils_before_the_papers_loss() -> None:
    cpu = make_training("cpu", {}, {})
    assert [stage.name for stage in cpu.stages] == ["read", "compare", "distil"]
    assert cpu.steps is not None and stage_steps(cpu) <= branch_step(cpu, 117) < cpu.steps
    assert [stage.optimiser for stage in cpu.stages] == ["adam", "adam", "muon"]
    assert not cpu.stages[0].compares and cpu.stages[1].compares


@pytest.mark.parametrize("profile", ["from-scratch", "paper"])
def test_other_profiles_have_no_stages(profile: str) -> None:
    settings = make_training(profile, {}, {})
    assert (settings.stages, settings.supervision, settings.least_following) == ((), 0.0, 0.0)


def test_the_profile_from_scratch_has_the_defaults() -> None:
    assert make_training("from-scratch", {}, {}) == Training()


def test_steps_are_counted_within_their_stage() -> None:
    stages = (Stage("read", 3), Stage("compare", 2))
    expected = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 0), (2, 1)]
    assert [stage_number(step, stages) for step in range(7)] == expected
    assert [stage_number(step, ()) for step in (0, 9)] == [(0, 0), (0, 9)]


def test_each_stage_and_the_papers_loss_have_their_own_learning_rate() -> None:
    stages = (Stage("read", 100, lr=1.0, warm_up=10, fall=0.5), Stage("compare", 50, lr=2.0, warm_up=0, fall=0.0))
    settings = Training(stages=stages, steps=300, lr=3.0, warm_up=4, lr_decay=0.5, lr_decay_steps=100)
    rates = {step: learning_rate(step, settings, 1) for step in (0, 4, 9, 49, 75, 99, 100, 149, 150, 153, 249, 250)}
    assert [rates[s] for s in (0, 4, 9, 49)] == pytest.approx([0.1, 0.5, 1.0, 1.0])
    assert rates[75] == pytest.approx(0.5) and rates[99] == pytest.approx(0.03)
    assert rates[100] == rates[149] == 2.0
    assert [rates[s] for s in (150, 153, 249, 250)] == pytest.approx([0.75, 3.0, 3.0, 1.5])


def test_the_weight_of_the_displacement_changes_linearly() -> None:
    stage = Stage("compare", 5, displacement=(0.1, 0.5))
    assert [stage.displacement_weight(p) for p in range(5)] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert Stage("compare", 1, displacement=(0.1, 0.5)).displacement_weight(0) == 0.1


def test_other_steps_shorten_all_stages_alike() -> None:
    short = make_training("cpu", {"steps": 80}, {})
    assert [s.steps for s in short.stages] == [13, 23, 40]  # 1400, 2400 and 4200 of 8200 steps
    kept = make_training("cpu", {"steps": 72, "stages": [{"name": "compare", "steps": 5}]}, {})
    assert [s.steps for s in kept.stages] == [5]
    assert [s.steps for s in scaled((Stage("read", 3), Stage("compare", 40)), 0.1)] == [1, 4]


def test_stages_are_chosen_by_name_with_other_settings() -> None:
    read, distil = make_stages(["read", {"name": "distil", "steps": 7, "patch": [32, 32, 32], "teacher": "initial"}])
    assert read == STAGES["read"]
    assert (distil.steps, distil.patch, distil.teacher) == (7, (32, 32, 32), "initial")
    assert distil.optimiser == STAGES["distil"].optimiser


def test_without_stages_the_settings_that_need_them_are_off() -> None:
    none = make_training("cpu", {"stages": []}, {})
    assert (none.stages, none.supervision, none.least_following) == ((), 0.0, 0.0)


@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"stages": "read"}, "training.stages: expected a list of read, compare, distil, got 'read'; [] is none"),
        ({"stages": ["reed"]}, "training.stages: expected names among read, compare, distil, got 'reed'"),
        ({"stages": ["read", "read"]}, "training.stages: expected each stage once, got read 2 times"),
        ({"stages": [{"name": "read", "step": 3}]}, "stages.read: unknown setting 'step'; did you mean 'steps'?"),
        ({"stages": [{"name": "read", "lr": "1e-4"}]}, "training.stages.read.lr: expected a number, got '1e-4'"),
        ({"stages": [{"name": "read", "steps": 0}]}, "stages.read.steps: expected a whole number of at least 1"),
        ({"stages": [{"name": "read", "lr": 0}]}, "training.stages.read.lr: expected a number above 0, got 0"),
        ({"stages": [{"name": "read", "fall": 2}]}, "training.stages.read.fall: expected a share, 0 to 1, got 2"),
        ({"stages": [{"name": "read", "reading": -1}]}, "stages.read.reading: expected a number of at least 0"),
        ({"stages": [{"name": "read", "optimiser": "sgd"}]}, "expected one of adam, muon, got 'sgd'"),
        ({"stages": [{"name": "read", "patch": [9, 16, 16]}]}, "training.stages.read.patch: expected three multiples"),
        ({"stages": [{"name": "read", "items": {"real": 1}}]}, "expected shares of synthetic, moved, taught, got"),
        ({"stages": [{"name": "read", "items": {"moved": 0}}]}, "expected shares of synthetic, moved, taught, got"),
        ({"stages": [{"name": "read", "displacement": [1]}]}, "expected two weights of at least 0, got (1,)"),
        ({"stages": [{"name": "read", "steps": 50}], "steps": 50}, "more than the 50 steps of the stages, got 50"),
        ({"stages": ["read"], "steps": None}, "expected more than the 1400 steps of the stages, got None"),
        ({"stages": ["read"]}, "training.supervision: expected 0 without a stage that trains the displacement"),
        ({"supervision": -1}, "training.supervision: expected a number of at least 0, got -1"),
        ({"least_following": None}, "training.least_following: expected a number of at least 0, got None"),
    ],
)  # fmt: skip
def test_a_wrong_stage_is_refused_by_name(training: dict, message: str) -> None:
    with pytest.raises(ValueError, match="training") as caught:
        create_method("voxelmorph", {"training": training})
    assert message in str(caught.value)


def test_the_card_lists_each_stage_as_a_deviation() -> None:
    lines = deviations(make_training("cpu", {}, {}))
    stages = [line for line in lines if line.startswith("stage ")]
    assert stages[0] == (
        "stage read: 1400 steps of positions in the vertebra and bone masks, "
        "from synthetic pairs made from a training CT and its labels"
    )
    assert "deformable-pc+oc on training pairs, found without fixed labels" in stages[2]
    assert "displacement's loss of stage distil kept beside eq. 1, weight 0.5" in lines
    assert not any("stage" in line for line in deviations(make_training("from-scratch", {}, {})))
