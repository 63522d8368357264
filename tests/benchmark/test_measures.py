"""The built-in metrics on a phantom: what identity, true field and rigid fit score; and what every metric declares."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from scipy import ndimage
from support.small_runs import run_tiny
from support.synthetic import blocks_case

from benchmark.datasets.phantom import Phantom
from benchmark.evaluation import describe_pair, evaluate, label_tensor
from benchmark.fingerprint import measuring
from benchmark.results.columns import Column, declared
from benchmark.results.store import Run, read_run
from methods.base import Case, Registration
from methods.geometry import spacing_zyx, to_millimetres
from methods.registry import METRICS
from metrics.fields import identity_grid
from metrics.rigid import closest_rigid
from metrics.similarity import mind_loss

ARROW = {"Float64": "double", "Int64": "int64", "boolean": "bool", "string": "string"}


@pytest.fixture(scope="module")
def case() -> Case:
    return Phantom("phantom", spacing_mm=2.0).load("phantom-0117")


def test_identity_moves_nothing(case: Case) -> None:
    u = np.zeros((*case.pair.grid.shape, 3), np.float32)
    values, vertebrae, warped = evaluate(case, Registration(u))
    np.testing.assert_array_equal(warped, case.pair.moving.labels)
    initial = {row["vertebra"]: row["initial_dsc"] for row in describe_pair(case, rigid_fit=False)}
    for row in vertebrae:
        assert row["dsc"] == pytest.approx(initial[row["vertebra"]])
        assert row["rigid_dsc"] == pytest.approx(1) and row["volume_change_pct"] == 0
        assert row["soft_dsc"] == pytest.approx(row["dsc"]) and row["neighbour_overlap_pct"] in (0, None)
    assert values["folding_voxels"] == 0 and values["sd_log_jacobian"] == 0 and values["sd_log_jacobian_l2r"] == 0
    assert values["properness"] == pytest.approx(0, abs=1e-9)
    assert values["orthonormality"] == pytest.approx(0, abs=1e-9)


def test_the_true_field_has_no_error_and_moves_bones_rigidly(case: Case) -> None:
    values, vertebrae, _ = evaluate(case, Registration(case.true_displacement_mm))
    fits = {row["vertebra"]: row["rigid_fit_dsc"] for row in describe_pair(case)}
    for row in vertebrae:
        # The fixed label is an annotator's: no rigid motion fits it much better than the least squared difference does.
        assert fits[row["vertebra"]] - 0.05 < row["dsc"] < fits[row["vertebra"]] + 0.02
        # The motion is rigid in the label's core only: where neighbours come close, its rim bends.
        assert row["rigid_dsc"] > 0.98 and row["volume_change_pct"] < 4
        assert row["tre_mm"] == pytest.approx(0, abs=1e-4) and row["gap_error_mm"] in (0, None)
        # Half a voxel's weight at the surface matches itself by half only, on the scale of the released code.
        assert 0.8 < row["soft_rigid_dsc"] < 0.95
        assert row["rotation_error_deg"] == pytest.approx(0, abs=1e-2)
    assert values["folding_voxels"] == 0


def test_a_rigid_field_for_each_vertebra_reaches_the_rigid_fit(case: Case) -> None:
    """Each voxel moves with the nearest vertebra of the fixed label: rigid in each, discontinuous in between."""
    moving, fixed = (label_tensor(s.labels) for s in (case.pair.moving, case.pair.fixed))
    fits = {row["vertebra"]: row["rigid_fit_dsc"] for row in describe_pair(case)}
    ids, spacing_mm = list(fits), spacing_zyx(case.pair.grid)
    fit = closest_rigid(moving, fixed, ids, spacing_mm)
    assert fit.converged.all()
    nearest = ndimage.distance_transform_edt(fixed.numpy() == 0, return_distances=False, return_indices=True)
    which = torch.searchsorted(torch.tensor(ids), torch.from_numpy(fixed.numpy()[tuple(nearest)]).long()).flatten()
    spacing = torch.tensor(spacing_mm).view(3, 1)
    x = identity_grid(fixed.shape).flatten(2)[0] * spacing
    moved = torch.einsum("pij,jp->ip", fit.rotation[which], x) + fit.translation[which].T
    u = ((moved - x) / spacing).view(1, 3, *fixed.shape)
    columns = ("dsc", "rigid_dsc", "volume_change_pct", "folding_voxels")
    values, vertebrae, _ = evaluate(case, Registration(to_millimetres(u, case.pair.grid)), columns)
    for row in vertebrae:
        # The fit counts a voxel from a half on, and warped labels compete with their neighbours.
        assert row["dsc"] == pytest.approx(fits[row["vertebra"]], abs=0.01)
        assert row["rigid_dsc"] > 0.98 and row["volume_change_pct"] < 5
    assert values["folding_voxels"] > 0


def test_a_lost_vertebra_counts_as_the_worst_and_leaves_the_others_their_rigidity() -> None:
    blocks = blocks_case("blocks")
    u = np.zeros((*blocks.pair.grid.shape, 3), np.float32)
    u[ndimage.binary_dilation(blocks.pair.moving.labels == 21, iterations=2)] = 1e4
    columns = ("dsc", "rigid_dsc", "soft_rigid_dsc", "hd95_mm", "assd_mm", "properness", "orthonormality")
    values, vertebrae, _ = evaluate(blocks, Registration(u), columns)
    lost = next(row for row in vertebrae if row["vertebra"] == 21)
    assert (lost["dsc"], lost["rigid_dsc"], lost["soft_rigid_dsc"]) == (0, 0, 0)
    assert lost["hd95_mm"] == lost["assd_mm"] == pytest.approx(float(np.linalg.norm(blocks.pair.grid.shape)))
    assert values["properness"] == pytest.approx(0, abs=1e-3) and values["orthonormality"] is not None


def test_bones_that_change_their_distance_have_a_gap_error() -> None:
    """The upper of three bones moves up by 2 mm more than in truth."""
    blocks = blocks_case("blocks")
    u = np.zeros((*blocks.pair.grid.shape, 3), np.float32)
    known, moved = replace(blocks, true_displacement_mm=u), u.copy()
    moved[37:, ..., 2] = -2.0
    vertebrae = evaluate(known, Registration(moved), ("gap_error_mm", "neighbour_overlap_pct"))[1]
    assert {row["vertebra"]: row["gap_error_mm"] for row in vertebrae} == {20: pytest.approx(2), 21: 0, 22: None}
    assert [row["neighbour_overlap_pct"] for row in vertebrae] == [0, 0, None]


def test_every_metric_declares_unit_title_and_better_end() -> None:
    neither_end = {"volume_change_signed_pct"}
    for entry in METRICS:
        column: Column = entry.settings["column"]
        if entry.origin == "built in":
            assert column.title != column.name and column.description, entry.name
            assert (column.better is None) == (entry.name in neither_end), entry.name


@pytest.fixture(scope="module")
def run_of_tiny(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two cases with a plugin's metric, read from its folder."""
    folder = tmp_path_factory.mktemp("run")
    run_tiny(tiny, folder, ["true-shift"])
    return read_run(folder)


