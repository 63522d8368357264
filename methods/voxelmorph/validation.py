"""Evaluate a network on validation cases during a training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from methods.base import Case, Pair, Preview, vertebra_ids
from methods.geometry import spacing_zyx, to_millimetres
from methods.voxelmorph.following import AXES, follows
from methods.voxelmorph.inference import predict
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training, stage_steps
from metrics.fields import jacobian, jacobian_determinant, warp
from metrics.label_warping import warp_labels
from metrics.overlap import dice
from metrics.regularity import folding, sd_log_jacobian

FOLLOWING_CASES = 2  # each costs six predictions
FOLLOWS = ("follows_z", "follows_y", "follows_x")  # names of the values, in the order of `AXES`


def validate(
    network: VelocityUNet | None,
    cases: Sequence[Case],
    shrink_factor: int,
    device: str = "cpu",
    precision: str = "auto",
) -> tuple[dict[str, float], Preview | None]:
    """Evaluate a network on validation cases.

    Args:
        network: None evaluates the pairs before registration.
        cases: cases without fixed labels are skipped.
        shrink_factor: voxels of a pair per voxel of the network along each axis.
        device: cpu or cuda.
        precision: of the convolutions: auto, fp32 or bf16.

    Returns:
        Values by name and a preview of the first case. dsc is the mean over the vertebrae of all cases that Table 1
        evaluates. sd_log_jacobian (plain) and folding_voxels are means over the cases.
    """
    scores: list[float] = []
    roughness, folds = [], []
    preview: Preview | None = None
    for case in cases:
        moving, fixed = case.compared_labels, case.pair.fixed.labels
        if moving is None or fixed is None:
            continue
        displacement = torch.zeros(1, 3, *case.pair.grid.shape)
        if network is not None:
            displacement = predict(network, case.pair.blind("validation"), shrink_factor, device, precision).cpu()
        # Every label is warped, because neighbours compete for a voxel; only the counted ones are scored.
        warped_ids = list(vertebra_ids(moving))
        warped = warp_labels(torch.from_numpy(moving.astype(np.int32)), displacement, warped_ids)
        scores += dice(warped, torch.from_numpy(fixed.astype(np.int32)), case.counted).tolist()
        determinant = jacobian_determinant(jacobian(displacement, spacing_zyx(case.pair.grid)))
        roughness.append(sd_log_jacobian(determinant.double()).item())
        folds.append(folding(determinant)[0].item())
        preview = preview or _preview(case, displacement, warped)
    values = {"dsc": scores, "sd_log_jacobian": roughness, "folding_voxels": folds}
    return {name: float(np.nanmean(numbers)) for name, numbers in values.items()}, preview


def _preview(case: Case, displacement: Tensor, warped_labels: Tensor) -> Preview:
    """The sagittal slice through the middle of the fixed labels, head up."""
    labels = case.pair.fixed.labels
    assert labels is not None
    columns = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    x = int(columns[len(columns) // 2]) if len(columns) else labels.shape[2] // 2
    moving = torch.from_numpy(case.pair.moving.image)[None, None]
    # Only the points of the slice are warped.
    points = displacement.clone()[..., x : x + 1]
    points[:, 2] += x
    image = warp(moving, points, padding="border")[0, 0, :, :, 0].numpy()
    z_mm, y_mm, _ = spacing_zyx(case.pair.grid)
    fixed, fixed_labels = case.pair.fixed.image[..., x], labels[..., x]
    return Preview(
        fixed[::-1], image[::-1], fixed_labels[::-1], warped_labels[..., x].numpy()[::-1], z_mm / y_mm,
        case.pair.fixed.modality, case.pair.moving.modality,
    )  # fmt: skip


def follows_shifts(
    network: VelocityUNet, cases: Sequence[Case], shrink_factor: int, device: str = "cpu", precision: str = "auto"
) -> dict[str, float]:
    """Measure how a network follows shifts of the CT, `follows`, on the first validation cases.

    Args:
        network: as for `validate`.
        cases: at least one; fixed labels are not used.
        shrink_factor: voxels of a pair per voxel of the network along each axis.
        device: cpu or cuda.
        precision: of the convolutions: auto, fp32 or bf16.

    Returns:
        follows_z, follows_y and follows_x, 1 for a network that follows.
    """

    def fields(pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
        for pair in pairs:
            yield to_millimetres(predict(network, pair, shrink_factor, device, precision).cpu(), pair.grid)

    pairs = [case.pair.blind("validation") for case in cases[:FOLLOWING_CASES]]
    return dict(zip(FOLLOWS, follows(fields, pairs).tolist(), strict=True))


def check_following(workdir: Path, record: Mapping[str, float], settings: Training) -> None:
    """Stop a training whose network no longer follows, when the paper's loss is trained after stages.

    Args:
        workdir: folder of the training, for the message.
        record: of the last validation.
        settings: of the training.

    Raises:
        ValueError: the network follows a shift along some axis by less than `settings.least_following`.
    """
    if not settings.stages or record["step"] <= stage_steps(settings):
        return
    value, axis = min((record[name], axis) for name, axis in zip(FOLLOWS, AXES, strict=True))
    if settings.least_following and value < settings.least_following:
        raise ValueError(
            f"{workdir} step {record['step']}: expected a network that follows a shift of the CT by at least "
            f"{settings.least_following:g} of it, got {value:.2f} {axis}; raise training.supervision or lower "
            "training.smoothness in another folder, or continue with training.least_following: 0"
        )


def kept_record(history: Sequence[Mapping[str, float]], choose: str, after: int) -> Mapping[str, float]:
    """The validation record of the network to keep.

    Args:
        history: records with `step` and `dsc`.
        choose: `last`, or `best` for the highest DSC.
        after: `best` ignores records up to this step.
    """
    return history[-1] if choose == "last" else max((h for h in history if h["step"] > after), key=lambda h: h["dsc"])
