"""Statistical tests of rows, paired by patient: pure functions of numbers.

Vertebrae of one patient share its scan, its pre-alignment and its field, so the patient is the unit that is resampled
and counted. Where rows were trained from several seeds, intervals resample the seeds as well.

References: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval); Holm, Scand. J. Stat.
6:65, 1979; Kerby, Compr. Psychol. 3:11.IT.3.1, 2014 (rank-biserial correlation of matched pairs); Demsar, J. Mach.
Learn. Res. 7:1, 2006 (Friedman, critical difference); Hering et al., IEEE Trans. Med. Imaging 42:697, 2023 (Learn2Reg).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from benchmark.results.columns import Better

RESAMPLES = 10_000
ALPHA = 0.05


class Difference(NamedTuple):
    """A mean over patients, usually of method minus baseline, with its 95 % interval and the number of patients."""

    mean: float
    low: float
    high: float
    patients: int


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


def bootstrap_mean(by_patient: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Return the mean of a value per patient with its 95 % percentile bootstrap interval.

    Args:
        by_patient: Shape (N,), or (S, N) for S seeds, NaN where a seed has no value.
        resamples: How often patients and seeds are resampled.
        seed: Seed of the resampling.

    Returns:
        All NaN without a patient; NaN for the interval with one.
    """
    known = ~np.isnan(by_patient)
    return bootstrap_ratio(np.where(known, by_patient, 0.0), known.astype(float), resamples, seed)


def bootstrap_ratio(above: np.ndarray, below: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """Return sum(above) / sum(below) of two values per patient with its bootstrap interval.

    If `above` is the sum over a patient's vertebrae and `below` their number, this is the mean over vertebrae that
    Table 1 prints. If both are seconds, it is the speed-up of the row in `below`.

    Args:
        above: Shape (N,), or (S, N) for S seeds.
        below: The same shape.
        resamples: How often patients and seeds are resampled.
        seed: Seed of the resampling.

    Returns:
        All NaN without a patient; NaN for the interval with one.
    """
    above, below = np.atleast_2d(above), np.atleast_2d(below)
    seeds, patients = above.shape
    if patients == 0:
        return Difference(np.nan, np.nan, np.nan, 0)
    mean = float(above.sum() / below.sum()) if below.sum() else np.nan
    if patients == 1 or np.isnan(mean):
        return Difference(mean, np.nan, np.nan, patients)
    drawn, times = _drawn(patients, resamples, seed), _seeds_drawn(seeds, resamples, seed)
    totals = [(values[:, drawn].sum(axis=2) * times).sum(axis=0) for values in (above, below)]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(totals[0] / totals[1], [0.025, 0.975])
    return Difference(mean, float(low), float(high), patients)


@lru_cache(maxsize=8)
def _drawn(patients: int, resamples: int, seed: int) -> np.ndarray:
    """The patients of each resample, the same for every metric and row, so that intervals are comparable."""
    drawn = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    drawn.setflags(write=False)
    return drawn


@lru_cache(maxsize=8)
def _seeds_drawn(seeds: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample contains each seed, shape (seeds, resamples)."""
    drawn = np.random.default_rng([seed, 1]).multinomial(seeds, np.full(seeds, 1 / seeds), resamples).T
    drawn.setflags(write=False)
    return drawn


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


def learn2reg_scores(values: pd.DataFrame, better: Better | None, alpha: float = ALPHA) -> pd.Series:
    """The score of each row (column of `values`, a line per patient) in one metric, 0.1 to 1, in the Learn2Reg manner.

    Rows are compared two by two with one-sided signed-rank tests on the patients both have (p < alpha, uncorrected),
    ordered by how many they win against, and their places are spread evenly over 0.1 to 1; equal rows share the mean of
    their places. A row without any value scores 0.1.
    """
    from scipy import stats

    towards = values if better == "higher" else -values
    names = [str(name) for name in values]
    wins = pd.Series(0, index=names)
    for name in names:
        for other in names:
            difference = (towards[name] - towards[other]).dropna()
            moved = difference[difference.abs() > 1e-12]
            if name != other and len(moved):
                wins[name] += bool(stats.wilcoxon(moved, alternative="greater").pvalue < alpha)
    measured = values.notna().any()
    places = wins[measured].rank()
    spread = 0.1 + 0.9 * (places - 1) / max(len(places) - 1, 1) if len(places) > 1 else places * 0 + 1.0
    return spread.reindex(names).fillna(0.1)
