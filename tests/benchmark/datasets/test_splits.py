"""Split files: schema, random assignment and writing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.datasets.base import SPLITS
from benchmark.datasets.splits import Splits, draw_splits, patient_of, read_splits, write_splits
from benchmark.errors import BadInput

SHIPPED = sorted((Path(__file__).resolve().parents[3] / "data_splits").glob("*.json"))


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_every_shipped_file_follows_the_schema(file: Path) -> None:
    assert read_splits(file).test


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_list_is_read_as_editors_save_it(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "split.json").write_bytes('{\r\n\t"test": ["Müller"]\r\n}\r\n'.encode(encoding))
    assert read_splits(tmp_path / "split.json").test == ["Müller"]


def test_another_encoding_is_refused(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_bytes('{"test": ["Müller"]}'.encode("latin-1"))
    with pytest.raises(BadInput, match=r"split.json: .* found text that is not UTF-8 .*; save it as UTF-8"):
        read_splits(tmp_path / "split.json")


def test_scans_of_one_patient_stay_together(tmp_path: Path) -> None:
    assert patient_of("sub-1_ses-a") == "sub-1" and patient_of("p_1") == "p_1"
    (tmp_path / "split.json").write_text('{"train": ["sub-1_ses-a"], "test": ["sub-1_ses-b"]}')
    with pytest.raises(BadInput, match=r"split.json: expected each patient in one split, found 'sub-1' in 'train'"):
        read_splits(tmp_path / "split.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "expected a JSON object"),
        ("[]", "found list"),
        ('{"tests": []}', "expected lists of names under train, val and test"),
        ('{"test": [1]}', "expected lists of names"),
        ('{"train": ["a"], "test": ["a"]}', "found 'a' more than once"),
        ('{"test": ["a"], "seed": -1}', "found -1 as seed"),
        ('{"test": ["a", "a"]}', "found 'a' more than once"),
        ('{"test": "a"}', "found 'a' as test"),
    ],
)
def test_files_with_other_content_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(BadInput, match=f"split.json: .*{words}"):
        read_splits(tmp_path / "split.json")


def test_splits_have_the_proportions_of_the_paper() -> None:
    names = [f"p{n:03d}" for n in range(167)]
    splits = draw_splits(names, names, "folders", 0)
    assert [len(getattr(splits, s)) for s in SPLITS] == [117, 25, 25]
    assert sorted(splits.train + splits.val + splits.test) == names
    assert draw_splits(names, names, "folders", 0) == splits
    assert draw_splits(names, names, "folders", 1).test != splits.test


def test_patients_that_cannot_be_evaluated_serve_training() -> None:
    names = ["a", "b", "c", "only-ct", "sub-1_ses-1", "sub-1_ses-2"]
    splits = draw_splits(names, ["a", "b", "c", "sub-1_ses-1"], "folders", 3)
    assert len(splits.val) == len(splits.test) == 1
    assert {"only-ct", "sub-1_ses-1", "sub-1_ses-2"} <= set(splits.train)
    with pytest.raises(BadInput, match="at least three patients with labels of both scans, found 2"):
        draw_splits(names, ["a", "b"], "folders", 0)


def test_a_split_file_is_written_and_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "neu é" / "split.json"
    write_splits(file, Splits(dataset="folders", seed=3, train=["ä"], test=["b"]))
    assert read_splits(file) == Splits(dataset="folders", seed=3, train=["ä"], test=["b"])
    assert json.loads(file.read_text(encoding="utf-8"))["seed"] == 3
    with pytest.raises(BadInput, match="expected a new file"):
        write_splits(file, Splits())
    with pytest.raises(BadInput, match="expected a folder to write into, found a file"):
        write_splits(file / "inside.json", Splits())
    assert [p.name for p in file.parent.iterdir()] == ["split.json"]
