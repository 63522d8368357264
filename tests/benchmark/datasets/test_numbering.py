"""Ids that are one level off in one of two scans give a doubt; honest pairs give none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.command_line import invoke

from benchmark.datasets.cache import loader
from benchmark.datasets.folders import load_patient, write_patient
from benchmark.datasets.numbering import numbering_doubt
from benchmark.datasets.phantom import Phantom
from methods.base import Case, Grid

GRID = Grid((176, 48, 64), (1.0, 1.0, 1.0), (-30.0, 10.0, 100.0))
ELSEWHERE = (400.0, -250.0, 900.0)  # origin of a scan in another coordinate frame


def blocks(first: int, shift: int = 0) -> np.ndarray:
    """Five blocks, the lower ones wider and longer, with ids from `first` at the top; shifted along y by voxels."""
    labels = np.zeros(GRID.shape, np.uint16)
    top = 165
    for level, (width, height) in enumerate(((26, 20), (29, 22), (33, 23), (40, 26), (38, 29))):
        labels[top - height : top, 8 + shift : 36 + shift, 32 - width // 2 : 32 + width // 2] = first + level
        top -= height + 4
    return labels


@pytest.fixture(scope="module", params=[0, 1])
def phantom(request: pytest.FixtureRequest) -> Case:
    """A phantom with 9 and one with 10 vertebrae, each in two postures."""
    dataset = Phantom("phantom", splits="phantom", spacing_mm=2.0, vertebrae=9 + request.param)
    return loader(dataset)(dataset.cases("val")[request.param])


def shifted(labels: np.ndarray, by: int) -> np.ndarray:
    return np.where(labels > 0, labels.astype(int) + by, 0).astype(np.uint16)


def doubt(case: Case, by: int = 0, origin: tuple[float, ...] | None = None, fixed: Sequence[int] = (),
          moving: Sequence[int] = ()) -> str | None:  # fmt: skip
    """The doubt about a case. by: added to all moving ids; fixed, moving: vertebrae that are left out of a scan."""
    grid = case.pair.grid
    moving_grid = grid if origin is None else replace(grid, origin_mm=origin)
    a, b = case.pair.fixed.labels, case.pair.moving.labels
    a, b = (np.where(np.isin(labels, ids), 0, labels) for labels, ids in ((a, list(fixed)), (b, list(moving))))
    return numbering_doubt(a, grid, shifted(b, by), moving_grid)


@pytest.mark.parametrize("origin", [None, ELSEWHERE])
@pytest.mark.parametrize(("by", "advice"), [(1, "lowered by 1"), (-1, "raised by 1")])
def test_a_phantom_whose_moving_ids_are_shifted_is_doubted(
    phantom: Case, by: int, advice: str, origin: tuple[float, ...] | None
) -> None:
    found = doubt(phantom, by, origin)
    assert found is not None and f"all ids of the moving labels are {advice}" in found


@pytest.mark.parametrize("origin", [None, ELSEWHERE])
def test_a_phantom_has_no_doubt(phantom: Case, origin: tuple[float, ...] | None) -> None:
    ids = sorted(set(np.unique(phantom.pair.fixed.labels).tolist()) - {0})
    assert doubt(phantom, 0, origin) is None
    for start in range(len(ids) - 5):
        outside = [v for v in ids if v not in ids[start : start + 6]]
        for fixed, moving in (([ids[start]], [ids[start + 5]]), ([ids[start + 5]], [ids[start]])):
            assert doubt(phantom, 0, origin, outside + fixed, outside + moving) is None, "other fields of view"


@pytest.mark.parametrize("origin", [GRID.origin_mm, ELSEWHERE])
def test_hand_built_vertebrae(origin: tuple[float, ...]) -> None:
    moving_grid = replace(GRID, origin_mm=origin)
    assert numbering_doubt(blocks(20), GRID, blocks(20, 3), moving_grid) is None
    assert "lowered by 1" in str(numbering_doubt(blocks(19), GRID, blocks(20, 3), moving_grid))
    assert "raised by 1" in str(numbering_doubt(blocks(20), GRID, blocks(19, 3), moving_grid))


def test_the_grids_may_differ() -> None:
    """Every second voxel along z: each grid is measured in millimetres."""
    thick = replace(GRID, shape=(88, 48, 64), spacing_mm=(1.0, 1.0, 2.0))
    assert "lowered by 1" in str(numbering_doubt(blocks(19), GRID, blocks(20, 3)[::2], thick))


def test_two_common_vertebrae_are_too_few() -> None:
    few = np.where(np.isin(blocks(20), (20, 21)), blocks(20), 0).astype(np.uint16)
    assert numbering_doubt(few, GRID, shifted(few, 1), GRID) is None


def test_a_vertebra_that_is_cut_does_not_count() -> None:
    """A block of a third of its height would fit no neighbour."""
    cut = blocks(20)
    bottom = np.argwhere(cut == 24)[:, 0]
    cut[bottom.min() : bottom.min() + 20][cut[bottom.min() : bottom.min() + 20] == 24] = 0
    assert "raised by 1" in str(numbering_doubt(cut, GRID, blocks(19), GRID, frozenset({24})))


def test_a_run_prints_the_doubt_and_notes_it_under_the_table(tmp_path: Path) -> None:
    scan = np.random.default_rng(0).normal(0, 50, GRID.shape).astype(np.float32)
    fixed, moving = blocks(19), blocks(20, 2)
    ct, mr = scan + 600 * (moving > 0), 300 + scan - 100 * (fixed > 0)
    folder = tmp_path / "patients" / "p1"
    folder.parent.mkdir()
    write_patient(folder, ct, moving, mr, fixed, None, GRID)
    (note,) = load_patient(folder).notes
    assert note.startswith(f"{folder / 'mr_mask.nii.gz'}, ct_mask.nii.gz: sizes, distances and positions")
    result = invoke("run", "--dataset", f"folders:{folder.parent}", "--methods", "initial", "--out", tmp_path / "run")
    words = " ".join(result.output.split())
    assert "p1 is used with doubt: " in words and "1 patient is used with doubt (p1: " in words
    assert "lowered by 1" in (tmp_path / "run" / "report" / "table1.md").read_text(encoding="utf-8")
