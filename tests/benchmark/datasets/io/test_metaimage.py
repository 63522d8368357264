"""MetaImage files of which a part is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scan_files import noise, save

from benchmark.datasets.io.images import read_image
from benchmark.errors import BadInput


def test_a_header_without_its_values_names_their_file(tmp_path: Path) -> None:
    save(tmp_path / "mr.mhd", noise())
    (tmp_path / "mr.raw").rename(tmp_path / "other.raw")
    with pytest.raises(BadInput, match=r"mr.mhd: expected its values in mr.raw beside it, found no such file; copy"):
        read_image(tmp_path / "mr.mhd")


@pytest.mark.parametrize("suffix", [".raw", ".zraw"])
def test_values_without_their_header_are_refused(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"mr{suffix}").write_bytes(bytes(100))
    with pytest.raises(BadInput, match=f"mr{suffix}: expected an image with a header, .* give mr.mhd"):
        read_image(tmp_path / f"mr{suffix}")


def test_values_in_the_header_file_or_in_one_file_a_slice_are_left_to_itk(tmp_path: Path) -> None:
    save(tmp_path / "mr.mha", noise())
    (tmp_path / "mr.mha").rename(tmp_path / "mr.mhd")
    assert read_image(tmp_path / "mr.mhd")[0].shape == noise().shape
    (tmp_path / "mr.mhd").write_text("ElementDataFile = LIST\nmr0.raw\n", encoding="utf-8")
    with pytest.raises(BadInput, match="expected a medical image"):
        read_image(tmp_path / "mr.mhd")
