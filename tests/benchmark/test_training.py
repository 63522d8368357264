"""Training data: loaded on demand, without fixed labels, and the same for every call into one folder."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from support.command_line import refused
from support.patient_folder import arrays, write
from support.training import LEARNER

from benchmark.config import MethodConfig
from benchmark.errors import BadInput
from benchmark.training import Lazy, open_data, train
from methods.base import Progress


def test_cases_are_loaded_on_demand() -> None:
    loaded: list[str] = []

    def load(name: str) -> str:
        loaded.append(name)
        return name.upper()

    cases = Lazy(["a", "b", "c"], load)
    assert len(cases) == 3 and loaded == []
    assert cases[1] == "B" and loaded == ["b"]
    assert list(cases[:2]) == ["A", "B"] and loaded == ["b", "a", "b"]


def test_kept_cases_are_loaded_once() -> None:
    loaded: list[str] = []
    cases = Lazy(["a"], loaded.append, keep=True)
    assert cases[0] is cases[0] and loaded == ["a"]


def test_training_pairs_have_no_fixed_labels_and_validation_cases_have_them(learner: ModuleType) -> None:
    data = open_data("blocks", {}, 8)
    assert len(data.train) == 3 and data.train[0].fixed.labels is None and data.train[0].moving.labels is not None
    assert len(data.val) == 1 and data.val[0].pair.fixed.labels is not None


def test_a_folder_with_other_training_data_is_refused(learner: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"dataset": "blocks", "settings": {}, "train": 2, "val": 1}')
    line = refused("train", "--plugin", LEARNER, "--dataset", "blocks", "--out", tmp_path, "--steps", 8)
    assert "expected the data of the training in it" in line and "choose another folder" in line


def test_a_method_without_training_is_refused(learner: ModuleType, tmp_path: Path) -> None:
    rows = [MethodConfig(method="initial", name="initial")]
    with pytest.raises(BadInput, match="initial: it has nothing to train"):
        train(rows, tmp_path / "out", open_data("blocks", {}, 1), {}, 0, Progress())
    assert not (tmp_path / "out").exists()


def test_patients_left_out_and_doubts_are_told_once(tmp_path: Path) -> None:
    write(tmp_path / "p1", ct_hu=arrays()["ct_hu"] + 1024)
    write(tmp_path / "p2" / "ses-1")
    told: list[str] = []
    data = open_data("folders", {"dir": str(tmp_path)}, 1, told.append)
    assert [line.partition(":")[0] for line in told] == ["p2 was left out of train", "p2 was left out of val"]
    for _ in range(2):
        assert data.train[0].case == "p1"
    assert len(told) == 3 and told[2].startswith("p1 is used with doubt: ") and "expected a CT in HU" in told[2]
