"""Weights that a user brings: named where they are missing, hashed, and read as tensors alone."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from methods.weights import Published, checksum, load_into, load_tensors, missing_weights

PUBLISHED = Published("someone/project", "best.pth", "release v1")


def test_missing_weights_name_the_project_and_the_file(tmp_path: Path) -> None:
    download = "download best.pth (someone/project, release v1)"
    assert missing_weights(None, PUBLISHED) == f"weights: expected a file, got none; {download}"
    absent = tmp_path / "best.pth"
    assert missing_weights(absent, PUBLISHED) == f"weights: expected a file, got nothing at {absent}; {download}"
    absent.write_bytes(b"")
    assert missing_weights(absent, PUBLISHED) is None


def test_the_checksum_is_that_of_the_content(tmp_path: Path) -> None:
    file, other = tmp_path / "a.pth", tmp_path / "b.pth"
    file.write_bytes(b"weights")
    other.write_bytes(b"weights")
    before = checksum(file)
    assert before == checksum(other)
    file.write_bytes(b"changed")
    os.utime(file, ns=(0, 0))
    assert checksum(file) != before


def test_the_checksum_of_several_files_counts_an_absent_one(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(b"weights")
    alone = checksum(file, tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{}")
    assert checksum(file, tmp_path / "a.json") != alone


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_tensors_are_read_in_both_formats_and_fill_a_network(tmp_path: Path, suffix: str) -> None:
    network, file = nn.Linear(2, 3), tmp_path / f"best{suffix}"
    tensors = {f"_orig_mod.{name}": torch.full_like(tensor, 7) for name, tensor in network.state_dict().items()}
    (save_file if suffix == ".safetensors" else torch.save)(tensors, file)
    load_into(network, file, PUBLISHED)
    assert network.weight.eq(7).all() and network.bias.eq(7).all()


class Code:
    """What a malicious file holds: a call that unpickling makes."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (os.environ["RIGIDBENCH_TEST_FOLDER"],)


def test_code_in_a_file_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, file = tmp_path / "made", tmp_path / "best.pth"
    monkeypatch.setenv("RIGIDBENCH_TEST_FOLDER", str(folder))
    file.write_bytes(pickle.dumps(Code()))
    with pytest.raises(ValueError, match=r"weights: expected tensors in .*best\.pth, found .*; download it again"):
        load_tensors(file)
    assert not folder.exists()


def damaged(file: Path) -> None:
    file.write_bytes(b"<!DOCTYPE html>")


def number(file: Path) -> None:
    torch.save({"epoch": 3}, file)


@pytest.mark.parametrize(("write", "found"), [(damaged, "expected tensors in"), (number, "expected tensors by name")])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_other_content_is_refused_in_one_line(tmp_path: Path, write, found: str, suffix: str) -> None:
    file = tmp_path / f"best{suffix}"
    write(file)
    with pytest.raises(ValueError, match="weights: expected tensors") as caught:
        load_tensors(file)
    assert "\n" not in str(caught.value)
    assert found in str(caught.value) or suffix == ".safetensors"


def test_tensors_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "best.pth"
    torch.save(nn.Linear(2, 4).state_dict(), file)
    with pytest.raises(ValueError, match=r"expected the tensors of best\.pth \(someone/project\), got others in .*: "
                                         "bias differs, and 1 more"):  # fmt: skip
        load_into(nn.Linear(2, 3), file, PUBLISHED)
