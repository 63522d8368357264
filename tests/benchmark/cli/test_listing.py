"""`list`: the names of each kind."""

from __future__ import annotations

import pytest
from support.command_line import invoke

from methods.voxelmorph.variants import VARIANTS


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("methods", "staring"),
        ("datasets", "folders"),
        ("metrics", "rigid_dsc"),
        ("penalties", "pc"),
        ("configs", "quick"),
    ],
)
def test_a_built_in_name_is_listed(kind: str, name: str) -> None:
    result = invoke("list", kind)
    assert result.exit_code == 0 and name in result.output


def test_every_deep_method_and_its_penalty_are_listed() -> None:
    result = invoke("list", "methods")
    listed = result.output.replace("\n", " ")
    assert result.exit_code == 0 and all(f" {name} " in f" {listed}" for name in VARIANTS)
    assert all(name in invoke("list", "penalties").output for name in ("rigid-dice", "rigid-field", "volume"))
