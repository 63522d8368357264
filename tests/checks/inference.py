"""Time of a network on the CPU, from a normalised pair to its displacement, compared with plain implementations.

Run by `make speed`. `plain` has the same weights in contiguous float32, every level at full size and torch's
grid_sample; MONAI's VoxelMorph (half resolution) and the voxelmorph package have the same channels and random weights.
Every round times each in turn; a value is the median of the rounds' ratios. Exits 1 where a target is missed: the
speed, the change of field and DSC against float32, or the memory for a large pair.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from operations import Plain, the_case
from peak_memory import PeakMemory
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from benchmark.evaluation import label_tensor
from methods.base import Grid, Pair, Scan
from methods.voxelmorph.devices import resolve_precision
from methods.voxelmorph.inference import for_inference, predict
from methods.voxelmorph.network import STEPS, VelocityUNet, standardise
from methods.voxelmorph.variants import WEIGHTS_FOLDER
from metrics.label_warping import warp_labels
from metrics.overlap import dice
from metrics.timing import measure

SHAPE = (192, 128, 96)
LARGE = (256, 192, 128)
LARGE_GB = 4.0
FIELD_VOXELS = 0.05
DSC = 0.001
# The least speed-up against each, with bf16 units and without.
TARGETS = {
    "plain": {"bf16": 2.5, "fp32": 1.4},
    "MONAI": {"bf16": 5.0, "fp32": 3.0},
    "voxelmorph": {"bf16": 5.0, "fp32": 3.0},
}


def plain_flow(velocity: Tensor) -> Tensor:
    """Scaling and squaring by grid_sample, without optimisations."""
    sizes = velocity.shape[2:]
    axes = [torch.arange(n, dtype=torch.float32) for n in sizes]
    here = torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]
    u = velocity / 2**STEPS
    for _ in range(STEPS):
        points = torch.stack([2 * ((here + u)[:, a] + 0.5) / sizes[a] - 1 for a in (2, 1, 0)], dim=-1)
        u = u + F.grid_sample(u, points, padding_mode="border", align_corners=False)
    return 2 * F.interpolate(u, scale_factor=2, mode="trilinear")


def runners(pair: Pair) -> dict[str, Callable[[], Tensor]]:
    """The timed calls by name; each returns a displacement (1, 3, D, H, W) in voxels."""
    import monai.networks.nets
    import voxelmorph

    torch.manual_seed(0)
    weights = {k: v.float() for k, v in load_file(WEIGHTS_FOLDER / "voxelmorph.safetensors").items()}
    ours, plain = VelocityUNet(), Plain().eval()
    ours.load_state_dict(weights)
    plain.load_state_dict(weights)
    ours = for_inference(ours)
    unet = monai.networks.nets.VoxelMorphUNet(3, 2, 32, (32, 32, 32, 64, 64, 64, 64, 64), (32, 32))
    theirs = monai.networks.nets.VoxelMorph(unet, STEPS, half_res=True).eval()
    package = voxelmorph.nn.models.VxmPairwise(
        3, 1, 1, (32, 32, 64, 64, 64), integration_steps=STEPS, resize_integrated_fields=True
    ).eval()
    moving, fixed = (torch.from_numpy(s.image)[None, None] for s in (pair.moving, pair.fixed))

    def plainly() -> Tensor:
        return plain_flow(plain.velocity_of(torch.cat(standardise(moving, fixed), dim=1)))

    calls = {
        "ours": lambda: predict(ours, pair, 1),
        "ours, fp32": lambda: predict(ours, pair, 1, precision="fp32"),
        "plain": plainly,
        "MONAI": lambda: theirs(moving, fixed)[1],
        "voxelmorph": lambda: package(moving, fixed),
    }
    return {name: torch.inference_mode()(call) for name, call in calls.items()}


def large_gb() -> float:
    """The peak memory of a prediction on a pair of size LARGE, GiB; NaN where the system does not report it."""
    grid = Grid(LARGE)
    labels = torch.ones(LARGE, dtype=torch.uint16).numpy()
    pair = Pair("large", *(Scan(torch.rand(LARGE).numpy(), held, grid) for held in (None, labels)))
    memory = PeakMemory("cpu")
    if not memory.known:
        return float("nan")
    network = for_inference(VelocityUNet())
    return (memory.of(lambda: predict(network, pair, 1)) or 0.0) / 2**10


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai|voxelmorph|neurite")
    console = Console(width=None if sys.stdout.isatty() else 160)
    precision, held = resolve_precision("auto", "cpu"), large_gb()
    case = the_case(SHAPE)
    calls = runners(case.pair)
    fields = {name: calls[name]() for name in ("ours", "plain")}
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(options.rounds):
        for name, call in calls.items():
            seconds[name].append(measure(call, "cpu")[1].seconds)

    console.print(
        f"A pair of {' x '.join(map(str, SHAPE))} to its displacement, {precision}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}; median of {options.rounds} rounds."
    )
    shown = Table("who", "seconds", "times ours", "at least")
    missed = 0
    for name, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds["ours"], strict=True))
        target = TARGETS.get(name, {}).get(precision)
        late = target is not None and ratio < target
        missed += late
        verdict = "" if target is None else f"{target:.1f} {'MISSED' if late else 'reached'}"
        shown.add_row(name, f"{statistics.median(times):.3f}", f"{ratio:.2f}", verdict)
    console.print(shown)

    labels, truth = (label_tensor(s.labels) for s in (case.pair.moving, case.pair.fixed))
    ids = [int(i) for i in labels.unique() if i]
    scores = {name: dice(warp_labels(labels, u, ids), truth, ids).mean().item() for name, u in fields.items()}
    moved = (fields["ours"] - fields["plain"]).norm(dim=1).mean().item()
    for what, value, most in (
        ("mean distance from the plain field, voxels", moved, FIELD_VOXELS),
        ("DSC less the plain one's", abs(scores["ours"] - scores["plain"]), DSC),
        (f"GB held beyond the pair for {' x '.join(map(str, LARGE))}", held, LARGE_GB),
    ):
        late = not value < most
        missed += late
        console.print(f"{what}: {value:.4f} (under {most:g} {'MISSED' if late else 'reached'})")
    console.print("Every target reached." if not missed else f"{missed} missed.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
