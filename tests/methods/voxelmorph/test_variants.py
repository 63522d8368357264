"""The released variants: their weights come with the program."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from methods import voxelmorph

WEIGHTS = Path(voxelmorph.__file__).parent / "weights"


def test_all_weights_together_are_small() -> None:
    """In half precision nine networks take 18 MB of the 25 that the repository allows."""
    for file in WEIGHTS.glob("*.safetensors"):
        assert {v.dtype.itemsize for v in load_file(file).values()} <= {2, 4}
    assert sum(f.stat().st_size for f in WEIGHTS.iterdir()) < 25e6
