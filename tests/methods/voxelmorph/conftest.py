"""Three training patients of the plugin dataset `blocks`."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from methods.base import Case, Pair


@pytest.fixture
def cases(learner: ModuleType) -> list[Case]:
    """The patients with fixed labels."""
    torch.set_num_threads(1)
    return [learner.block_case(i) for i in range(3)]


@pytest.fixture
def pairs(cases: list[Case]) -> list[Pair]:
    """The patients without fixed labels."""
    return [c.pair.blind(c.pair.case) for c in cases]
