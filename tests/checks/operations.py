"""The operations that `speed.py` times, and the volume and network that it and `inference.py` use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.datasets.phantom import Phantom
from benchmark.evaluation import evaluate, label_tensor
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.geometry import to_millimetres, to_voxels
from methods.voxelmorph.network import VelocityUNet
from metrics import fields, label_warping, overlap, regularity, rigid, similarity, volume

SHAPE = (128, 128, 64)
SPACING_MM = (1.0, 1.0, 1.0)
CASE = "phantom-0022"


@dataclass(frozen=True)
class Row:
    """One operation that is timed.

    Attributes:
        name: of the operation.
        ours: this project's implementation.
        target: the most time, in yardsticks; None: no target.
        peers: other libraries' implementations by the library's name.
    """

    name: str
    ours: Callable[[], Any]
    target: float | None = None
    peers: Mapping[str, Callable[[], Any]] = field(default_factory=dict)


class Plain(VelocityUNet):
    """The network as its paper draws it, without the optimisations of `VelocityUNet`."""

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
    """A call of `function` that records no gradient."""

    @torch.no_grad()
    def call() -> Any:
        return function(*inputs)

    return call


def the_case(shape: tuple[int, int, int] = SHAPE) -> Case:
    """The middle of a phantom, cropped or padded to `shape`."""
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


@dataclass(frozen=True)
class Inputs:
    """A pair, a displacement and all that the operations are applied to, on one device.

    Attributes:
        case: the pair with fixed labels.
        registration: the displacement as a method returns it.
        ids: label values.
        moving: image (1, 1, D, H, W).
        fixed: image (1, 1, D, H, W).
        labels: moving label map (D, H, W).
        truth: fixed label map (D, H, W).
        u: displacement (1, 3, D, H, W), voxels.
        velocity: (1, 3, D / 2, H / 2, W / 2), voxels.
        soft: warped soft labels (N, D, H, W).
        hard: warped label map (D, H, W).
        soft_moving: one-hot moving labels (N, D, H, W).
    """

    case: Case
    registration: Registration
    ids: list[int]
    moving: Tensor
    fixed: Tensor
    labels: Tensor
    truth: Tensor
    u: Tensor
    velocity: Tensor
    soft: Tensor
    hard: Tensor
    soft_moving: Tensor


def make_inputs(case: Case, device: str) -> Inputs:
    """The inputs of all operations: the true displacement of a case plus a smooth random one."""
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
    return Inputs(case, registration, ids, moving, fixed, labels, truth, u, velocity, soft, hard, soft_moving)


def yardstick(inputs: Inputs, device: str) -> Callable[[], Any]:
    """One plain float32 forward pass of the paper's network."""
    network = Plain().to(device).eval()
    return without_gradient(network, inputs.moving, inputs.fixed)


def rows(inputs: Inputs) -> list[Row]:
    """All operations, in the order of the table."""
    table = [*rigidity_rows(inputs), *field_rows(inputs), *similarity_rows(inputs), *overlap_rows(inputs)]
    return sorted(table, key=lambda row: row.target is None)  # those with a target first


def rigidity_rows(i: Inputs) -> list[Row]:
    """The rigidity losses, and the evaluation of a case."""
    labels, ids, u, soft = i.labels, i.ids, i.u, i.soft
    return [
        Row("properness + orthonormality", with_gradient(lambda v: sum(regularity.rigidity(v, soft)), u), 0.08),
        Row(
            "rigid dice, closest rigid included",
            with_gradient(lambda w: rigid.rigid_dice(labels, w, ids, SPACING_MM, u), soft),
            0.25,
        ),
        Row("rigid field", with_gradient(lambda v: rigid.rigid_field(v, soft, SPACING_MM), u), 0.05),
        Row("evaluation of one case, all columns (forward)", without_gradient(evaluate, i.case, i.registration), 1.5),
        Row("five soft labels warped", with_gradient(lambda v: label_warping.warp_soft(labels, v, ids), u)),
        Row("direct volume loss", with_gradient(lambda w: volume.volume_loss(i.soft_moving, w), soft)),
    ]


def field_rows(i: Inputs) -> list[Row]:
    """Operations on fields and images, beside those of MONAI and of the voxelmorph package."""
    import monai.networks.blocks
    import neurite
    import voxelmorph

    u, velocity, moving = i.u, i.velocity, i.moving
    monai_integration = monai.networks.blocks.DVF2DDF(num_steps=7, mode="bilinear", padding_mode="border")
    monai_warp = monai.networks.blocks.Warp("bilinear", "border")
    spatial_gradient = neurite.nn.modules.SpatialGradient("l2")

    def vxm_warp(v: Tensor) -> Tensor:
        return voxelmorph.spatial_transform(moving, v, non_spatial_dims=(0, 1), padding_mode="border")

    def vxm_integration(v: Tensor) -> Tensor:
        return voxelmorph.integrate_vec(v, 7, non_spatial_dims=(0,))

    def determinant(v: Tensor) -> Tensor:
        return fields.jacobian_determinant(fields.jacobian(v))

    def numpy_determinant(v: Tensor) -> np.ndarray:
        return voxelmorph.py.utils.jacobian_determinant(v[0].permute(1, 2, 3, 0).cpu().numpy())[None]

    return [
        Row(
            "7-step integration at half resolution (forward)",
            without_gradient(fields.integrate, velocity),
            0.10,
            {
                "MONAI": without_gradient(monai_integration, velocity),
                "voxelmorph": without_gradient(vxm_integration, velocity),
            },
        ),
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
    ]


def similarity_rows(i: Inputs) -> list[Row]:
    """The similarity measures, with the gradient to the moving image."""
    import monai.losses

    moving, fixed = i.moving, i.fixed
    monai_mi = monai.losses.GlobalMutualInformationLoss("b-spline", num_bins=64)
    return [
        Row(
            "MIND-SSC of two images, gradient to one",
            with_gradient(lambda m: similarity.mind_loss(m, fixed), moving),
            0.5,
        ),
        Row(
            "mutual information, gradient to one",
            with_gradient(lambda m: similarity.mutual_information(m, fixed), moving),
            None,
            {"MONAI": with_gradient(lambda m: -monai_mi(m, fixed), moving)},
        ),
        Row("NGF of two images, gradient to one", with_gradient(lambda m: similarity.ngf(m, fixed), moving)),
    ]


def overlap_rows(i: Inputs) -> list[Row]:
    """Dice and HD95 of five labels, beside those of MONAI."""
    import monai.losses
    import monai.metrics

    hard, truth, ids, soft, soft_moving = i.hard, i.truth, i.ids, i.soft, i.soft_moving
    monai_dice = monai.losses.DiceLoss(squared_pred=True, reduction="none", smooth_nr=0, smooth_dr=0)

    def one_hot(a: Tensor) -> Tensor:
        return torch.stack([a == v for v in ids])[None].float()

    def monai_dsc() -> Tensor:
        return monai.metrics.compute_dice(one_hot(hard), one_hot(truth))[0]

    def monai_hd95() -> Tensor:
        return monai.metrics.compute_hausdorff_distance(
            one_hot(hard), one_hot(truth), include_background=True, percentile=95
        )[0]

    return [
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
            {"MONAI": without_gradient(monai_dsc)},
        ),
        Row(
            "HD95 of five hard labels (forward)",
            without_gradient(overlap.hd95_mm, hard, truth, ids, SPACING_MM),
            None,
            {"MONAI": without_gradient(monai_hd95)},
        ),
    ]
