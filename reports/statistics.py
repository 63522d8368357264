"""Comparisons between rows, paired by patient.

Vertebrae of one patient share its scan, its pre-alignment and its field, so the patient is what is drawn again.
Reference: Efron and Tibshirani, An Introduction to the Bootstrap, 1993 (percentile interval).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd


class Difference(NamedTuple):
    """Method minus baseline, in the metric's unit: the mean over patients, its 95 % interval, how many patients."""

    mean: float
    low: float
    high: float
    patients: int


def paired_bootstrap(
    vertebrae: pd.DataFrame, metric: str, method: str, baseline: str, resamples: int = 10_000, seed: int = 0
) -> Difference:
    """How much `method` exceeds `baseline` in the column `metric`, with a 95 % percentile bootstrap interval.

    vertebrae: columns case, vertebra, method and `metric`, and dataset, where patients of several carry the same name;
    several values of a vertebra (seeds, devices) are averaged. Differences are taken per vertebra where both have a
    value, averaged per patient, and patients are resampled. Without a common patient all is NaN; with a single one the
    interval is.
    """
    keys = [key for key in ("dataset", "split", "case", "vertebra") if key in vertebrae]

    def values(name: str) -> pd.Series:
        chosen = vertebrae.loc[vertebrae["method"] == name, [*keys, metric]]
        return chosen.assign(**{metric: chosen[metric].astype(float)}).groupby(keys)[metric].mean()

    difference = (values(method) - values(baseline)).dropna()
    by_patient = difference.groupby(level=keys[:-1]).mean().to_numpy()
    patients = len(by_patient)
    if patients == 0:
        return Difference(np.nan, np.nan, np.nan, 0)
    mean = float(by_patient.mean())
    if patients == 1:
        return Difference(mean, np.nan, np.nan, 1)
    drawn = np.random.default_rng(seed).integers(patients, size=(resamples, patients))
    low, high = np.quantile(by_patient[drawn].mean(axis=1), [0.025, 0.975])
    return Difference(mean, float(low), float(high), patients)
