"""The mark of a test that needs an NVIDIA GPU; `make gpu` runs these alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch


def needs_cuda(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test `cuda`, and skip it where torch finds no CUDA device."""
    reason = "needs an NVIDIA GPU"
    return pytest.mark.cuda(pytest.mark.skipif(not torch.cuda.is_available(), reason=reason)(test))
