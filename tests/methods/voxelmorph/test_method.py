"""The method: its settings, its weights and the reasons why it is unavailable."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from methods.base import Grid, Pair, Scan
from methods.registry import create_method


def small_pair() -> Pair:
    """Noise in both images."""
    grid = Grid((32, 32, 32))
    image = np.random.default_rng(0).random((2, *grid.shape), np.float32)
    return Pair("a", Scan(image[0], None, grid), Scan(image[1], np.ones(grid.shape, np.uint16), grid))


def test_precision_and_piece_size_are_settings() -> None:
    grid = Grid((320, 32, 32))  # at 2 mm, a piece of 16 slices with its margins is smaller than the volume
    image = np.random.default_rng(0).random((2, *grid.shape), np.float32)
    pair = Pair("a", Scan(image[0], None, grid), Scan(image[1], np.ones(grid.shape, np.uint16), grid))

    def displacement(**settings: object) -> np.ndarray:
        method = create_method("voxelmorph", settings)
        method.prepare("cpu", 1, 0)
        return method.register(pair).displacement_mm

    fp32, bf16 = displacement(precision="fp32"), displacement(precision="bf16")
    pieces = displacement(precision="fp32", largest_voxels=1)
    assert not np.array_equal(fp32, bf16) and not np.array_equal(fp32, pieces)
    np.testing.assert_allclose(pieces, fp32, atol=1e-3)
    with pytest.raises(ValueError, match="precision"):
        create_method("voxelmorph", {"precision": "fp8"})


def test_weights_trained_with_other_penalties_are_refused(tmp_path: Path) -> None:
    reason = create_method("voxelmorph", {"penalties": {"pc": 0.3}}, "mine").unavailable("cpu")
    assert reason and "no weights at methods/voxelmorph/weights/mine.safetensors" in reason
    assert "train --config FILE --methods mine" in reason
    shipped = create_method("voxelmorph").weights
    reason = create_method("voxelmorph", {"penalties": {"pc": 0.3}, "weights": shipped}).unavailable("cpu")
    assert reason and "trained with penalties {}, this row names {'pc': 0.3}" in reason
    reason = create_method("voxelmorph", {"penalties": {"pc": None}, "weights": shipped}).unavailable("cpu")
    assert reason and "trained with penalties {}, this row names {'pc': None}" in reason


def test_a_relative_path_refers_to_the_commands_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A method runs in another working directory, so the settings make the path absolute."""
    monkeypatch.chdir(tmp_path)
    method = create_method("voxelmorph", {"weights": "w/mine.safetensors"})
    monkeypatch.chdir("/")
    assert method.weights == tmp_path / "w" / "mine.safetensors"


def test_an_unknown_penalty_without_weights_is_named() -> None:
    reason = create_method("voxelmorph", {"penalties": {"pcc": 1.0}}, "mine").unavailable("cpu")
    assert reason is not None and "no penalty 'pcc'" in reason
    reason = create_method("voxelmorph", {"penalties": {"pc": 1.0}}, "mine").unavailable("cpu")
    assert reason is not None and "train --config FILE --methods mine" in reason


def test_missing_weights_of_a_configuration_are_trained_by_that_configuration(tmp_path: Path) -> None:
    """`train --methods pc` without the configuration would write other files."""
    reason = create_method("pc", {"weights": tmp_path / "pc.safetensors"}).unavailable("cpu")
    assert reason is not None and "train --config FILE --methods pc" in reason


def test_cards_with_former_and_present_names_give_the_same_displacement(tmp_path: Path) -> None:
    """Older cards call shrink_factor coarsening."""
    shipped = create_method("voxelmorph").weights
    card = json.loads(shipped.with_suffix(".json").read_text(encoding="utf-8"))
    card["training"]["coarsening"] = card["training"].pop("shrink_factor")
    weights = tmp_path / "former.safetensors"
    weights.write_bytes(shipped.read_bytes())
    weights.with_suffix(".json").write_text(json.dumps(card))
    pair = small_pair()
    displacements = []
    for file in (shipped, weights):
        method = create_method("voxelmorph", {"weights": file, "precision": "fp32"})
        method.prepare("cpu", 1, 0)
        displacements.append(method.register(pair).displacement_mm)
    np.testing.assert_array_equal(*displacements)


def test_the_number_of_kept_passes_is_a_note_of_rows_with_several(pairs: list[Pair]) -> None:
    one, two = (create_method("voxelmorph", {"passes": n}) for n in (1, 2))
    for method in (one, two):
        method.prepare("cpu", 1, 0)
    assert one.register(pairs[0]).notes == {}
    assert two.register(pairs[0]).notes["passes_kept"] in (1.0, 2.0)
