"""Saved figures: their bytes and their resolution."""

from __future__ import annotations

import matplotlib
import pytest

from reports.figures.drawing import save
from reports.figures.fig2 import fig2, fig2_data


def test_the_same_data_give_the_same_bytes_whatever_the_users_style(two_patients, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1")
    (tmp_path / "again").mkdir()
    first = save(fig2(fig2_data(two_patients.data())), tmp_path / "one")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "2000000000")
    with matplotlib.rc_context({"axes.facecolor": "black", "font.size": 30, "savefig.facecolor": "red"}):
        second = save(fig2(fig2_data(two_patients.data())), tmp_path / "again" / "one")
    assert [file.suffix for file in first] == [".png", ".pdf", ".svg"]
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes(), one.suffix


def test_the_png_has_300_dots_an_inch(two_patients, tmp_path):
    from PIL import Image

    picture = save(fig2(fig2_data(two_patients.data())), tmp_path / "fig2")[0]
    with Image.open(picture) as image:
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        assert image.size[1] == 300 * 4.6
