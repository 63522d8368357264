"""Statistical tests of rows, paired by patient: pure functions of numbers.

Vertebrae of one patient share its scan, its pre-alignment and its field, so the patient is the unit that is counted.
Intervals are in `intervals`.

References: Holm, Scand. J. Stat. 6:65, 1979; Kerby, Compr. Psychol. 3:11.IT.3.1, 2014 (rank-biserial
correlation of matched pairs); Demsar, J. Mach. Learn. Res. 7:1, 2006 (Friedman, critical difference); Hering et al.,
IEEE Trans. Med. Imaging 42:697, 2023 (Learn2Reg).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.results.columns import Better


class SignedRank(NamedTuple):
    """Wilcoxon's signed-rank test, two-sided. effect: matched-pairs rank-biserial correlation, -1 to 1."""

    p: float
    effect: float
    patients: int


def paired(values: pd.DataFrame, baseline: pd.DataFrame) -> pd.DataFrame:
    """Return values minus baseline by patient, averaged over vertebrae.

    Trainings of the same seed saw the same patients in the same order, so they are compared with each other. A row of
    one seed is compared with every seed of the other. Rows of several seeds without a common one are compared by their
    means over seeds.

    Args:
        values: A row's values, from `run_data.seed_columns`.
        baseline: Those of the other row.

    Returns:
        A line per patient with a value of both, a column per seed; empty without any.
    """
    if values.empty or baseline.empty:
        return pd.DataFrame()
    shared = values.columns.intersection(baseline.columns)
    several = min(len(values.columns), len(baseline.columns)) > 1
    if several and len(shared):
        difference = values[shared] - baseline[shared]
    elif several:
        difference = (values.mean(axis=1) - baseline.mean(axis=1)).to_frame()
    elif len(baseline.columns) == 1:
        difference = values.sub(baseline.iloc[:, 0], axis=0)
    else:
        difference = -baseline.sub(values.iloc[:, 0], axis=0)
    patient = [name for name in difference.index.names if name != "vertebra"]
    return difference.dropna(how="all").groupby(level=patient).mean()


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Return Wilcoxon's two-sided signed-rank test of differences against symmetry about 0.

    Differences of 0 are dropped, as Wilcoxon did. The test is exact up to 50 patients without ties. The effect is
    (R+ - R-) / (R+ + R-), with the sums of ranks of positive and negative differences (Kerby 2014).

    Args:
        differences: One per patient, shape (N,).

    Returns:
        p in [0, 1] and effect in [-1, 1]; p 1 and effect 0 where all differences are 0; NaN without patients.
    """
    from scipy import stats

    differences = np.asarray(differences, float)
    if len(differences) == 0:
        return SignedRank(np.nan, np.nan, 0)
    # Differences by rounding alone would break ties at random.
    differences = np.where(np.abs(differences) < 1e-12, 0.0, differences)
    moved = differences[differences != 0]
    if len(moved) == 0:
        return SignedRank(1.0, 0.0, len(differences))
    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return SignedRank(float(stats.wilcoxon(moved).pvalue), effect, len(differences))


def holm(p: Sequence[float]) -> np.ndarray:
    """Return p values after Holm's step-down adjustment; NaN stays NaN and does not count in the family."""
    values = np.asarray(p, float)
    adjusted = np.full_like(values, np.nan)
    known = ~np.isnan(values)
    if known.any():
        from statsmodels.stats.multitest import multipletests

        adjusted[known] = multipletests(values[known], method="holm")[1]
    return adjusted


class Ranks(NamedTuple):
    """Friedman's test over rows measured on the same patients, with Nemenyi's critical difference.

    p: of Friedman's test. ranks: mean rank of each row, 1 the best. pairwise: Nemenyi's p values, a square frame.
    """

    p: float
    ranks: pd.Series
    pairwise: pd.DataFrame
    patients: int


def friedman(values: pd.DataFrame, better: Better | None) -> Ranks | None:
    """Friedman's test of `values` (a line per patient, a column per row), rank 1 at the better end.

    Patients without a value of every row are dropped. None for fewer than three rows or two patients, or where all
    values of every patient are equal.
    """
    from scipy import stats

    complete = values.dropna()
    if complete.shape[1] < 3 or len(complete) < 2 or (complete.nunique(axis=1) == 1).all():
        return None
    import scikit_posthocs

    towards = -complete if better == "higher" else complete
    p = float(stats.friedmanchisquare(*(towards[name] for name in towards)).pvalue)
    pairwise = scikit_posthocs.posthoc_nemenyi_friedman(towards.reset_index(drop=True))
    return Ranks(p, towards.rank(axis=1).mean(), pairwise, len(complete))
