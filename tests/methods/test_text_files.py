"""Text files as editors save them."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.text_files import read_text

TEXT = "a: Größe\nb: 2\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_encodings_with_a_mark_and_line_ends_are_read(tmp_path: Path, encoding: str, end: str) -> None:
    (tmp_path / "a.txt").write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_text(tmp_path / "a.txt") == TEXT


def test_another_encoding_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(f"x: 1\n{TEXT}".encode("latin-1"))
    with pytest.raises(ValueError, match=r"text that is not UTF-8 \(byte 0xf6 in line 2\); save it as UTF-8"):
        read_text(tmp_path / "a.txt")
    assert read_text(tmp_path / "a.txt", single_bytes=True) == f"x: 1\n{TEXT}"
