"""What a run folder says about following shifts, and for which weights it holds."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from support.small_runs import tiny_config

from benchmark.errors import BadInput
from benchmark.execution.plan import make_plan, settings_and_weights
from benchmark.results.following import OTHER, UNKNOWN, Following, made_with, read_following, write_following

CONFIG = {"seed": 0, "methods": [{"name": "voxelmorph", "seed": None}, {"name": "pc", "seed": 3}]}
SLOPES = {"voxelmorph": [0.0, 0.81, 0.62], "pc": [0.1, 0.9, 1.0]}
MADE = {"voxelmorph": "set0.net0", "pc": "set3.net3"}


def cells(**made: str) -> pd.DataFrame:
    """Cells of rows, with the first parts of their fingerprints, and cells of other seeds and without a result."""
    lines = [(name, 3 if name == "pc" else 0, "ok", f"{parts}.data.code") for name, parts in made.items()]
    lines += [("pc", 4, "ok", "set4.net4.data.code"), ("pc", 3, "failed", "set0.net0.data.code")]
    return pd.DataFrame(lines, columns=["method", "seed", "status", "fingerprint"])


def test_slopes_are_used_for_cells_of_the_same_settings_and_weights(tmp_path: Path) -> None:
    assert read_following(tmp_path, CONFIG, cells(**MADE)) == Following()
    write_following(tmp_path, SLOPES, MADE)
    assert read_following(tmp_path, CONFIG, cells(**MADE)) == Following(SLOPES, {})


@pytest.mark.parametrize("made", ["set0.other", "other.net0"])
def test_slopes_of_other_weights_or_settings_are_not_used(tmp_path: Path, made: str) -> None:
    write_following(tmp_path, SLOPES, MADE)
    found = read_following(tmp_path, CONFIG, cells(voxelmorph=made, pc=MADE["pc"]))
    assert found == Following({"pc": SLOPES["pc"]}, {"voxelmorph": OTHER})


def test_slopes_of_an_earlier_version_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "following.csv").write_text("row,along the spine,front to back,left to right\npc,0.1,0.9,1\n")
    assert read_following(tmp_path, CONFIG, cells(**MADE)) == Following({}, {"pc": UNKNOWN})


def test_another_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "following.csv").write_text("row,z\nvoxelmorph,fast\n")
    with pytest.raises(BadInput, match=r"following.csv: expected columns row, made_with, along the spine"):
        read_following(tmp_path, CONFIG, cells(**MADE))


def test_a_rows_settings_and_weights_are_the_first_parts_of_its_cells_fingerprints(tiny: Path) -> None:
    config = tiny_config(tiny, ["true-shift"])
    (task,) = make_plan(config).tasks(["one"])
    assert made_with(task.fingerprint) == settings_and_weights(config, task.method)
