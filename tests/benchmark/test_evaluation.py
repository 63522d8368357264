"""Evaluation of one registration: which metrics are computed, how a pair is described, which errors name a metric."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from benchmark.evaluation import Evaluation, MetricError, compute, describe_pair, evaluate, label_tensor
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.registry import METRICS, MetricRegistry
from metrics import _closest_rigid, boxes, label_warping, overlap, regularity

GRID = Grid((20, 20, 20))
STILL = Registration(np.zeros((*GRID.shape, 3), np.float32))


@pytest.fixture
def case() -> Case:
    """L1 in both label maps, L2 of 64 mm3, and one voxel of L3 in the moving one; no truth is known."""
    moving, fixed = np.zeros(GRID.shape, np.uint16), np.zeros(GRID.shape, np.uint16)
    moving[2:12, 2:12, 2:12] = fixed[2:12, 2:12, 2:12] = 20
    moving[14:18, 14:18, 14:18] = fixed[14:18, 14:18, 14:18] = 21
    moving[0, 0, 0] = 22
    image = np.linspace(0, 1, fixed.size, dtype=np.float32).reshape(GRID.shape)
    return Case(Pair("a", Scan(image, fixed, GRID), Scan(image, moving, GRID)))


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes `metric` the one registered metric, `per` vertebra or case."""

    def register(metric: Any, **column: Any) -> None:
        registry = MetricRegistry("metric", "rigidbench.test-metrics")
        registry.register("odd", **column)(metric)
        monkeypatch.setattr("benchmark.evaluation.METRICS", registry)

    return register


def test_a_pair_is_described_by_vertebra(case: Case) -> None:
    rows = {row["vertebra"]: row for row in describe_pair(case)}
    assert list(rows) == [20, 21, 22]
    assert rows[20]["excluded_reason"] is None and rows[20]["rigid_fit_dsc"] == pytest.approx(1, abs=1e-3)
    assert rows[22]["touches_border"] and not rows[20]["touches_border"]
    assert "true_dsc" not in rows[20]


def test_an_excluded_vertebra_has_a_reason_and_no_rigid_fit(case: Case) -> None:
    rows = {row["vertebra"]: row for row in describe_pair(case)}
    assert rows[21]["excluded_reason"] == "under 500 mm3 in the moving labels" and rows[21]["rigid_fit_dsc"] is None
    assert rows[22]["excluded_reason"] == "only in the moving labels"


def test_excluded_vertebrae_are_not_evaluated(case: Case) -> None:
    _, vertebrae, _ = evaluate(case, STILL, ["dsc"])
    assert vertebrae == [{"vertebra": 20, "dsc": 1}]


def test_what_cannot_be_computed_is_none(case: Case) -> None:
    values, vertebrae, _ = evaluate(case, STILL, ["tre_mm", "landmark_tre_mm"])
    assert values == {"landmark_tre_mm": None} and vertebrae[0]["tre_mm"] is None


def test_every_metric_is_computed_by_default(case: Case) -> None:
    values, vertebrae, _ = evaluate(case, STILL)
    assert {*values, *vertebrae[0]} == {entry.name for entry in METRICS} | {"vertebra"}


def test_only_the_requested_metrics_are_computed(case: Case) -> None:
    evaluation = Evaluation(case, STILL, [20])
    assert compute(evaluation, ["folding_pct"]) == ({"folding_pct": 0}, [{"vertebra": 20}])
    assert not {"_warped_both", "closest_rigid", "surface_distances"} & set(vars(evaluation))


def test_requested_metrics_have_the_values_of_a_full_evaluation(case: Case) -> None:
    columns = ["dsc", "assd_mm", "sd_log_jacobian"]
    values, vertebrae, _ = evaluate(case, STILL)
    some, of_vertebrae, _ = evaluate(case, STILL, columns)
    assert some == {"sd_log_jacobian": values["sd_log_jacobian"]}
    assert of_vertebrae == [{name: row[name] for name in ("vertebra", "dsc", "assd_mm")} for row in vertebrae]


def test_an_unknown_metric_is_refused(case: Case) -> None:
    with pytest.raises(ValueError, match="columns: expected names of metrics, got 'dcs'; known: dsc, rigid_dsc"):
        evaluate(case, STILL, ["dsc", "dcs"])


def test_the_boxes_of_each_label_map_are_computed_once(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    for name in ("label_boxes", "bounding_box"):
        original = getattr(boxes, name)

        def counting(labels: torch.Tensor, *ids: object, original: Callable = original) -> object:
            seen.append(labels)
            return original(labels, *ids)

        for module in (boxes, _closest_rigid, label_warping, overlap, regularity):
            monkeypatch.setattr(module, name, counting, raising=False)
    evaluate(case, STILL)
    # The moving, the warped and the fixed map, and each soft warped label.
    assert len(seen) == 3 + len(case.counted)
    assert len({volume.data_ptr() for volume in seen}) == len(seen)


def test_warped_labels_are_those_of_every_vertebra(case: Case) -> None:
    warped = evaluate(case, STILL, [])[2]
    np.testing.assert_array_equal(warped, case.pair.moving.labels)
    assert warped.dtype == np.uint16


def test_a_case_without_fixed_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="labels: expected a label map, got None"):
        label_tensor(None)


def test_a_metric_that_raises_is_named(case: Case, only: Any) -> None:
    only(lambda evaluation: 1 / 0, per="case")
    with pytest.raises(MetricError, match="metric odd: ZeroDivisionError: division by zero"):
        evaluate(case, STILL)


@pytest.mark.parametrize(
    ("value", "column", "message"),
    [
        ([1.0, 2.0], {"per": "vertebra"}, "expected 1 values, one for each vertebra, got 2"),
        (1.0, {"per": "vertebra"}, "TypeError"),
        ("much", {"per": "case"}, "TypeError"),
        (0.5, {"per": "case", "dtype": "Int64"}, "expected a value of the column's dtype Int64, got 0.5"),
        (2, {"per": "case", "dtype": "boolean"}, "expected a value of the column's dtype boolean, got 2"),
    ],
)
def test_a_metric_that_returns_another_thing_than_declared_is_named(
    case: Case, only: Any, value: Any, column: dict[str, str], message: str
) -> None:
    only(lambda evaluation: value, **column)
    with pytest.raises(MetricError, match=f"metric odd: .*{message}"):
        evaluate(case, STILL)
