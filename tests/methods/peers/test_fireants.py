"""`fireants`: settings, the reason without an environment, and a shift where the package is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.shifted_pair import DIRECTION, shifted_pair

from methods.base import Grid
from methods.registry import create_method

OBLIQUE = Grid((34, 36, 38), (1.5, 1.0, 2.0), (12.0, -30.0, 5.0), DIRECTION)
COMMAND = "fireants/bin/pip install fireants safetensors, then set python: fireants/bin/python"


def test_without_its_environment_the_row_names_the_commands_in_one_line(tmp_path: Path) -> None:
    reason = create_method("fireants", {"python": tmp_path / "python"}).unavailable("cpu")
    assert reason is not None and "\n" not in reason
    assert reason.startswith(f"python: expected the Python of an environment, got {tmp_path / 'python'}")
    assert reason.endswith(COMMAND)


def test_the_fingerprint_is_that_of_the_other_environment(tmp_path: Path) -> None:
    assert create_method("fireants", {"python": tmp_path / "python"}).fingerprint() == ""


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"scales": (4, 2)}, "iterations: expected 2"), ({"scales": (1, 2, 4)}, "scales: expected decreasing factors")],
)
def test_scales_and_iterations_that_do_not_fit_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_method("fireants", settings)


def test_a_shift_is_found_in_lps_millimetres_where_fireants_is_installed() -> None:
    method = create_method("fireants", {"scales": (2, 1), "iterations": (30, 10)})
    if reason := method.unavailable("cpu"):
        pytest.skip(reason)
    method.prepare("cpu", 1, 0)
    registration = method.register(shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)))
    registration.check(OBLIQUE)
    found = np.median(registration.displacement_mm[10:-10, 10:-10, 10:-10].reshape(-1, 3), axis=0)
    np.testing.assert_allclose(found, OBLIQUE.matrix @ np.array([2.25, -2.0, 2.0]), atol=0.8)
