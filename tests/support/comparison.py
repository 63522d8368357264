"""Compare what metrics return, whatever its type."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metrics.rigid import RigidFit


def parts(result: Any) -> list[torch.Tensor]:
    """All tensors, arrays and slices of a result, as a list of tensors."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, np.ndarray):
        return [torch.from_numpy(np.sort(result))]
    if isinstance(result, slice):
        return [torch.tensor([result.start, result.stop])]
    entries = vars(result).values() if isinstance(result, RigidFit) else result or []
    return [part for entry in entries for part in parts(entry)]


def same(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Assert that two results agree up to a tolerance; NaN equals NaN, and dtypes may differ."""
    options = {"atol": tolerance, "rtol": tolerance, "equal_nan": True, "check_dtype": False}
    torch.testing.assert_close(parts(found), parts(expected), **options)
