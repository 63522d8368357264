"""Landmarks and keypoints as spreadsheets and editors save them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.io.landmarks import COLUMNS, read_keypoints, read_landmarks
from benchmark.errors import BadInput
from methods.base import Grid

HEAD = ",".join(COLUMNS)
PLAIN = f"{HEAD}\n1.5,2,3,4,5,-6.25\n7,8,9,10,11,12\n"
POINTS = [[[1.5, 2, 3], [7, 8, 9]], [[4, 5, -6.25], [10, 11, 12]]]
GERMAN = PLAIN.replace(",", ";").replace(".", ",")

READ = {
    "plain": PLAIN,
    "semicolons": PLAIN.replace(",", ";"),
    "semicolons and decimal commas": GERMAN,
    "tabs and decimal commas": GERMAN.replace(";", "\t"),
    "blanks": PLAIN.replace(",", "   "),
    "blanks and decimal commas": GERMAN.replace(";", " "),
    "blanks after commas": PLAIN.replace(",", " , "),
    "quotes": "\n".join(",".join(f'"{v}"' for v in line.split(",")) for line in PLAIN.split()),
    "quoted decimal commas": PLAIN.replace("1.5", '"1,5"').replace("-6.25", '"-6,25"'),
    "Excel's first line": f"sep=;\n{GERMAN}",
    "empty rows and trailing separators": f"\n{PLAIN.replace(',', ';')};;;;;\n   \n".replace("-6.25", "-6.25;;"),
    "other columns": PLAIN.replace("fixed_x", "name,Fixed_X").replace("1.5,", "Größe,1.5,").replace("\n7", "\nb,7"),
}


@pytest.mark.parametrize("name", READ)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tables_of_spreadsheets_are_read(tmp_path: Path, name: str, encoding: str, end: str) -> None:
    (tmp_path / "landmarks.csv").write_bytes(READ[name].replace("\n", end).encode(encoding))
    np.testing.assert_array_equal(read_landmarks(tmp_path / "landmarks.csv"), POINTS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y,z\n1,2,3\n", "found no fixed_x in x,y,z; add it"),
        ("", "found no fixed_x in an empty file; add it"),
        (f"{HEAD},fixed_x\n1,2,3,4,5,6,7\n", "found a second fixed_x"),
        (f"{HEAD}\n1,5,2,5,3,5,4,5,5,5,6,5\n", "expected 6 values for point 1, found 12; separate them by semicolons"),
        (f"{HEAD}\n1,2,3\n", "expected finite numbers for point 1, found 1, 2, 3, , , ; correct it"),
        (f"{HEAD}\n1,2,3,4,5,6 mm\n", "found 1, 2, 3, 4, 5, 6 mm; correct it"),
        (GERMAN.replace("1,5", "1.001,5"), "found 1.001,5"),
    ],
)
def test_other_tables_are_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "landmarks.csv").write_text(text)
    with pytest.raises(BadInput, match=rf"landmarks\.csv: .*{words}"):
        read_landmarks(tmp_path / "landmarks.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", ", "])
def test_keypoints_are_read_with_any_separator(tmp_path: Path, separator: str) -> None:
    for name in ("fixed.csv", "moving.csv"):
        text = f"1{separator}2{separator}3\r\n4{separator}5{separator}6\r\n"
        (tmp_path / name).write_bytes(text.encode("utf-8-sig"))
    grid = Grid((8, 8, 8), (2.0, 2.0, 2.0))
    points = read_keypoints(tmp_path / "fixed.csv", grid, tmp_path / "moving.csv", grid)
    np.testing.assert_array_equal(points, [[[2, 4, 6], [8, 10, 12]]] * 2)
