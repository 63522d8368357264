"""The cost of rigidity penalties: a training step with each and with all penalties over a step without.

Run by `make training-cost`. Every round times the step without and then each row on one crop, so that other work on the
machine affects both; a value is the median of the rounds' ratios. Exits 1 where a step with all penalties takes more
than twice the time of a step without.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from benchmark.datasets.phantom import Phantom
from methods.voxelmorph.augmentation import augment
from methods.voxelmorph.checkpoint import initial_state
from methods.voxelmorph.devices import resolve_precision
from methods.voxelmorph.samples import Sample, make_sample
from methods.voxelmorph.settings import Training, make_training
from methods.voxelmorph.trainer import loss_of

CASE = "phantom-0142"
SAMPLE = 3
WEIGHTS = {"pc": 0.01, "oc": 0.005, "rigid-dice": 0.1, "rigid-field": 0.01, "volume": 0.1}
MOST = 2.0


def seconds(sample: Sample, settings: Training) -> float:
    """Time of one step (forward, backward and Adam's) with a field that is not zero."""
    state = initial_state(replace(settings, final_layer_std=2e-2), 0)
    crop = augment(sample, settings, 0, SAMPLE)
    start = time.perf_counter()
    loss_of(state.network, crop, settings).total.backward()
    state.optimiser.step()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profiles", default="cpu,paper")
    parser.add_argument("--precision", default="fp32,auto")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pair = Phantom("phantom").load(CASE).pair
    rows = {name: {name: weight} for name, weight in WEIGHTS.items()} | {"all": WEIGHTS}
    table, worst = Table("profile", "precision", "vertebrae", "without [s]", *rows, title="with over without"), 0.0
    for profile in options.profiles.split(","):
        for precision in dict.fromkeys(resolve_precision(p, "cpu") for p in options.precision.split(",")):
            settings = make_training(profile, {"precision": precision}, {})
            sample = make_sample(pair, settings.shrink_factor)
            without, ratios = [], {name: list[float]() for name in rows}
            for _ in range(options.rounds):
                without.append(seconds(sample, settings))
                for name, penalties in rows.items():
                    ratios[name].append(seconds(sample, replace(settings, penalties=penalties)) / without[-1])
            medians = {name: statistics.median(values) for name, values in ratios.items()}
            shown = len(augment(sample, settings, 0, SAMPLE).labels.unique()) - 1
            table.add_row(profile, precision, str(shown), f"{statistics.median(without):.2f}",
                          *(f"{m:.2f}" for m in medians.values()))  # fmt: skip
            worst = max(worst, medians["all"])
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
