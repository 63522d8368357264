"""How fast are the equations? Each in yardsticks: one plain float32 pass of the paper's network, in the same run.

Run by `make speed`. The volume is 128 x 128 x 64 with five vertebrae; a row is forward and backward unless it says
otherwise. Beside ours, where they have it, the same operation of MONAI and of the voxelmorph package, with how much the
results differ. Every round times the yardstick and then each row, so that a slow minute hits both; a figure is the
median of the rounds' ratios. Exits 1 where a row misses its target or a peer is faster.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmark.datasets.phantom import Phantom
from benchmark.evaluation import evaluate, label_tensor
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.geometry import to_millimetres, to_voxels
from methods.voxelmorph.network import VelocityUNet
from metrics import fields, label_warping, overlap, regularity, rigid, similarity, volume
from metrics.timing import measure

SHAPE = (128, 128, 64)
SPACING_MM = (1.0, 1.0, 1.0)
CASE = "phantom-0022"
NOISE = 1.05  # a peer that is faster by less than this is not called faster


@dataclass(frozen=True)
class Row:
    """One operation. target: yardsticks, or None; peers: the same by other libraries; check: ours and theirs agree."""

    name: str
    ours: Callable[[], Any]
    target: float | None = None
    peers: Mapping[str, Callable[[], Any]] = field(default_factory=dict)


class Plain(VelocityUNet):
    """The same network as its paper draws it."""

    def velocity_of(self, x: Tensor) -> Tensor:
        skips = []
        for level, convolution in enumerate(self.encoder):
            x = F.leaky_relu(convolution(F.max_pool3d(x, 2) if level else x), 0.2)
            skips.append(x)
        for convolution, skip in zip(self.decoder, skips[-2:0:-1], strict=True):
            x = F.leaky_relu(convolution(torch.cat([F.interpolate(x, scale_factor=2), skip], dim=1)), 0.2)
        for convolution in self.head:
            x = F.leaky_relu(convolution(x), 0.2)
        return self.velocity(x)


def with_gradient(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """A call that gives the value of `function` and the gradients of its sum with respect to `inputs`."""

    def call() -> tuple[Tensor, ...]:
        leaves = [v.detach().requires_grad_() for v in inputs]
        value = function(*leaves)
        return (value.detach(), *torch.autograd.grad(value.sum(), leaves))

    return call


def without_gradient(function: Callable[..., Any], *inputs: Any) -> Callable[[], Any]:
    @torch.no_grad()
    def call() -> Any:
        return function(*inputs)

    return call


def the_case(shape: tuple[int, int, int] = SHAPE) -> Case:
    """The middle of a phantom, cut or continued to `shape`."""
    case = Phantom("phantom", vertebrae=5).load(CASE)
    grid = Grid(shape)

    def cut(array: np.ndarray, mode: str) -> np.ndarray:
        for axis, n in enumerate(shape):
            extra = n - array.shape[axis]
            if extra < 0:
                array = np.take(array, range(-extra // 2, -extra // 2 + n), axis=axis)
            else:
                widths = [(extra // 2, extra - extra // 2) if a == axis else (0, 0) for a in range(array.ndim)]
                array = np.pad(array, widths, mode=mode)
        return np.ascontiguousarray(array)

    def scan(s: Scan) -> Scan:
        return Scan(cut(s.image, "edge"), cut(s.labels, "constant"), grid)

    pair = Pair("speed", scan(case.pair.fixed), scan(case.pair.moving))
    core = None if case.true_core is None else cut(case.true_core, "constant")
    return replace(case, pair=pair, true_displacement_mm=cut(case.true_displacement_mm, "edge"), true_core=core)


def rows(case: Case, device: str) -> tuple[Callable[[], Any], list[Row]]:
    """The yardstick, and what is measured by it."""
    import monai.losses
    import monai.metrics
    import monai.networks.blocks
    import neurite
    import voxelmorph

    generator = torch.Generator().manual_seed(0)
    knots = torch.randn(1, 3, *(n // 16 for n in SHAPE), generator=generator)
    u = to_voxels(case.true_displacement_mm, case.pair.grid) + 0.6 * F.interpolate(knots, SHAPE, mode="trilinear")
    registration = Registration(to_millimetres(u, case.pair.grid))
    moving, fixed = (torch.from_numpy(s.image)[None, None].to(device) for s in (case.pair.moving, case.pair.fixed))
    labels, truth = (label_tensor(s.labels).to(device) for s in (case.pair.moving, case.pair.fixed))
    u = u.to(device)
    ids = [int(i) for i in labels.unique() if i]
    soft, hard = label_warping.warp_soft(labels, u, ids), label_warping.warp_labels(labels, u, ids)
    soft_moving = torch.stack([labels == i for i in ids]).float()
    velocity = F.interpolate(u, scale_factor=0.5, mode="trilinear") / 2
    network = Plain().to(device).eval()

    def one_hot(a: Tensor) -> Tensor:
        return torch.stack([a == i for i in ids])[None].float()

    def integration() -> dict[str, Callable[[], Any]]:
        block = monai.networks.blocks.DVF2DDF(num_steps=7, mode="bilinear", padding_mode="border")
        return {
            "MONAI": without_gradient(block, velocity),
            "voxelmorph": without_gradient(lambda v: voxelmorph.integrate_vec(v, 7, non_spatial_dims=(0,)), velocity),
        }

    monai_warp = monai.networks.blocks.Warp("bilinear", "border")
    monai_mi = monai.losses.GlobalMutualInformationLoss("b-spline", num_bins=64)
    monai_dice = monai.losses.DiceLoss(squared_pred=True, reduction="none", smooth_nr=0, smooth_dr=0)
    spatial_gradient = neurite.nn.modules.SpatialGradient("l2")

    def vxm_warp(v: Tensor) -> Tensor:
        return voxelmorph.spatial_transform(moving, v, non_spatial_dims=(0, 1), padding_mode="border")

    def determinant(v: Tensor) -> Tensor:
        return fields.jacobian_determinant(fields.jacobian(v))

    def numpy_determinant(v: Tensor) -> np.ndarray:
        return voxelmorph.py.utils.jacobian_determinant(v[0].permute(1, 2, 3, 0).cpu().numpy())[None]

    table = [
        Row(
            "MIND-SSC of two images, gradient to one",
            with_gradient(lambda m: similarity.mind_loss(m, fixed), moving),
            0.5,
        ),
        Row("properness + orthonormality", with_gradient(lambda v: sum(regularity.rigidity(v, soft)), u), 0.08),
        Row(
            "rigid dice, closest rigid included",
            with_gradient(lambda w: rigid.rigid_dice(labels, w, ids, SPACING_MM, u), soft),
            0.25,
        ),
        Row("rigid field", with_gradient(lambda v: rigid.rigid_field(v, soft, SPACING_MM), u), 0.05),
        Row(
            "7-step integration at half resolution (forward)",
            without_gradient(fields.integrate, velocity),
            0.10,
            integration(),
        ),
        Row("evaluation of one case, all columns (forward)", without_gradient(evaluate, case, registration), 1.5),
        Row("five soft labels warped", with_gradient(lambda v: label_warping.warp_soft(labels, v, ids), u)),
        Row(
            "one image warped",
            with_gradient(lambda v: fields.warp(moving, v, padding="border"), u),
            None,
            {"MONAI": with_gradient(lambda v: monai_warp(moving, v), u), "voxelmorph": with_gradient(vxm_warp, u)},
        ),
        Row(
            "two fields composed",
            with_gradient(lambda v: fields.compose(v, u), u),
            None,
            {"voxelmorph": with_gradient(lambda v: voxelmorph.compose([u, v]), u)},
        ),
        Row(
            "|J| (forward)",
            without_gradient(determinant, u),
            None,
            {"voxelmorph": without_gradient(numpy_determinant, u)},
        ),
        Row(
            "smoothness (diffusion)",
            with_gradient(regularity.diffusion, velocity),
            None,
            {"voxelmorph": with_gradient(spatial_gradient, velocity)},
        ),
        Row("direct volume loss", with_gradient(lambda w: volume.volume_loss(soft_moving, w), soft)),
        Row(
            "mutual information, gradient to one",
            with_gradient(lambda m: similarity.mutual_information(m, fixed), moving),
            None,
            {"MONAI": with_gradient(lambda m: -monai_mi(m, fixed), moving)},
        ),
        Row("NGF of two images, gradient to one", with_gradient(lambda m: similarity.ngf(m, fixed), moving)),
        Row(
            "soft Dice of five labels",
            with_gradient(lambda w: overlap.soft_dice(w, soft_moving), soft),
            None,
            {"MONAI": with_gradient(lambda w: 1 - monai_dice(w[None], soft_moving[None]), soft)},
        ),
        Row(
            "DSC of five hard labels (forward)",
            without_gradient(overlap.dice, hard, truth, ids),
            None,
            {"MONAI": without_gradient(lambda: monai.metrics.compute_dice(one_hot(hard), one_hot(truth))[0])},
        ),
        Row(
            "HD95 of five hard labels (forward)",
            without_gradient(overlap.hd95_mm, hard, truth, ids, SPACING_MM),
            None,
            {
                "MONAI": without_gradient(
                    lambda: monai.metrics.compute_hausdorff_distance(
                        one_hot(hard), one_hot(truth), include_background=True, percentile=95
                    )[0]
                )
            },
        ),
    ]
    return without_gradient(network, moving, fixed), table


class PeakMemory:
    """The most memory a call holds beyond what was held before, MiB: on Linux, or as torch counts it on CUDA."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.known = self.cuda or Path("/proc/self/clear_refs").exists()

    def of(self, call: Callable[[], Any]) -> float | None:
        if not self.known:
            return None
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        # What the allocator keeps for later would hide what the call asks for.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = self._status("VmRSS")
        call()
        return (self._status("VmHWM") - before) / 2**10

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def middle(array: np.ndarray) -> np.ndarray:
    """The middle half of a volume's sides: what lies outside of a grid is decided differently by each library."""
    if array.ndim < 3:
        return array.squeeze()
    z, y, x = (slice(n // 4, n - n // 4) for n in array.shape[-3:])
    return array[..., z, y, x].squeeze()


def disagreement(ours: Any, theirs: Any) -> float:
    """The difference of two results, values and gradients, relative to ours, but for a thousandth of the voxels.

    The two voxels that set an image's range have a gradient of their own in MONAI's mutual information.
    """
    pairs = zip(*(r if isinstance(r, tuple) else (r,) for r in (ours, theirs)), strict=True)
    arrays = [[middle(np.asarray(torch.as_tensor(v).detach().cpu(), dtype=float)) for v in pair] for pair in pairs]
    return max(float(np.quantile(np.abs(a - b), 0.999) / max(np.abs(a).max(), 1e-12)) for a, b in arrays)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", module="monai|voxelmorph|neurite")
    console = Console(width=None if sys.stdout.isatty() else 160)
    yardstick, table = rows(the_case(), options.device)
    calls = {(row.name, who): call for row in table for who, call in {"ours": row.ours, **row.peers}.items()}
    memory = PeakMemory(options.device)
    differences = {(r.name, who): disagreement(r.ours(), call()) for r in table for who, call in r.peers.items()}
    peaks = {key: memory.of(call) for key, call in calls.items()}
    yardstick()
    # What takes milliseconds is timed several times in a row: a single one is mostly the machine's noise.
    repeats: dict[Any, int] = {
        key: 1 + int(0.05 / measure(call, options.device)[1].seconds) for key, call in calls.items()
    }
    repeats["yardstick"] = 1
    seconds: dict[Any, list[float]] = {key: [] for key in ["yardstick", *calls]}
    for _ in range(options.rounds):
        for key, call in [("yardstick", yardstick), *calls.items()]:
            seconds[key].append(measure(call, options.device, repeats[key])[1].seconds)
    return report(console, options.device, table, seconds, peaks, differences)


def report(
    console: Console,
    device: str,
    table: list[Row],
    seconds: dict[Any, list[float]],
    peaks: dict[Any, float | None],
    differences: dict[Any, float],
) -> int:
    """Prints the table; 1 where a target is missed or a peer is faster."""
    yard = statistics.median(seconds["yardstick"])
    console.print(
        f"Yardstick: {yard:.3f} s, the network's forward pass at {' x '.join(map(str, SHAPE))} on {device}, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__}; median of {len(seconds['yardstick'])} rounds."
    )
    shown = Table(
        "operation", "seconds", "yardsticks", "at most", "peak MB", "peer's time / ours (peak MB; difference)"
    )
    missed = 0
    for row in table:
        ours = seconds[row.name, "ours"]
        ratio = statistics.median(a / b for a, b in zip(ours, seconds["yardstick"], strict=True))
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
