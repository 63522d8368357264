"""The displacements that a row of the table finds on training pairs, which the stage `distil` learns.

The row registers each pair as in a run, without its fixed labels. The result is kept at the network's half resolution
in half precision, in memory and in the folder of the cache. Its name there is a hash of all that determines it: the
row, its settings and weights, the code that it reaches, libraries, the seed, the pair and the resolution.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import Method, Pair
from methods.geometry import to_voxels
from methods.registry import create_method
from methods.sources import Sources, syntax_hash
from methods.voxelmorph.kept import ROOT, content_key, kept_arrays, key_of
from methods.voxelmorph.network import MULTIPLE, pad_to_multiple

LAYOUT = 2  # version of the file's layout


class Teacher:
    """Gives the displacement of a training pair by its number, computed at its first use."""

    def __init__(self, row: str, pairs: Sequence[Pair], shrink_factor: int, seed: int, device: str = "cpu") -> None:
        """Register no pair yet.

        Args:
            row: a registered method that runs on the CPU within this process.
            pairs: training pairs.
            shrink_factor: voxels of a pair per voxel of the network along each axis.
            seed: of the row's random numbers.
            device: of the displacements that are returned.

        Raises:
            ValueError: the row is unknown, cannot run here or needs a process of its own.
        """
        method = create_method(row)
        reason = method.unavailable("cpu")
        if reason is None and (method.fresh_process or "cpu" not in method.devices):
            reason = "it does not register pair after pair within one process on the CPU"
        if reason is not None:
            raise ValueError(f"training.stages.distil.teacher: expected a row that can register training pairs, got "
                             f"{row}: {reason}")  # fmt: skip
        self.row, self.pairs, self._method, self._prepared = row, pairs, method, False
        self._shrink_factor, self._seed, self._device = shrink_factor, seed, device
        self._kept: dict[int, Tensor] = {}

    def __call__(self, patient: int) -> Tensor:
        """The displacement of a patient's number, float32 (1, 3, d, h, w), voxels of the half resolution.

        Raises:
            ValueError: the row found none. The message names the pair.
        """
        if patient not in self._kept:
            named = key_of(self.pairs, patient) or content_key(self.pairs[patient])
            arrays = kept_arrays(self._key(named), lambda: {"displacement": self._found(self.pairs[patient])})
            self._kept[patient] = torch.from_numpy(np.array(arrays["displacement"]))
        return self._kept[patient].float().to(self._device)

    def _found(self, pair: Pair) -> np.ndarray:
        """The displacement that the row finds, float16 (1, 3, d, h, w)."""
        if not self._prepared:
            self._method.prepare("cpu", torch.get_num_threads(), self._seed)
            self._prepared = True
        try:
            registration = self._method.register(pair)
            registration.check(pair.grid)
        except ValueError as error:
            raise ValueError(f"teacher {self.row}: expected a displacement of {pair.case}, got: {error}") from error
        factor = 2 * self._shrink_factor
        voxels = pad_to_multiple(to_voxels(registration.displacement_mm, pair.grid), MULTIPLE * self._shrink_factor)
        return (F.avg_pool3d(voxels, factor) / factor).half().numpy()

    def _key(self, named: str) -> list[Any]:
        """All that determines the displacement of a pair; named: what names the pair."""
        settings = self._method.settings.model_dump(mode="json")
        return [f"displacement by {self.row}", LAYOUT, settings, self._method.fingerprint(),
                _code(type(self._method)), torch.__version__, torch.get_num_threads(), platform.machine(),
                self._shrink_factor, self._seed, named]  # fmt: skip


@cache
def _code(method: type[Method]) -> str:
    """A hash of the code that a method reaches; of its file alone if it is a plugin's."""
    sources = Sources(ROOT, ("methods", "metrics"))
    module = method.__module__
    if module in sources:
        return sources.hash(sources.reached([module]))
    file = Path(inspect.getfile(method))
    return syntax_hash(file) + sources.hash(sources.imported_by(file.read_bytes()))