@pytest.mark.parametrize("table", ["pairs", "vertebrae", "cases"])
def test_every_declared_column_is_in_the_table_with_its_type(run_of_tiny: Run, table: str) -> None:
    schema = pq.read_schema(run_of_tiny.folder / f"{table}.parquet")
    types = {name: str(schema.field(name).type).removeprefix("large_") for name in schema.names}
    assert types == {name: ARROW[column.dtype] for name, column in declared(table).items()}


def test_a_run_knows_the_declaration_of_every_column(run_of_tiny: Run) -> None:
    names = {*run_of_tiny.pairs, *run_of_tiny.vertebrae, *run_of_tiny.cases}
    assert set(run_of_tiny.columns) == names
    assert {column.name for column in run_of_tiny.columns.values() if column.metric} == {e.name for e in METRICS}


def test_a_plugins_metric_is_a_declared_column_of_the_run(run_of_tiny: Run) -> None:
    assert run_of_tiny.cases["mean_motion_mm"].tolist() == [2, 2]
    column = run_of_tiny.columns["mean_motion_mm"]
    assert (column.per, column.title, column.unit, column.better) == ("case", "Mean motion", "mm", None)


def test_the_code_of_every_built_in_metric_is_in_the_fingerprint() -> None:
    modules = {entry.load().__module__ for entry in METRICS if entry.origin == "built in"}
    assert modules <= measuring().modules


def test_similarity_compares_voxels_that_both_scans_saw(case: Case) -> None:
    pair = case.pair
    moving_inside, fixed_inside = np.ones((2, *pair.grid.shape), bool)
    moving_inside[..., :12], fixed_inside[: pair.grid.shape[0] // 2] = False, False
    cut = replace(
        pair, moving=replace(pair.moving, inside=moving_inside), fixed=replace(pair.fixed, inside=fixed_inside)
    )
    still = Registration(np.zeros((*pair.grid.shape, 3), np.float32))
    value = evaluate(replace(case, pair=cut), still, columns=["similarity"])[0]["similarity"]
    images = [torch.from_numpy(scan.image)[None, None] for scan in (pair.moving, pair.fixed)]
    mask = torch.from_numpy(moving_inside & fixed_inside)[None, None].float()
    assert value == pytest.approx(mind_loss(*images, mask).item(), rel=1e-5)
    assert value != pytest.approx(evaluate(case, still, columns=["similarity"])[0]["similarity"], rel=1e-3)
