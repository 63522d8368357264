"""Comparisons between rows, paired by patient: pure functions of numbers.

Vertebrae of one patient share its scan, its pre-alignment and its field, so the patient is what is drawn again and what
a test counts. Where rows were trained from several seeds, intervals draw these again as well.

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
    """Method minus baseline, in the metric's unit: the mean over patients, its 95 % interval, how many patients."""

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
    """Values minus baseline, both from `run_data.seed_columns`: a line per patient, averaged over vertebrae.

    Trainings of the same seed saw the same patients in the same order, so they are compared with each other. What has
    one seed alone is compared with all of the other's; without a seed in common, the means over seeds are compared.
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
    """The mean of a figure per patient, shape (N,), with its 95 % percentile interval over redrawn patients.

    Of several seeds, shape (S, N), NaN where one has no value: over redrawn seeds and patients. No patient: all NaN.
    One patient: no interval.
    """
    known = ~np.isnan(by_patient)
    return bootstrap_ratio(np.where(known, by_patient, 0.0), known.astype(float), resamples, seed)


def bootstrap_ratio(above: np.ndarray, below: np.ndarray, resamples: int = RESAMPLES, seed: int = 0) -> Difference:
    """sum(above) / sum(below) of two figures per patient, shape (N,) or (S, N), with its interval over redrawn patients
    and seeds.

    With a sum of vertebrae above and their number below this is the mean over vertebrae, as Table 1 prints it; with
    seconds in both, how many times as fast one row is.
    """
    above, below = np.atleast_2d(above), np.atleast_2d(below)
    seeds, patients = above.shape
    if patients == 0:
        return Difference(np.nan, np.nan, np.nan, 0)
    mean = float(above.sum() / below.sum()) if below.sum() else np.nan
    if patients == 1 or np.isnan(mean):
        return Difference(mean, np.nan, np.nan, patients)
    drawn, times = _drawn(patients, resamples, seed), _seeds_drawn(seeds, resamples, seed)
    totals = [(figure[:, drawn].sum(axis=2) * times).sum(axis=0) for figure in (above, below)]
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(totals[0] / totals[1], [0.025, 0.975])
    return Difference(mean, float(low), float(high), patients)


@lru_cache(maxsize=8)
def _drawn(patients: int, resamples: int, seed: int) -> np.ndarray:
    """Which patients each resample holds: the same for every metric and row, so that their intervals compare."""
    drawn = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    drawn.setflags(write=False)
    return drawn


@lru_cache(maxsize=8)
def _seeds_drawn(seeds: int, resamples: int, seed: int) -> np.ndarray:
    """How often each resample holds each seed, (seeds, resamples)."""
    drawn = np.random.default_rng([seed, 1]).multinomial(seeds, np.full(seeds, 1 / seeds), resamples).T
    drawn.setflags(write=False)
    return drawn


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Wilcoxon's signed-rank test of differences by patient, shape (N,), against a symmetry about 0.

    Patients without a difference are dropped, as Wilcoxon did; where none has one, p is 1 and the effect 0. The test is
    exact up to 50 patients without ties. effect: (R+ - R-) / (R+ + R-), the sums of ranks of positive and negative
    differences. Without patients both are NaN.
    """
    from scipy import stats

    differences = np.asarray(differences, float)
    if len(differences) == 0:
        return SignedRank(np.nan, np.nan, 0)
    # What differs by rounding alone is no difference: it would count as a tie broken at random.
    differences = np.where(np.abs(differences) < 1e-12, 0.0, differences)
    moved = differences[differences != 0]
    if len(moved) == 0:
        return SignedRank(1.0, 0.0, len(differences))
    ranks = stats.rankdata(np.abs(moved))
    effect = float((ranks * np.sign(moved)).sum() / ranks.sum())
    return SignedRank(float(stats.wilcoxon(moved).pvalue), effect, len(differences))


def holm(p: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjustment of a family of p values; NaN stays NaN and is not of the family."""
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

    Patients that lack a row's figure are dropped. None for fewer than three rows or two patients, or no difference.
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
    their places. A row without any figure scores 0.1.
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
