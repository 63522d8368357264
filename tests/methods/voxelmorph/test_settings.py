"""Settings of a training: schedules, profiles, former names, and messages for wrong values."""

from __future__ import annotations

import pytest

from methods.registry import create_method
from methods.voxelmorph.settings import (
    NUMBERS,
    Training,
    average_decay,
    branch_step,
    deviations,
    learning_rate,
    make_training,
    patient_of,
    steps_per_epoch,
    total_steps,
)


def test_the_profile_paper_has_the_papers_schedule() -> None:
    paper = make_training("paper", {}, {"pc": 0.01})
    assert total_steps(paper, 117) == 500 * 117 * 2 and steps_per_epoch(paper, 117) == 234
    assert branch_step(paper, 117) == 400 * 117 * 2
    assert paper.patch == (64, 128, 64) and paper.shrink_factor == 1 and paper.smoothness == 0.01
    rates = [learning_rate(step, paper, 234) for step in (0, 233, 234, 499 * 234)]
    assert rates == pytest.approx([1e-4, 1e-4, 0.999e-4, 0.999**499 * 1e-4])
    lines = deviations(paper)
    assert lines and not any("instead" in line for line in lines), "only the differences in the code are listed"


def test_the_learning_rate_of_profile_cpu_rises_then_decays() -> None:
    rates = [learning_rate(step, Training(), 117) for step in (0, 24, 49, 60, 1000)]
    assert rates[0] < rates[1] < rates[2] and rates[4] == pytest.approx(1e-3 * 0.99**33)
    assert [average_decay(step, 0.99) for step in (0, 8, 10_000)] == pytest.approx([0.1, 0.5, 0.99])


@pytest.mark.parametrize(("steps", "branch", "expected"), [(1, 0.8, 0), (2, 0.8, 1), (1500, 0.8, 1200), (10, 0, 0)])
def test_the_branch_leaves_at_least_one_step(steps: int, branch: float, expected: int) -> None:
    assert branch_step(Training(steps=steps, branch=branch), 3) == expected


def test_every_epoch_contains_each_patient_crops_times_in_another_order() -> None:
    for crops in (1, 2):
        epochs = [[patient_of(e * 10 * crops + i, 10, 3, crops) for i in range(10 * crops)] for e in range(2)]
        assert sorted(epochs[0]) == sorted(epochs[1]) == sorted([*range(10)] * crops) and epochs[0] != epochs[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profile": "gpu"}, "profile: expected one of cpu, from-scratch, paper, got 'gpu'"),
        ({"training": {"smothness": 1}}, "training: unknown setting 'smothness'; did you mean 'smoothness'?"),
        ({"training": {"penalties": {"pc": 1}}}, "training: unknown setting 'penalties'"),
        ({"training": {"similarity": "mi"}}, "training.similarity: expected one of mind, nmi, ngf, got 'mi'"),
        ({"training": {"ema": 1}}, "training.ema: expected a share, 0 or more and below 1, got 1"),
        ({"training": {"branch": 1.0}}, "training.branch: expected a share"),
        ({"training": {"steps": 0}}, "training.steps: expected a whole number of at least 1, got 0"),
        ({"training": {"patch": [64, 60, 64]}}, "training.patch: expected three multiples of 16"),
        ({"training": {"lr": 0}}, "training.lr: expected a number above 0, got 0"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=r"training|profile") as caught:
        create_method("voxelmorph", settings)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", NUMBERS)
def test_text_in_place_of_a_number_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=rf"training\.{name}: expected a number, got '1e-4' \(to YAML 1e-4 is text"):
        make_training("cpu", {name: "1e-4"}, {})


def test_former_names_are_accepted_and_mean_the_present_ones() -> None:
    former = make_training("cpu", {"coarsening": 3, "start_sd": 0.5}, {})
    assert former == make_training("cpu", {"shrink_factor": 3, "final_layer_std": 0.5}, {})
    assert (former.shrink_factor, former.final_layer_std) == (3, 0.5)


def test_a_former_name_overrides_the_profile() -> None:
    assert make_training("paper", {"coarsening": 2}, {}).shrink_factor == 2


def test_a_setting_under_both_names_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.shrink_factor: expected one value, got two, .* remove coarsening"):
        make_training("cpu", {"coarsening": 2, "shrink_factor": 2}, {})


def test_a_wrong_value_under_a_former_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"training\.shrink_factor: expected a whole number of at least 1, got 0"):
        create_method("voxelmorph", {"training": {"coarsening": 0}})


def test_the_profile_paper_takes_the_papers_rigid_dice_and_others_name_theirs() -> None:
    assert make_training("paper", {}, {}).squares is False
    penalties = {"rigid-dice": None, "rigid-field": None}
    ours, papers = (deviations(make_training(profile, {}, penalties)) for profile in ("cpu", "paper"))
    assert any("squared soft labels" in line for line in ours) and not any("squared soft labels" in p for p in papers)
    for part in ("eq. 2 solved by Levenberg-Marquardt", "eq. 4 over all voxels", "eq. 4 not squared"):
        assert any(part in line for line in ours) and any(part in line for line in papers)
    assert not any("eq." in line and "eq. 1" not in line for line in deviations(make_training("cpu", {}, {"pc": None})))
