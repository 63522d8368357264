"""Fixed labels never reach a method. An oracle alone sees them, and no report compares it with methods."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from support.small_runs import run_tiny

from benchmark.execution.worker import shown
from benchmark.results.store import read_run
from methods.base import Case, Method, Pair, Registration
from methods.registry import DATASETS, METHODS, PENALTIES, Entry, Registry
from reports.run_data import data_sets
from reports.table1.sheet import make_sheet


class Fake(Method):
    """Registers nothing."""

    def register(self, pair: Pair) -> Registration:
        raise NotImplementedError


class KnowsCase(Fake):
    knows_case = True


@pytest.fixture(scope="module")
def case(tiny: Path) -> Case:
    return DATASETS.create("tiny").load("one")


def test_no_built_in_row_but_the_oracle_is_shown_fixed_labels(case: Case) -> None:
    for entry in METHODS:
        if entry.origin == "built in":
            pair = shown(case, "one", entry)
            assert (pair.fixed.labels is not None) == (entry.name == "oracle-polyrigid"), entry.name


@pytest.mark.parametrize(("kind", "name"), [(Fake, "pair-"), (KnowsCase, "one")])
@pytest.mark.parametrize("oracle", [False, True])
def test_an_oracle_is_shown_labels_and_a_token(case: Case, kind: type[Method], name: str, oracle: bool) -> None:
    pair = shown(case, "one", Entry("row", kind, oracle=oracle))
    assert pair.case.startswith(name)
    assert (pair.fixed.labels is not None) == oracle


def test_an_oracle_sees_the_label_maps_that_are_compared(case: Case) -> None:
    bodies = np.where(case.pair.moving.labels == 20, case.pair.moving.labels, 0).astype(np.uint16)
    of_bodies = dataclasses.replace(case, moving_compared=bodies)
    np.testing.assert_array_equal(shown(of_bodies, "one", Entry("row", Fake, oracle=True)).moving.labels, bodies)
    assert shown(of_bodies, "one", Entry("row", Fake)).moving.labels is case.pair.moving.labels


def test_the_default_of_a_registration_is_no_oracle() -> None:
    registry = Registry("method", "rigidbench.none")
    registry.register("plain")(Fake)
    registry.register("ceiling", oracle=True)(Fake)
    assert {entry.name: entry.oracle for entry in registry} == {"plain": False, "ceiling": True}
    with pytest.raises(ValueError, match="penalty 'x': oracle: expected False, got True"):
        PENALTIES.add("x", len, oracle=True)


def test_a_run_shows_labels_to_oracles_alone_and_prints_them_in_brackets(tiny: Path, tmp_path: Path) -> None:
    rows = ["snoop", "snoop-as-oracle", {"method": "oracle-polyrigid", "name": "ceiling"}]
    run_tiny(tiny, tmp_path, rows, count=1)
    run = read_run(tmp_path)
    found = run.cases.set_index("method")[["oracle", "status"]]
    assert found["oracle"].to_dict() == {"snoop": False, "snoop-as-oracle": True, "ceiling": True}
    assert found["status"].to_dict() == {"snoop": "ok", "snoop-as-oracle": "failed", "ceiling": "ok"}
    data = data_sets(run)[0]
    assert [row.label for row in data.rows] == ["Initial", "snoop"], "those that are compared"
    lines = {line[0].text: line[1].text for line in make_sheet(data).printed.lines}
    assert list(lines)[1:] == ["snoop", "(snoop-as-oracle)", "(ceiling)"], "in the order asked for"
    assert float(lines["(ceiling)"][:4]) > 0.95, "blocks that are shifted alone"
