"""Noise power spectra of phantoms and real scans, with the same rules for both.

The quietest tenth of all axial patches of 16 x 16 mm in soft tissue is taken, so that edges of organs count little. A
plane is subtracted from each patch. CT in HU; MR relative to its 99 % quantile.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tissues import Volume

SIDE, STEP, QUIETEST = 16, 4, 0.1
# Cycles per mm.
BANDS = {"low": (0.03, 0.12), "middle": (0.12, 0.25), "high": (0.25, 0.5)}
SOFT_HU, SOFT_MR = (-150.0, 200.0), (0.1, 0.9)

Spectrum = Mapping[str, float]


def noise_spectrum(volume: Volume, modality: str) -> Spectrum:
    """Compute the standard deviation of noise, and the share of its power in each of BANDS.

    Args:
        volume: at 1 mm.
        modality: CT or MR.

    Returns:
        `sd` and the bands; NaN where no patch lies in soft tissue.
    """
    image = volume.image.astype(float)
    if modality == "MR":
        image = image / np.quantile(image, 0.99)
    low, high = SOFT_HU if modality == "CT" else SOFT_MR
    patches = []
    for axial in image[::STEP]:
        windows = sliding_window_view(axial, (SIDE, SIDE))[::STEP, ::STEP].reshape(-1, SIDE, SIDE)
        patches.append(windows[(windows.min((1, 2)) > low) & (windows.max((1, 2)) < high)])
    found = np.concatenate(patches)
    if not len(found):
        return dict.fromkeys(["sd", *BANDS], np.nan)
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    planes = np.stack([np.ones_like(x), y, x]).reshape(3, -1)
    flat = found.reshape(len(found), -1)
    noise = flat - flat @ planes.T @ np.linalg.inv(planes @ planes.T) @ planes
    # A patch of one value lies outside the field of view.
    spread = noise.std(axis=1)
    noise = noise[(spread > 1e-6) & (spread <= np.quantile(spread[spread > 1e-6], QUIETEST))]
    power = np.square(np.abs(np.fft.fft2(noise.reshape(-1, SIDE, SIDE)))).mean(axis=0)
    frequency = np.fft.fftfreq(SIDE)
    radius = np.hypot(frequency[:, None], frequency)
    total = power[radius > 0].sum()
    shares = {n: float(power[(radius >= a) & (radius < b)].sum() / total) for n, (a, b) in BANDS.items()}
    return {"sd": float(noise.std()), **shares}
