"""The list of elastix's parameter names covers the built-in files and leaves out names that elastix 5.3 ignores."""

from __future__ import annotations

import pytest

from methods.elastix import parameter_file
from methods.elastix.names import KNOWN


@pytest.mark.parametrize("file", parameter_file.BUILT_IN)
def test_every_name_of_a_built_in_file_is_known(file: str) -> None:
    assert parameter_file.read(parameter_file.locate(file))


@pytest.mark.parametrize("name", ["FinalGridSpacing", "UpsampleGridOption", "UseMovingRigidityImage"])
def test_a_name_of_old_manuals_is_not_known(name: str) -> None:
    assert name not in KNOWN
