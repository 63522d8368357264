"""The row `smoothed`: the field of another row after a Gaussian of a given width in mm."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from checks.tuning.smoothed import chosen

from methods.base import Grid, Method, Pair, Registration, Scan
from methods.registry import METHODS, create_method
from methods.smoothed import smooth

GRID = Grid((20, 24, 28), spacing_mm=(1.0, 2.0, 4.0))


def test_the_width_is_in_millimetres_along_each_axis() -> None:
    u = np.zeros((41, 41, 41, 3), np.float32)
    u[20, 20, 20, 1] = 1.0
    found = smooth(u, Grid((41, 41, 41), spacing_mm=(1.0, 2.0, 4.0)), 4.0)
    assert not found[..., [0, 2]].any() and found.dtype == np.float32
    for axis, spacing in ((0, 4.0), (1, 2.0), (2, 1.0)):
        weights = found[..., 1].sum(axis=tuple({0, 1, 2} - {axis}))
        spread = np.sqrt((weights * ((np.arange(41) - 20) * spacing) ** 2).sum() / weights.sum())
        assert spread == pytest.approx(4.0, rel=0.05)


def test_a_constant_displacement_stays_and_width_0_changes_nothing() -> None:
    constant = np.full((*GRID.shape, 3), 3.0, np.float32)
    np.testing.assert_allclose(smooth(constant, GRID, 8.0), constant, rtol=1e-6)
    noise = np.random.default_rng(0).random((*GRID.shape, 3), np.float32)
    np.testing.assert_array_equal(smooth(noise, GRID, 0.0), noise)


class Stepping(Method):
    """A displacement with a step."""

    def register(self, pair: Pair) -> Registration:
        u = np.zeros((*pair.grid.shape, 3), np.float32)
        u[pair.grid.shape[0] // 2 :] = 2.0
        return Registration(u, {"steps": 1.0})


def test_the_row_smooths_the_field_of_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METHODS, "_added", dict(METHODS._added))
    METHODS.add("stepping", Stepping)
    scan = Scan(np.zeros(GRID.shape, np.float32), np.ones(GRID.shape, np.uint16), GRID)
    row = create_method("smoothed", {"start": "stepping", "sigma_mm": 5.0, "chosen_for": None})
    assert row.unavailable("cpu") is None and row.uses == ("stepping",)
    row.prepare("cpu", 1, 0)
    found = row.register(Pair("p", scan, scan))
    start = Stepping("stepping").register(Pair("p", scan, scan))
    np.testing.assert_array_equal(found.displacement_mm, smooth(start.displacement_mm, GRID, 5.0))
    assert found.notes == {"steps": 1.0}
    other = create_method("smoothed", {"start": "stepping", "sigma_mm": 5.0, "chosen_for": "0123"})
    other.prepare("cpu", 1, 0)
    warning = str(other.register(Pair("p", scan, scan)).notes["warning"])
    assert warning.startswith("the width of 5 mm was not chosen for these weights of stepping; choose it by")


def test_the_registered_row_has_a_width_and_depends_on_the_weights_of_its_start() -> None:
    row = create_method("smoothed")
    assert row.settings.start == "voxelmorph" and row.settings.sigma_mm > 0
    other = create_method("smoothed", {"start": "pc"})
    assert row.fingerprint() != other.fingerprint()


def test_a_start_that_cannot_run_is_said() -> None:
    assert create_method("smoothed", {"start": "none"}).unavailable("cpu") == "no row 'none' to smooth (--plugin?)"
    assert create_method("smoothed", {"start": "polyrigid"}).unavailable("cuda") == (
        "its start, polyrigid, does not run on cuda"
    )
    missing = create_method("smoothed", {"start_settings": {"weights": "missing.safetensors"}}).unavailable("cpu")
    assert missing is not None and missing.startswith("its start, voxelmorph: no weights at ")


@pytest.mark.parametrize(
    ("dsc", "width"), [((0.70, 0.72, 0.71, 0.69), 4.0), ((0.70, 0.72, 0.71, 0.70), 8.0), ((0.7, 0.69, 0.71, 0.7), 0.0)]
)
def test_the_chosen_width_is_the_widest_before_dsc_falls_below_that_without_filter(
    dsc: tuple[float, ...], width: float
) -> None:
    assert chosen(pd.DataFrame({"dsc": dsc}, index=[0.0, 2.0, 4.0, 8.0])) == width
