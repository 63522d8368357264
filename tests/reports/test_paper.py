"""The paper's Table 1 as data, against the table as the paper prints it."""

from __future__ import annotations

import re

import pytest

from reports.paper import ORDER, TABLE1, colour, label, ordered
from reports.table1.values import mean_sd

# Copied from the paper, with the misprint 0.90(0.5) put right.
PRINTED = """
initial 0.67(0.15) 0.88(0.05) 4.16(3.95) - - -
staring 0.77(0.13) 0.89(0.03) 2.02(1.65) 0 0.04(0.01) 243
voxelmorph 0.78(0.10) 0.86(0.06) 10.21(8.91) 0.04(0.20) 0.13(0.05) 3.5(1.3)
pc 0.78(0.10) 0.88(0.04) 4.80(5.08) 1.60(7.84) 0.12(0.05) 3.7(1.2)
oc 0.78(0.11) 0.88(0.05) 7.90(7.09) 0.12(0.59) 0.13(0.05) 3.4(1.1)
rigid-dice 0.78(0.12) 0.90(0.05) 6.32(6.77) 0.64(3.14) 0.13(0.05) 3.3(1.1)
rigid-field 0.79(0.10) 0.87(0.06) 8.74(8.59) 0.08(0.39) 0.13(0.05) 3.6(1.2)
pc+oc 0.78(0.10) 0.87(0.05) 7.73(7.08) 0 0.12(0.05) 4.0(1.3)
pc+rigid-dice 0.78(0.11) 0.90(0.05) 5.12(6.13) 18.30(63.20) 0.13(0.06) 3.4(1.1)
pc+rigid-field 0.79(0.10) 0.89(0.05) 5.51(5.94) 2.40(11.80) 0.13(0.06) 3.6(1.2)
"""
COLUMNS = ("dsc", "rigid_dsc", "volume_change_pct", "folding_voxels", "sd_log_jacobian", "seconds")


@pytest.mark.parametrize("line", PRINTED.strip().splitlines(), ids=lambda line: line.split()[0])
def test_the_data_print_as_the_paper_does(line):
    method, *cells = line.split()
    ours = [mean_sd(column, *TABLE1[method].get(column, (None, None))) for column in COLUMNS]
    assert ours == [cell.replace("-", "–") for cell in cells]


def test_rows_have_the_papers_order():
    rows = [line.split()[0] for line in PRINTED.strip().splitlines()]
    assert list(TABLE1) == rows
    assert ordered(reversed(rows)) == rows


def test_every_known_method_has_a_colour_of_its_own_and_any_other_a_stable_one():
    colours = [colour(method) for method in ORDER]
    assert len(set(colours)) == len(ORDER)
    # Pinned: Python's own hash of a name differs from process to process.
    assert colour("someone-elses") == "#FFAABB"
    assert all(re.fullmatch("#[0-9A-F]{6}", value) for value in [*colours, colour("someone-elses")])


def test_labels_are_the_papers_and_a_strangers_name_is_its_label():
    assert (label("rigid-dice"), label("someone-elses")) == ("rigid dice", "someone-elses")
