"""Train 50 steps from the trunk's weights and compare the result with the recorded bits.

    make retrain-check
    python tests/checks/retrain.py --export runs/training/trunk   # put a training's trunk into the repository
    python tests/checks/retrain.py --record                       # record the bits, on the machine of the training

The released rows branch off from methods/voxelmorph/weights/trunk.safetensors. The check trains `pc` from it twice on
four training phantoms. It exits with status 1 where the two differ, or where the record was made on this processor with
this torch and its bits differ. Another processor may round differently, which is said.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file

from benchmark.environment import provenance
from benchmark.training import open_data
from methods.base import Case, Pair, Progress
from methods.voxelmorph.card import export_trunk
from methods.voxelmorph.settings import make_training
from methods.voxelmorph.trainer import NETWORK, train
from methods.voxelmorph.variants import WEIGHTS_FOLDER

TRUNK = WEIGHTS_FOLDER / "trunk.safetensors"
STEPS, PATIENTS, SEED = 50, 4, 0


def bits(file: Path) -> str:
    """A hash of the names and bits of all tensors of a file."""
    digest = hashlib.sha256()
    for name, value in sorted(load_file(file).items()):
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def retrained(
    trunk: Path, pairs: Sequence[Pair], cases: Sequence[Case], folder: Path, changes: Mapping[str, Any] | None = None
) -> str:
    """Train from the trunk's weights and return the bits of the network.

    Args:
        trunk: weights with their card.
        pairs: training pairs.
        cases: validation cases.
        folder: an empty folder.
        changes: settings that differ from STEPS steps of the profile cpu.
    """
    own = {"stages": [], "steps": STEPS, "branch": 0.0, "start": str(trunk), "validate_every": STEPS,
           "precision": "fp32", "background": False}  # fmt: skip
    train(pairs, cases, folder, make_training("cpu", {**own, **(changes or {})}, {"pc": None}), SEED, Progress())
    return bits(folder / NETWORK)


def machine() -> dict[str, Any]:
    """What decides the rounding of a sum."""
    return {"processor": provenance()["processor"], "system": platform.machine(), "torch": torch.__version__}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--export", type=Path, help="Write the weights of this trunk's folder into the repository.")
    parser.add_argument("--record", action="store_true", help="Record the bits in place of comparing with them.")
    options = parser.parse_args()
    console, record = Console(soft_wrap=True), TRUNK.with_name("retrain.json")
    if options.export is not None:
        console.print(f"Wrote {export_trunk(options.export, TRUNK)}")
        return 0
    if not TRUNK.is_file():
        console.print(f"{TRUNK}: expected the trunk's weights, found none; write them with --export TRAINING/trunk")
        return 1
    torch.set_num_threads(1)
    data = open_data("phantom", {}, 1)
    with tempfile.TemporaryDirectory() as folder:
        found = [retrained(TRUNK, data.train[:PATIENTS], data.val, Path(folder, str(k))) for k in (0, 1)]
    if found[0] != found[1]:
        console.print(f"Two trainings differ: {found[0][:16]} and {found[1][:16]}")
        return 1
    now = {"bits": found[0], "trunk": bits(TRUNK), **machine()}
    if options.record:
        record.write_text(json.dumps(now, indent=1) + "\n", encoding="utf-8")
        console.print(f"Recorded {found[0][:16]} in {record}")
        return 0
    known = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    elsewhere = [name for name in ("trunk", *machine()) if known.get(name) != now[name]]
    if elsewhere:
        console.print(
            f"Two trainings agree: {found[0][:16]}. The record has other {', '.join(elsewhere)}, so that its"
            " bits cannot be compared."
        )
        return 0
    same = known["bits"] == found[0]
    console.print(f"{STEPS} steps from the trunk: {found[0][:16]}, recorded {known['bits'][:16]}.")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
