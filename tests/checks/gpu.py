"""The CUDA tests, and the seconds of every torch row on CPU and GPU at three sizes.

Run by `make gpu`, in under ten minutes. Writes runtime.csv, a line for each row, device and size, and runtime.md, the
table. Exits 1 where there is no CUDA device, a test fails or a row fails.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmark.datasets.phantom import Phantom
from methods.base import Pair
from methods.registry import BUILT_IN, METHODS, create_method
from metrics.timing import measure
from reports.figures.runtime import markdown, runtime_table
from reports.printing import csv, write_text

ROOT = Path(__file__).resolve().parents[2]
DEVICES = ("cpu", "cuda")
SPACINGS_MM = (2.0, 1.5, 1.0)
NO_CUDA = "gpu: expected a CUDA device, torch finds none; run this on a machine with an NVIDIA GPU and torch for CUDA"


def torch_rows() -> list[str]:
    """The built-in rows that run on both devices."""
    names = [entry.name for entry in METHODS if entry.origin == BUILT_IN]
    return [name for name in names if set(DEVICES) <= set(create_method(name, {}).devices)]


def pairs(patient: str, vertebrae: int | None) -> Iterator[Pair]:
    """One patient on each grid, coarsest first."""
    for spacing in SPACINGS_MM:
        yield Phantom("phantom", spacing_mm=spacing, vertebrae=vertebrae).load(patient).pair.blind("token")


def time_row(row: str, device: str, sizes: list[Pair], threads: int, seed: int = 0) -> list[dict[str, Any]]:
    """A line of cases.parquet, as far as the runtime table reads it, for each size."""
    method = create_method(row)
    about = {"dataset": "phantom", "case": "patient", "method": row, "device": device, "contended": False}
    reason = method.unavailable(device)
    if reason:
        return [about | {"status": "unavailable", "error": reason, "voxels": p.moving.image.size} for p in sizes]
    began = time.perf_counter()
    method.prepare(device, threads, seed)
    about["prepare_seconds"] = time.perf_counter() - began
    lines = []
    for pair in sizes:
        _, timing = measure(lambda pair=pair: method.register(pair), device)
        lines.append(about | {
            "status": "ok", "error": None, "voxels": pair.moving.image.size, "seconds": timing.seconds,
            "seconds_spread": timing.spread, "peak_memory_mb": timing.peak_memory_mb,
            "peak_device_memory_mb": timing.peak_device_memory_mb,
        })  # fmt: skip
        print(f"{row} on {device}, {pair.grid.shape}: {timing.seconds:.2f} s", flush=True)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"))
    parser.add_argument("--patient", default="phantom-0117")
    parser.add_argument("--vertebrae", type=int, default=5, help="More make the volumes larger.")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_CUDA)
        return 1
    tests = subprocess.run([sys.executable, "-m", "pytest", "-m", "cuda"], cwd=ROOT, check=False)
    sizes = list(pairs(options.patient, options.vertebrae))
    threads = torch.get_num_threads()
    cells = pd.DataFrame(
        [line for row in torch_rows() for device in DEVICES for line in time_row(row, device, sizes, threads)]
    )
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(options.out / "runtime.csv", csv(cells))
    table = markdown(runtime_table(cells))
    write_text(options.out / "runtime.md", table)
    print(f"{table}\n{torch.cuda.get_device_name()}, {threads} CPU threads; files in {options.out}")
    return int(tests.returncode != 0 or not (cells["status"] == "ok").all())


if __name__ == "__main__":
    sys.exit(main())
