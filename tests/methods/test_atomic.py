"""`atomic_write`: a file or folder appears whole or not at all, and nothing is left of one that fails."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from methods.atomic import atomic_write, is_unfinished

ROOT = Path(__file__).parents[2]


def fail_halfway(temporary: Path) -> None:
    temporary.write_text("half", encoding="utf-8")
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_replaced_as_a_whole(tmp_path: Path, durable: bool) -> None:
    file = tmp_path / "new" / "a.nii.gz"
    for text in ("first", "second"):
        atomic_write(file, lambda temporary, text=text: temporary.write_text(text, encoding="utf-8"), durable)
        assert file.read_text(encoding="utf-8") == text
    assert list(file.parent.iterdir()) == [file]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text("before", encoding="utf-8")
    with pytest.raises(OSError, match="No space"):
        atomic_write(file, fail_halfway)
    assert file.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.mkdir()
        (temporary / "a").write_text("a", encoding="utf-8")

    def break_off(temporary: Path) -> None:
        write(temporary)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        atomic_write(tmp_path / "patient", break_off)
    assert list(tmp_path.iterdir()) == []
    atomic_write(tmp_path / "patient", write)
    assert [path.name for path in tmp_path.rglob("*")] == ["patient", "a"]


def test_the_temporary_name_has_the_ending_asked_for_and_is_known_as_unfinished(tmp_path: Path) -> None:
    names: list[Path] = []

    def write(temporary: Path) -> None:
        names.append(temporary)
        temporary.write_text("", encoding="utf-8")

    for ending in ("", ".nii.gz"):
        atomic_write(tmp_path / "field.nii.gz", write, ending=ending)
        assert names[-1].parent == tmp_path and names[-1].name.endswith(f".tmp{ending}")
        assert is_unfinished(names[-1])
    assert not is_unfinished(tmp_path / "field.nii.gz")
    assert not is_unfinished(tmp_path / ".lock") and not is_unfinished(tmp_path / "notes.tmp")


def test_no_other_module_renames_a_temporary_file() -> None:
    by_hand = re.compile(r"os\.(replace|rename)\(|\btemporary\.replace\(|[\"']\S*\.tmp[\"']")
    found = [
        str(file.relative_to(ROOT))
        for package in ("benchmark", "methods", "reports")
        for file in sorted((ROOT / package).rglob("*.py"))
        if by_hand.search(file.read_text(encoding="utf-8"))
    ]
    assert found == ["methods/atomic.py"]
