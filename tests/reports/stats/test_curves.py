"""Penalties at several weights, compared at equal DSC on values derived by hand."""

from __future__ import annotations

import pytest

from benchmark.config import load_config
from methods.deformable.variants import WEIGHTS
from reports.stats.claims import CLAIMS
from reports.stats.curves import at_level, common_cases, comparisons_at_equal_dsc, curve_table, curves
from reports.stats.verdicts import verdicts

# DSC and rigid DSC of two penalties by factor. At the same factor `oc` is more rigid, at the same DSC `pc` is.
POINTS = {
    "pc": {"0.1": (0.80, 0.90), "1": (0.80, 0.94), "10": (0.70, 0.98)},
    "oc": {"0.1": (0.78, 0.91), "1": (0.72, 0.95), "10": (0.60, 0.99)},
}


@pytest.fixture
def run(empty):
    for i in range(8):
        own = 0.001 * i
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name, points in POINTS.items():
            for factor, (dsc, rigid) in points.items():
                empty.cell(f"{name}-x{factor}", f"p{i}", {20: (dsc + own, rigid + own, 2.0)})
        empty.cell("voxelmorph", f"p{i}", {20: (0.8 + own, 0.9 + own, 4.0)})
        empty.cell("oc-x1", f"q{i}", {}, status="failed")
    return empty


def test_a_curve_has_its_weights_in_order_and_no_other_row(run):
    found = curves(run.data())
    assert {curve.name: list(curve.rows) for curve in found} == {"pc": [0.1, 1, 10], "oc": [0.1, 1, 10]}
    table = curve_table(run.data()).set_index(["name", "factor"])
    assert table.loc[("pc", 10.0), "dsc"] == pytest.approx(0.7035) and "tre_mm" not in table


def test_the_strongest_weight_of_a_dsc_lies_between_two_weights(run):
    data = run.data()
    pc, oc = curves(data)
    cases = common_cases(data, (pc, oc))
    found = at_level(data, pc, "dsc", 0.7535, "rigid_dsc", cases)
    assert found.values["p0"] == pytest.approx(0.96) and found.factor == pytest.approx(10**0.5)
    assert found.level == 0.7535
    found = at_level(data, pc, "dsc", 0.7, "rigid_dsc", cases)
    assert (found.factor, found.level) == (10, pytest.approx(0.7035)), "the strongest weight is above"
    assert at_level(data, oc, "dsc", 0.81, "rigid_dsc", cases) is None, "no weight reaches it"


def test_the_better_penalty_is_asked_at_equal_dsc(run):
    lines = comparisons_at_equal_dsc(run.data()).set_index("metric")
    line = lines.loc["rigid_dsc"]
    # oc reaches 0.7835 at most, with 0.91; pc has 0.94 at 0.8035 and a fifth of the way on to 0.98 there.
    assert line["first_dsc"] == line["second_dsc"] == pytest.approx(0.7835) and line["second_factor"] == pytest.approx(
        0.1
    )
    assert line["mean"] == pytest.approx(0.948 - 0.91) and line["better"] == "pc"
    assert lines.loc["volume_change_pct", "better"] == "neither"


def test_a_penalty_of_lower_dsc_is_not_the_better_one(empty):
    """Even the strongest weight of pc has a DSC of 0.80; oc, more rigid, has 0.75 at most."""
    points = {"pc": [(0.82, 0.90), (0.81, 0.91), (0.80, 0.92)], "oc": [(0.75, 0.97), (0.74, 0.98), (0.73, 0.99)]}
    for i in range(8):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name, of_name in points.items():
            for factor, (dsc, rigid) in zip(("0.1", "1", "10"), of_name, strict=True):
                empty.cell(f"{name}-x{factor}", f"p{i}", {20: (dsc, rigid + 0.001 * i, 2.0)})
    line = comparisons_at_equal_dsc(empty.data()).set_index("metric").loc["rigid_dsc"]
    assert (line["first_dsc"], line["second_dsc"]) == (pytest.approx(0.80), pytest.approx(0.75))
    assert line["better"] == "unequal DSC"


