"""Recorded statistics of one small phantom at 1 mm, which every machine must reproduce to 1e-5 of the value.

For each tissue mean and variance, for each image the power in bands of spatial frequency along each axis: of the CT and
of the T1- and the T2-weighted MR. A change of any value, of noise, of blur or of texture changes them.
`python tests/scenarios/test_golden_tissues.py` records them again after an intended change.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis import acquisition
from benchmark.datasets.synthesis.acquisition import acquire_ct, acquire_mr
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.contrast import Tissue, TissueMap, ct_hu, mr_signal
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from benchmark.datasets.synthesis.rasterise import render

GOLDEN = Path(__file__).parent / "golden" / "tissues.json"
SEED, VERTEBRAE = 11, 3
FEWEST = 500  # voxels of a tissue below which it is left out
TOLERANCE = 1e-5
BANDS = ((0.0, 0.06), (0.06, 0.12), (0.12, 0.25), (0.25, 0.5))  # cycles a voxel

Statistics = dict[str, dict[str, list[float]]]


def small_phantom() -> TissueMap:
    spine = draw_spine(PortableRng(SEED, 0), VERTEBRAE)
    return render(spine, grid_around(spine, 1.0), PortableRng(SEED, 1))[1]


def ct(tissues: TissueMap, ranges: Ranges = TRAINING) -> np.ndarray:
    rng = PortableRng(SEED, 3)
    return acquire_ct(ct_hu(tissues, rng, ranges), tissues.grid, rng, ranges)


def mr(tissues: TissueMap, weighting: str) -> np.ndarray:
    rng = PortableRng(SEED, 4)
    return acquire_mr(mr_signal(tissues, rng, weighting), tissues.grid, rng, 3.5)


def masks(tissues: TissueMap) -> dict[str, np.ndarray]:
    """The voxels of each tissue, without those at its surface: rounding may move a surface by a voxel."""
    found = {t.name.lower(): (tissues.soft == t) & (tissues.bone_mm > 1.5) for t in Tissue}
    found["marrow"], found["cortex"] = tissues.bone_mm < -3, np.abs(tissues.bone_mm + 1) < 0.9
    eroded = {name: binary_erosion(m) if name != "cortex" else m for name, m in found.items()}
    return {name: m for name, m in eroded.items() if m.sum() >= FEWEST}


def statistics(image: np.ndarray, tissues: TissueMap) -> dict[str, list[float]]:
    """Mean and variance of each tissue, and the power in each band along each axis."""
    values = image.astype(np.float64)
    result = {name: [float(values[m].mean()), float(values[m].var())] for name, m in masks(tissues).items()}
    for axis, name in enumerate("zyx"):
        power = np.square(np.abs(np.fft.rfft(values - values.mean(), axis=axis)))
        profile = power.mean(axis=tuple(a for a in range(3) if a != axis))
        frequency = np.fft.rfftfreq(values.shape[axis])
        bands = [(frequency > low) & (frequency <= high) for low, high in BANDS]
        result[f"spectrum {name}"] = [float(profile[band].mean()) for band in bands]
    return result


def all_statistics() -> Statistics:
    tissues = small_phantom()
    images = {"CT": ct(tissues), "T1": mr(tissues, "T1"), "T2": mr(tissues, "T2")}
    return {name: statistics(image, tissues) for name, image in images.items()}


def differing(measured: dict[str, list[float]], recorded: dict[str, list[float]]) -> set[str]:
    """The names whose values differ by more than the tolerance."""
    assert measured.keys() == recorded.keys()
    return {n for n, v in measured.items() if not np.allclose(v, recorded[n], rtol=TOLERANCE, atol=0)}


@pytest.fixture(scope="module")
def tissues() -> TissueMap:
    return small_phantom()


@pytest.fixture(scope="module")
def golden() -> Statistics:
    return json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("name", "make"), [("CT", ct), ("T1", lambda t: mr(t, "T1")), ("T2", lambda t: mr(t, "T2"))], ids=["CT", "T1", "T2"]
)
def test_tissues_and_spectra_are_reproduced(
    tissues: TissueMap, golden: Statistics, name: str, make: Callable[[TissueMap], np.ndarray]
) -> None:
    assert differing(statistics(make(tissues), tissues), golden[name]) == set()


def test_half_of_the_ct_noise_is_noticed(
    tissues: TissueMap, golden: Statistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    grain = acquisition._grain
    monkeypatch.setattr(acquisition, "_grain", lambda *a: grain(*a) / 2)
    changed = differing(statistics(ct(tissues), tissues), golden["CT"])
    assert changed >= {"marrow", "muscle", "spectrum x", "spectrum y", "spectrum z"}


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(all_statistics(), indent=1) + "\n", encoding="utf-8")
