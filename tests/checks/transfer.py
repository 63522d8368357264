"""Whether what a network learns on phantoms holds on a real scan.

Run by `make transfer`; about 12 minutes on one core. A network of VoxelMorph's shape is trained on the CTs of training
phantoms to read, at every voxel near a vertebra, the phase along the spine, and the share of bone. The share of the
variance that it explains (R2) is then measured on phantoms that it has not seen and on the chest CT of a package that
is fetched for this check. Exits 1 where a value on the chest CT misses its target, or where the chest CT cannot be
fetched.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from chest_ct import chest_ct
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmark.datasets.phantom import Phantom
from benchmark.errors import BadInput
from methods.base import Pair, Scan
from methods.voxelmorph.augmentation import ct_appearance
from methods.voxelmorph.devices import autocast, resolve_precision
from methods.voxelmorph.network import DECODER, VelocityUNet, standardise
from methods.voxelmorph.pretext import bone_share, spine_phase
from methods.voxelmorph.samples import make_sample

SHRINK, PATCH, BATCH = 2, (64, 48, 48), 2  # 2 mm; voxels of 2 mm; crops
STEPS, RATE, WARM_UP, FALL, SHIFT = 1200, 1e-3, 50, 0.3, 8.0
TRAINING, VALIDATION = 80, 6
TARGETS = {"phase": 0.6, "bone": 0.5}
CACHE = Path.home() / ".cache" / "rigidbench-checks"


@dataclass(frozen=True)
class Reading:
    """One CT with what is to be read in it.

    Attributes:
        image: (1, D, H, W), in [0, 1].
        phase, weights, bone: as `spine_phase` and `bone_share` give them, (C, D/2, H/2, W/2).
        centres: of the vertebrae, voxels (z, y, x).
    """

    image: Tensor
    phase: Tensor
    weights: Tensor
    bone: Tensor
    centres: Sequence[Sequence[float]]

    @classmethod
    def of(cls, scan: Scan) -> Reading:
        """Shrink a scan as for a training, and compute its targets."""
        sample = make_sample(Pair("scan", scan, scan), SHRINK)
        phase, weights = spine_phase(sample.labels)
        return cls(sample.moving[0], phase, weights, bone_share(sample.labels), list(sample.centres.values()))

    def crop(self, rng: np.random.Generator) -> tuple[Tensor, ...]:
        """Image and targets of a patch around a random vertebra, mirrored left to right in half of the draws."""
        centre = self.centres[rng.integers(len(self.centres))]
        full, half = [slice(None)], [slice(None)]
        for position, size, extent in zip(centre, PATCH, self.image.shape[1:], strict=True):
            start = round(position + rng.uniform(-SHIFT, SHIFT)) - size // 2
            start = int(np.clip(start, 0, max(extent - size, 0))) // 2
            full.append(slice(2 * start, 2 * start + size))
            half.append(slice(start, start + size // 2))
        parts = [self.image[tuple(full)], *(t[tuple(half)] for t in (self.phase, self.weights, self.bone))]
        parts = [_padded(t, [n // (1 if i == 0 else 2) for n in PATCH]) for i, t in enumerate(parts)]
        if rng.random() < 0.5:
            parts = [t.flip(-1) for t in parts]
        return (ct_appearance(parts[0][None], rng)[0], *parts[1:])


class Reader(nn.Module):
    """The decoder of VoxelMorph's network with a 1 x 1 x 1 convolution: sine, cosine and share of bone."""

    def __init__(self) -> None:
        """Draw random weights."""
        super().__init__()
        self.network = VelocityUNet()
        self.out = nn.Conv3d(DECODER[-1], 3, 1)
        nn.init.normal_(self.out.weight, 0, 0.02)

    def forward(self, image: Tensor) -> Tensor:
        """Read images (B, 1, D, H, W) in [0, 1]: (B, 3, D/2, H/2, W/2). The channel of the MR is 0."""
        ct, _ = standardise(image, image)
        with autocast("cpu", resolve_precision("auto", "cpu")):
            features = self.network.features_of(torch.cat([ct, torch.zeros_like(ct)], dim=1))
        return self.out(features.float())


def train(readings: Sequence[Reading], steps: int, seed: int = 0) -> Reader:
    """Train a reader on crops of scans."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    reader = Reader()
    optimiser = torch.optim.Adam(reader.parameters(), lr=RATE)
    for step in range(1, steps + 1):
        crops = [readings[rng.integers(len(readings))].crop(rng) for _ in range(BATCH)]
        image, phase, weights, bone = (torch.stack(parts) for parts in zip(*crops, strict=True))
        read = reader(image)
        loss = (weights * (read[:, :2] - phase).square()).sum() / weights.sum().clamp(min=1)
        loss = loss + 4 * (read[:, 2:] - bone).square().mean()
        fall = min(1.0, step / WARM_UP, max(0.05, (steps - step) / (FALL * steps)))
        for group in optimiser.param_groups:
            group["lr"] = RATE * fall
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimiser.step()
    return reader.eval()


def explained(reader: Reader, readings: Iterable[Reading]) -> dict[str, float]:
    """Compute R2 of phase and of bone, each a mean over scans."""
    values: dict[str, list[float]] = {name: [] for name in TARGETS}
    for r in readings:
        with torch.inference_mode():
            read = reader(r.image[None])[0]
        error = (r.weights * (read[:2] - r.phase).square()).sum()
        values["phase"].append(float(1 - error / (r.weights * r.phase.square()).sum()))
        values["bone"].append(float(1 - (read[2:] - r.bone).square().mean() / r.bone.var(correction=0)))
    return {name: math.fsum(v) / len(v) for name, v in values.items()}


def phantoms(split: str, count: int) -> list[Reading]:
    """The CTs of the first patients of a split."""
    dataset = Phantom("phantom")
    return [Reading.of(dataset.moving_scan(case)) for case in dataset.cases(split)[:count]]


def _padded(values: Tensor, sizes: Sequence[int]) -> Tensor:
    """The values (C, D, H, W) up to `sizes`, continued by their last voxel."""
    extra = [n for size, have in zip(reversed(sizes), reversed(values.shape), strict=False) for n in (0, size - have)]
    return F.pad(values[None], extra, mode="replicate")[0] if any(extra) else values


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--cache", type=Path, default=CACHE, help="folder of the wheel with the chest CT")
    options = parser.parse_args()
    torch.set_num_threads(1)
    try:
        chest = Reading.of(chest_ct(options.cache))
    except BadInput as error:
        print(error, file=sys.stderr)
        return 1
    start = time.perf_counter()
    training, unseen = phantoms("train", TRAINING), phantoms("val", VALIDATION)
    made = time.perf_counter()
    reader = train(training, options.steps)
    trained = time.perf_counter()
    on_phantoms, on_chest = explained(reader, unseen), explained(reader, [chest])
    table = Table("R2", "unseen phantoms", "chest CT", "target", "", title="Reading learned on phantoms")
    for name, target in TARGETS.items():
        reached = "reached" if on_chest[name] >= target else "MISSED"
        table.add_row(name, f"{on_phantoms[name]:.2f}", f"{on_chest[name]:.2f}", f"{target:g} or more", reached)
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    console.print(
        f"{TRAINING} phantoms in {made - start:.0f} s, {options.steps} steps in {trained - made:.0f} s, one thread."
    )
    return int(any(on_chest[name] < target for name, target in TARGETS.items()))


if __name__ == "__main__":
    sys.exit(main())