def test_a_weight_that_failed_on_hard_patients_does_not_move_the_levels(run):
    """The middle weight of oc has no result of a hard patient, who would lower the means of its other weights alone."""
    for factor in ("0.1", "10"):
        run.cell(f"oc-x{factor}", "hard", {20: (0.2, 0.9, 2.0)})
    run.pair("hard", 20, (0.1, 0.9, 4.0))
    run.cell("oc-x1", "hard", {}, status="failed")
    data = run.data()
    assert "hard" not in common_cases(data, curves(data))
    line = comparisons_at_equal_dsc(data).set_index("metric").loc["rigid_dsc"]
    assert line["first_dsc"] == pytest.approx(0.7835), "as without it"


def test_few_patients_give_no_better_penalty(empty):
    for i in range(5):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name, points in POINTS.items():
            for factor, (dsc, rigid) in points.items():
                empty.cell(f"{name}-x{factor}", f"p{i}", {20: (dsc, rigid, 2.0)})
    assert set(comparisons_at_equal_dsc(empty.data())["better"]) == {"too few"}


def test_the_claim_on_the_most_rigid_penalty_needs_curves(empty):
    for i in range(8):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name in ("voxelmorph", "rigid-dice", "oc", "rigid-dice-x0.1", "rigid-dice-x1", "rigid-dice-x10"):
            empty.cell(name, f"p{i}", {20: (0.7, 0.95 if "dice" in name else 0.9, 4.0)})

    def found():
        return next(v for v in verdicts(empty.data()) if v.claim.kind.startswith("more at") and v.claim.other == "oc")

    assert found().verdict == "not testable" and "each penalty at several weights" in found().why
    for i in range(8):
        for factor in ("0.1", "1", "10"):
            empty.cell(f"oc-x{factor}", f"p{i}", {20: (0.7, 0.9 + 0.001 * i, 4.0)})
    assert found().verdict == "shown" and found().ours.mean == pytest.approx(0.0465)
    assert found().why.startswith("DSC: rigid dice 0.700 at 10 times its weight, oc 0.700 at 10 times its weight")


def test_the_claim_at_equal_volume_is_asked_of_curves(empty):
    """At factor 1 pc changes 4 % and volume 2 %; both reach 3 %, pc with its strongest weight."""
    volumes = {"pc": (8.0, 4.0, 3.0), "volume": (6.0, 2.0, 1.0)}
    proper = {"pc": 0.010, "volume": 0.020}
    for i in range(8):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name, of_name in volumes.items():
            for factor, change in zip(("0.1", "1", "10"), of_name, strict=True):
                empty.cell(f"{name}-x{factor}", f"p{i}", {20: (0.7, 0.9, change)}, properness=proper[name])
            empty.cell(name, f"p{i}", {20: (0.7, 0.9, of_name[1])}, properness=proper[name])
    asked = [claim for claim in CLAIMS if claim.kind == "less at equal volume"]
    found = verdicts(empty.data(), asked)[0]
    assert found.verdict == "shown" and found.ours.mean == pytest.approx(-0.01)
    assert "%Δvol: pc 3.00 at 10 times its weight, volume 3.00 at 0.56 times its weight" in found.why


def test_the_configuration_has_each_penalty_at_five_weights_a_decade_each_side():
    rows = {m.name: m.settings["penalties"] for m in load_config("curves").methods if "-x" in m.name}
    assert len(rows) == 5 * len(WEIGHTS)
    for name, weight in WEIGHTS.items():
        for factor in ("0.1", "0.316", "1", "3.16", "10"):
            found = rows[f"deformable-{name}-x{factor}"]
            assert found == {name: pytest.approx(float(factor) * weight, rel=0.01)}
