"""The rows of the table are names with penalties, whose weights belong to a profile."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from methods import voxelmorph
from methods.registry import METHODS, create_method
from methods.voxelmorph.settings import make_training
from methods.voxelmorph.variants import VARIANTS, WEIGHTS
from reports.paper import TABLE1


def test_every_deep_row_of_table_1_is_a_name_with_penalties() -> None:
    deep = [name for name in TABLE1 if name not in ("initial", "staring")]
    assert [name for name in VARIANTS if name in TABLE1] == deep and set(VARIANTS) - set(deep) == {"volume"}
    for name, penalties in VARIANTS.items():
        assert METHODS[name].settings == {"penalties": penalties}
        method = create_method(name)
        assert method.settings.penalties == penalties
    paper = create_method("pc+rigid-dice", {"profile": "paper"}).settings.resolved()
    assert paper.penalties == {"pc": 0.01, "rigid-dice": 0.1}, "the released code's"
    assert make_training("paper", {}, VARIANTS["oc"] | VARIANTS["rigid-field"]).penalties == {
        "oc": 0.005, "rigid-field": 0.01
    }  # fmt: skip
    assert create_method("pc").settings.resolved().penalties == {"pc": WEIGHTS["cpu"]["pc"]}
    assert make_training("cpu", {}, {"pc": 0.3, "mine": 2.0}).penalties == {"pc": 0.3, "mine": 2.0}
    with pytest.raises(ValueError, match=r"penalties.mine: expected a weight, got none; the profile cpu has .* pc, oc"):
        make_training("cpu", {}, {"mine": None})


def test_all_weights_together_are_small() -> None:
    """Nine networks in half precision take 18 MB of the 25 MB that the repository allows."""
    files = list((Path(voxelmorph.__file__).parent / "weights").iterdir())
    for file in files:
        if file.suffix == ".safetensors":
            assert {v.dtype.itemsize for v in load_file(file).values()} <= {2, 4}
    assert sum(file.stat().st_size for file in files) < 25e6
