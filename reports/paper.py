"""The paper's Table 1 as data, and the labels, order, colours and columns that reports share with it.

Source: Jian et al., "Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine", MICCAI 2022,
doi:10.1007/978-3-031-16446-0_22, Table 1: averages(SD) over its test set of 25 private patients, time on a CPU.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

SOURCE = "Jian et al., MICCAI 2022, doi:10.1007/978-3-031-16446-0_22, Table 1"

_COLUMNS = ("dsc", "rigid_dsc", "volume_change_pct", "folding_voxels", "sd_log_jacobian", "seconds")

Printed = tuple[float, float | None]


def _row(*printed: Printed | None) -> dict[str, Printed]:
    return {name: value for name, value in zip(_COLUMNS, printed, strict=True) if value is not None}


# Method -> column -> (mean, SD); a column the paper leaves empty is absent, an SD it leaves out is None.
TABLE1: dict[str, dict[str, Printed]] = {
    "initial": _row((0.67, 0.15), (0.88, 0.05), (4.16, 3.95), None, None, None),
    "staring": _row((0.77, 0.13), (0.89, 0.03), (2.02, 1.65), (0.0, None), (0.04, 0.01), (243.0, None)),
    "voxelmorph": _row((0.78, 0.10), (0.86, 0.06), (10.21, 8.91), (0.04, 0.20), (0.13, 0.05), (3.5, 1.3)),
    "pc": _row((0.78, 0.10), (0.88, 0.04), (4.80, 5.08), (1.60, 7.84), (0.12, 0.05), (3.7, 1.2)),
    "oc": _row((0.78, 0.11), (0.88, 0.05), (7.90, 7.09), (0.12, 0.59), (0.13, 0.05), (3.4, 1.1)),
    # The paper prints the SD of this rigid DSC as 0.5: a misprint for 0.05.
    "rigid-dice": _row((0.78, 0.12), (0.90, 0.05), (6.32, 6.77), (0.64, 3.14), (0.13, 0.05), (3.3, 1.1)),
    "rigid-field": _row((0.79, 0.10), (0.87, 0.06), (8.74, 8.59), (0.08, 0.39), (0.13, 0.05), (3.6, 1.2)),
    "pc+oc": _row((0.78, 0.10), (0.87, 0.05), (7.73, 7.08), (0.0, None), (0.12, 0.05), (4.0, 1.3)),
    "pc+rigid-dice": _row((0.78, 0.11), (0.90, 0.05), (5.12, 6.13), (18.30, 63.20), (0.13, 0.06), (3.4, 1.1)),
    "pc+rigid-field": _row((0.79, 0.10), (0.89, 0.05), (5.51, 5.94), (2.40, 11.80), (0.13, 0.06), (3.6, 1.2)),
}

# The paper's "Our baseline", against which significance is marked, and the rows whose values rest on trained weights.
BASELINE = "voxelmorph"
LEARNED = (*(m for m in TABLE1 if m not in ("initial", "staring")), "volume")

# Rows that the paper lacks follow related ones.
ORDER = (
    "initial",
    "rigid",
    "bspline",
    "sitk-bspline",
    "staring",
    "staring-oc",
    "staring-pc",
    "staring-tuned",
    "staring-fast",
    "edt-interpolation",
    "polyrigid",
    "voxelmorph",
    "smoothed",
    "pc",
    "oc",
    "rigid-dice",
    "rigid-field",
    "pc+oc",
    "pc+rigid-dice",
    "pc+rigid-field",
    "volume",
    "deformable",
    "deformable-pc",
    "deformable-oc",
    "deformable-rigid-dice",
    "deformable-rigid-field",
    "deformable-pc+oc",
    "deformable-volume",
    "refined",
    "unigradicon",
    "multigradicon",
    "anatomix-convexadam",
    "fireants",
    "oracle-polyrigid",
)

LABELS = {
    "initial": "Initial",
    "staring": "Staring",
    "rigid": "Rigid",
    "bspline": "B-spline",
    "sitk-bspline": "SimpleITK B-spline",
    "staring-oc": "Staring oc",
    "staring-pc": "Staring pc",
    "edt-interpolation": "EDT interpolation",
    "polyrigid": "Polyrigid",
    "staring-tuned": "Staring tuned",
    "staring-fast": "Staring fast",
    "voxelmorph": "VoxelMorph",
    "smoothed": "Smoothed",
    "rigid-dice": "rigid dice",
    "rigid-field": "rigid field",
    "pc+rigid-dice": "pc+rigid dice",
    "pc+rigid-field": "pc+rigid field",
    "deformable": "Deformable",
    "deformable-pc": "Deformable pc",
    "deformable-oc": "Deformable oc",
    "deformable-rigid-dice": "Deformable rigid dice",
    "deformable-rigid-field": "Deformable rigid field",
    "deformable-pc+oc": "Deformable pc+oc",
    "deformable-volume": "Deformable volume",
    "refined": "Refined",
    "unigradicon": "uniGradICON",
    "multigradicon": "multiGradICON",
    "anatomix-convexadam": "anatomix convexAdam",
    "fireants": "FireANTs",
    "oracle-polyrigid": "Polyrigid on fixed labels",
}

# Paul Tol's "muted" for the paper's rows, "vibrant" and "light" for others: colour-blind readers can tell them apart.
_COLOURS = {
    "initial": "#999999",
    "staring": "#DDCC77",
    "staring-tuned": "#997700",
    "staring-fast": "#EE7733",
    "rigid": "#BBBBBB",
    "bspline": "#994F00",
    "sitk-bspline": "#E9A3A0",
    "staring-oc": "#C9A227",
    "staring-pc": "#6F4E00",
    "edt-interpolation": "#40B0A6",
    "polyrigid": "#00695C",
    "voxelmorph": "#332288",
    "smoothed": "#9F95D8",
    "pc": "#88CCEE",
    "oc": "#882255",
    "rigid-dice": "#117733",
    "rigid-field": "#CC6677",
    "pc+oc": "#44AA99",
    "pc+rigid-dice": "#999933",
    "pc+rigid-field": "#AA4499",
    "volume": "#0077BB",
    # The rows that optimise each pair: their deep rows' hues, darker.
    "deformable": "#1B0F55",
    "deformable-pc": "#2F8FC4",
    "deformable-oc": "#4A0E2C",
    "deformable-rigid-dice": "#06401A",
    "deformable-rigid-field": "#993344",
    "deformable-pc+oc": "#1F6B5E",
    "deformable-volume": "#003D61",
    "refined": "#6655AA",
    "oracle-polyrigid": "#555555",
}
_OTHER_COLOURS = ("#77AADD", "#FFAABB", "#BBCC33", "#99DDFF", "#AAAA00", "#EEDD88")


@dataclass(frozen=True)
class Table1Column:
    """A column that Table 1 shows. Its title, unit and better end are those that the run declares (`Run.columns`).

    Attributes:
        key: Its name in vertebrae.parquet or cases.parquet.
        initial: The column of pairs.parquet that row Initial shows; None where the paper leaves Initial empty.
        paper: The paper's column that is printed beside it; None where the paper has none.
        note: The footnote that explains it (`footnotes.COLUMN_NOTES`).
        optional: Whether the column is shown only where some row has a value of it.
    """

    key: str
    initial: str | None
    paper: str | None
    note: str
    optional: bool = False


COLUMNS = (
    Table1Column("dsc", "initial_dsc", None, "labels"),
    # The paper's values are printed beside the scale of its released code. A run of an earlier version lacks it.
    Table1Column("soft_dsc", "initial_dsc", "dsc", "released", optional=True),
    Table1Column("rigid_dsc", "rigid_fit_dsc", None, "labels"),
    Table1Column("soft_rigid_dsc", "soft_rigid_fit_dsc", "rigid_dsc", "released", optional=True),
    Table1Column("volume_change_pct", "label_volume_difference_pct", "volume_change_pct", "labels"),
    Table1Column("tre_mm", None, None, "truth", optional=True),
    Table1Column("landmark_tre_mm", None, None, "truth", optional=True),
    Table1Column("folding_voxels", None, "folding_voxels", "field"),
    Table1Column("sd_log_jacobian", None, None, "field"),
    # The paper's value is printed beside this one: its released code adds 3 to |J| before the logarithm.
    Table1Column("sd_log_jacobian_l2r", None, "sd_log_jacobian", "field"),
    Table1Column("seconds", None, "seconds", "time"),
)


def ordered(methods: Iterable[str], asked: Iterable[str] = ()) -> list[str]:
    """Return methods in the order of the tables, each once.

    Args:
        methods: names of rows.
        asked: the rows of the run's configuration, in its order. They come first; the others follow in the order of
            ORDER, and unknown ones last, by name.
    """
    names = set(methods)
    known = list(dict.fromkeys([*asked, *ORDER]))
    return [name for name in known if name in names] + sorted(names - set(known))


def label(method: str) -> str:
    """Return a method's label in tables and figures."""
    return LABELS.get(method, method)


def colour(method: str) -> str:
    """Return a method's colour as #RRGGBB, the same in every figure and run: it depends on the name alone."""
    other = _OTHER_COLOURS[zlib.crc32(method.encode()) % len(_OTHER_COLOURS)]
    return _COLOURS.get(method, other)
