"""Why do networks not follow along the spine? The same known motions, in blocks around a vertebra and anywhere.

From the released baseline's weights one network learns them in blocks whose middle is within 3 mm of a vertebra's, the
other in blocks of the same size that lie anywhere along the spine (methods/voxelmorph/known_motion.py). Judged on such
blocks of validation phantoms, by the share of the variance of the motion put in that the displacement explains.

    python tests/checks/lessons.py --steps 600

Some 15 minutes each on one core; `--off-centre-mm 3` or `--off-centre-mm 20` is one of the two.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file

from benchmark.datasets.phantom import Phantom
from methods.voxelmorph.devices import autocast, resolve_precision
from methods.voxelmorph.items import Item, coarsen
from methods.voxelmorph.known_motion import OFF_CENTRE_MM, blocks_of, known_motion_loss
from methods.voxelmorph.method import WEIGHTS
from methods.voxelmorph.network import VoxelMorph, flow
from methods.voxelmorph.settings import Training

LR = 5e-4
ANYWHERE_MM = 20.0  # more than half the way from one vertebra to the next
CLIP = 1.0
JUDGED = 12  # steps' worth of blocks
SETTINGS = Training(appearance=False)
AXES = ("along the spine", "front to back", "left to right")


def items_of(split: str, limit: int) -> list[Item]:
    phantom = Phantom("phantom")
    names = phantom.cases(split)[:limit]
    return [coarsen(phantom.load(name).pair.blind(name), SETTINGS.coarsening) for name in names]


def explained(network: VoxelMorph, items: Sequence[Item], off_centre_mm: float) -> list[float]:
    """The share of the variance of the known displacements' means over the vertebrae, per axis (z, y, x)."""
    found, known = [], []
    with torch.no_grad():
        for k in range(JUDGED):
            blocks = blocks_of(items[k % len(items)], replace(SETTINGS, flips=False), 1, k, off_centre_mm=off_centre_mm)
            near = blocks.weights == 1
            for field, into in ((flow(network(blocks.moving, blocks.fixed)), found), (blocks.displacement, known)):
                into.append((field * near).sum((2, 3, 4)) / near.sum((2, 3, 4)))
    error = (torch.cat(found) - torch.cat(known)).square().mean(0)
    return (1 - error / torch.cat(known).var(0, unbiased=False)).tolist()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--every", type=int, default=200)
    parser.add_argument("--off-centre-mm", type=float, nargs="+", default=[OFF_CENTRE_MM, ANYWHERE_MM])
    parser.add_argument("--patients", type=int, default=117, help="to learn from")
    asked = parser.parse_args()
    learnt_from, judged_on = items_of("train", asked.patients), items_of("val", 6)
    precision = resolve_precision("auto", "cpu")
    table = Table("off centre [mm]", "steps", *AXES, title="variance of known motions explained, validation phantoms")
    for off_centre_mm in asked.off_centre_mm:
        network = VoxelMorph()
        network.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS / "voxelmorph.safetensors").items()})
        optimiser = torch.optim.Adam(network.parameters(), lr=LR)
        order = np.random.Generator(np.random.PCG64(0)).integers(len(learnt_from), size=asked.steps)
        for step in range(asked.steps + 1):
            if step % asked.every == 0:
                row = [f"{share:.2f}" for share in explained(network, judged_on, off_centre_mm)]
                table.add_row(f"{off_centre_mm:g}", str(step), *row)
                print(off_centre_mm, step, *row, file=sys.stderr)
            if step == asked.steps:
                break
            blocks = blocks_of(learnt_from[order[step]], SETTINGS, 0, step, off_centre_mm=off_centre_mm)
            with autocast("cpu", precision):
                velocity = network(blocks.moving, blocks.fixed)
            optimiser.zero_grad()
            known_motion_loss(velocity, blocks).total.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
