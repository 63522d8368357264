"""How long each equation takes, in yardsticks: one plain float32 pass of the paper's network, in the same run.

Run by `make speed`. The volume has 128 x 128 x 64 voxels and five vertebrae. A row is a forward and a backward pass
unless its name says otherwise. MONAI's and the voxelmorph package's implementation of an operation is timed too, and
its result compared with ours. Every round times the yardstick and then each row, so that other work on the machine
affects both; a value is the median of the rounds' ratios. Exits 1 where a row takes longer than its target (see
`operations.py`) or a peer is faster.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from operations import SHAPE, Row, make_inputs, rows, the_case, yardstick
from peak_memory import PeakMemory
from rich.console import Console
from rich.table import Table

from metrics.timing import measure

NOISE = 1.05  # a peer counts as faster from this ratio on
Key = tuple[str, str]  # name of the row, and whose implementation
YARDSTICK: Key = ("yardstick", "")


def middle(array: np.ndarray) -> np.ndarray:
    """The middle half of a volume's axes: libraries differ in what lies outside a grid."""
    if array.ndim < 3:
        return array.squeeze()
    z, y, x = (slice(n // 4, n - n // 4) for n in array.shape[-3:])
    return array[..., z, y, x].squeeze()


def disagreement(ours: Any, theirs: Any) -> float:
    """The largest difference of two results, values and gradients, relative to ours, except in 0.1 % of the voxels.

    In MONAI's mutual information the two voxels that set an image's range have another gradient.
    """
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (ours, theirs)), strict=True)
    arrays = [[middle(np.asarray(torch.as_tensor(v).detach().cpu(), dtype=float)) for v in pair] for pair in pairs]
    return max(float(np.quantile(np.abs(a - b), 0.999) / max(np.abs(a).max(), 1e-12)) for a, b in arrays)


def measure_rows(
    reference: Callable[[], Any], calls: dict[Key, Callable[[], Any]], device: str, rounds: int
) -> dict[Key, list[float]]:
    """Seconds of the yardstick and of each call, one value a round."""
    reference()
    # A call of milliseconds is timed several times in a row: a single time is mostly noise of the machine.
    repeats = {key: 1 + int(0.05 / measure(call, device)[1].seconds) for key, call in calls.items()}
    repeats[YARDSTICK] = 1
    seconds: dict[Key, list[float]] = {key: [] for key in [YARDSTICK, *calls]}
    for _ in range(rounds):
        for key, call in [(YARDSTICK, reference), *calls.items()]:
            seconds[key].append(measure(call, device, repeats[key])[1].seconds)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai|voxelmorph|neurite")
    console = Console(width=None if sys.stdout.isatty() else 160)
    inputs = make_inputs(the_case(), options.device)
    table = rows(inputs)
    calls = {(row.name, who): call for row in table for who, call in {"ours": row.ours, **row.peers}.items()}
    memory = PeakMemory(options.device)
    differences = {(r.name, who): disagreement(r.ours(), call()) for r in table for who, call in r.peers.items()}
    peaks = {key: memory.of(call) for key, call in calls.items()}
    seconds = measure_rows(yardstick(inputs, options.device), calls, options.device, options.rounds)
    return report(console, options.device, table, seconds, peaks, differences)


def report(
    console: Console,
    device: str,
    table: list[Row],
    seconds: dict[Key, list[float]],
    peaks: dict[Key, float | None],
    differences: dict[Key, float],
) -> int:
    """Print the table. Returns 1 where a target is missed or a peer is faster, else 0."""
    yard = statistics.median(seconds[YARDSTICK])
    console.print(
        f"Yardstick: {yard:.3f} s, the network's forward pass at {' x '.join(map(str, SHAPE))} on {device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; median of {len(seconds[YARDSTICK])} rounds."
    )
    shown = Table(
        "operation", "seconds", "yardsticks", "at most", "peak MB", "peer's time / ours (peak MB; difference)"
    )
    missed = 0
    for row in table:
        ours = seconds[row.name, "ours"]
        ratio = statistics.median(a / b for a, b in zip(ours, seconds[YARDSTICK], strict=True))
        late = row.target is not None and ratio > row.target
        notes = []
        for who in row.peers:
            times = statistics.median(a / b for a, b in zip(seconds[row.name, who], ours, strict=True))
            slower = times * NOISE < 1
            missed += slower
            peak = "" if peaks[row.name, who] is None else f"{peaks[row.name, who]:.0f} MB; "
            notes.append(f"{who} {times:.2f} ({peak}{differences[row.name, who]:.0e}){' FASTER' if slower else ''}")
        missed += late
        peak = peaks[row.name, "ours"]
        shown.add_row(
            row.name,
            f"{statistics.median(ours):.4f}",
            f"{ratio:.3f}",
            "" if row.target is None else f"{row.target:.2f} {'MISSED' if late else 'reached'}",
            "" if peak is None else f"{peak:.0f}",
            ", ".join(notes),
        )
    console.print(shown)
    console.print("Every target reached, no peer faster." if not missed else f"{missed} missed.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
