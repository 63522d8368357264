"""The chapter on penalties at several weights."""

from __future__ import annotations

from reports.curves import curves_section


def test_a_run_without_several_weights_has_no_such_chapter(ten_patients):
    assert curves_section(ten_patients.data()) is None


def test_the_chapter_has_the_curves_and_the_comparisons(empty):
    for i in range(6):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for name in ("pc", "oc"):
            for factor in ("0.1", "1", "10"):
                empty.cell(f"{name}-x{factor}", f"p{i}", {20: (0.7, 0.9, 4.0)}, {"tre_mm": 1.5})
    section = curves_section(empty.data())
    assert section is not None and [table.title for table in section.tables] == [
        "Penalties by weight", "Penalties at equal DSC",
    ]  # fmt: skip
    assert "TRE [mm]" in section.tables[0].heads and len(section.tables[0].lines) == 6
    assert set(section.numbers) == {"curves", "equal-dsc"}
