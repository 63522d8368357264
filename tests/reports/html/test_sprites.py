"""The pictures that the page embeds."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from reports.html.sprites import encode
from reports.run_data import Row


def decoded(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return np.array(image.convert("L"))


def test_a_dark_scan_fills_the_range_of_grey_values_and_a_warped_one_is_scaled_alike(tmp_path: Path) -> None:
    ramp = np.tile(np.linspace(0, 40, 32).astype(np.uint8), (2, 32, 1))
    parts = {f"{name}_{plane}": ramp for name in ("ct", "mr") for plane in ("sagittal", "axial")}
    (tmp_path / "pictures" / "pc@cpu").mkdir(parents=True)
    np.savez(tmp_path / "pictures" / "a.npz", x=[0, 1], z=[0, 1], spacing_mm=(1.0, 1.0, 1.0), **parts)
    warped = {f"warped_ct_{plane}": ramp // 2 for plane in ("sagittal", "axial")}
    np.savez(tmp_path / "pictures" / "pc@cpu" / "a.npz", **warped)
    (sprites,) = encode(tmp_path, [Row("pc", "cpu", "pc")], ["a"])
    assert decoded(sprites.content["axial"]["mr"]).max() > 245
    brightest = decoded(sprites.content["rows"]["pc@cpu"]["axial"]["ct"]).max()
    assert 115 < brightest < 140, "half of the scan's brightest value stays half"
