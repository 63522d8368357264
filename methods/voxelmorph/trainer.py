"""The training loop: settings first, one straight loop, everything decided by (seed, step).

A step draws its patient, its flip and its contrast from the seed and its own number alone, so that a run killed at any
step and resumed from its checkpoint goes on exactly as if it had not been. Nothing here imports ITK or SimpleITK.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from methods.base import Case, Pair, vertebra_ids
from methods.geometry import to_voxels
from methods.voxelmorph.losses import training_loss
from methods.voxelmorph.network import VoxelMorph, flow, pad_to_multiple
from metrics.fields import warp_labels
from metrics.overlap import dice


@dataclass(frozen=True)
class Training:
    """How one network is trained; the defaults are what two cores can do in an hour.

    coarsening: voxels of the input per voxel of the network, along each axis (2: a 1 mm pair is seen at 2 mm).
    patch: (z, y, x) voxels of the network, or None for whole volumes. smoothness: weight of the velocity's diffusion.
    lr_half_steps: the learning rate halves once in so many steps. smallest_label: vertebrae with fewer voxels are
    left out of the penalties (counted before coarsening). clip: largest gradient norm.
    """

    steps: int = 1500
    coarsening: int = 2
    patch: tuple[int, int, int] | None = (96, 48, 48)
    smoothness: float = 3.0
    penalties: Mapping[str, float] = field(default_factory=dict)
    lr: float = 5e-4
    lr_half_steps: int = 700
    clip: float = 1.0
    smallest_label: int = 500
    validate_every: int = 100
    checkpoint_every: int = 50


@dataclass(frozen=True)
class Item:
    """One patient as the network sees it: (1, 1, D, H, W) images, (D, H, W) moving labels."""

    moving: Tensor
    fixed: Tensor
    labels: Tensor


def coarsen(pair: Pair, factor: int) -> Item:
    """A pair as tensors, images averaged over `factor`^3 voxels, labels taken at each block's first inner voxel."""
    images = [torch.from_numpy(np.ascontiguousarray(s.image))[None, None] for s in (pair.moving, pair.fixed)]
    if pair.moving.labels is None:
        raise ValueError(f"pair {pair.case}: training needs the moving labels")
    labels = torch.from_numpy(pair.moving.labels.astype(np.int32))
    moving, fixed = (pad_to_multiple(image, 16 * factor) for image in images)
    labels = F.pad(labels, [n for size in reversed(labels.shape) for n in (0, -size % (16 * factor))])
    if factor > 1:
        moving, fixed = F.avg_pool3d(moving, factor), F.avg_pool3d(fixed, factor)
        labels = labels[factor // 2 :: factor, factor // 2 :: factor, factor // 2 :: factor].contiguous()
    return Item(moving, fixed, labels)


def learning_rate(step: int, settings: Training) -> float:
    """Linear warm-up over 50 steps, then exponential decay."""
    return settings.lr * min(1.0, (step + 1) / 50) * 0.5 ** (step / settings.lr_half_steps)


def patient_of(step: int, patients: int, seed: int) -> int:
    """Which patient step `step` sees: every patient once an epoch, in an order drawn from the seed."""
    epoch, position = divmod(step, patients)
    order = np.random.Generator(np.random.PCG64([seed, 0, epoch])).permutation(patients)
    return int(order[position])


def augment(item: Item, patch: tuple[int, int, int] | None, seed: int, step: int) -> Item:
    """A random left-right flip, MR contrast curve, noise and crop; the crop is centred on a vertebra."""
    rng = np.random.Generator(np.random.PCG64([seed, 1, step]))
    moving, fixed, labels = item.moving, item.fixed, item.labels
    if rng.random() < 0.5:
        moving, fixed, labels = moving.flip(-1), fixed.flip(-1), labels.flip(-1)
    fixed = fixed.clamp(0, 1) ** float(math.exp(rng.uniform(-0.5, 0.5)))
    noise = torch.from_numpy(rng.standard_normal(fixed.shape, dtype=np.float32))
    fixed = fixed + float(rng.uniform(0, 0.02)) * noise
    if patch is not None:
        moving, fixed, labels = _crop(moving, fixed, labels, patch, rng)
    return Item(moving, fixed, labels)


def _crop(
    moving: Tensor, fixed: Tensor, labels: Tensor, patch: tuple[int, int, int], rng: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    ids = list(vertebra_ids(labels.numpy()))
    where = (labels == ids[rng.integers(len(ids))]).nonzero().float().mean(0)
    window = []
    for centre, size, extent in zip(where.tolist(), patch, labels.shape, strict=True):
        length = min(size, extent)
        start = int(np.clip(round(centre) - length // 2, 0, extent - length))
        window.append(slice(start, start + length))
    z, y, x = window
    return moving[..., z, y, x], fixed[..., z, y, x], labels[z, y, x]


def predict(network: VoxelMorph, pair: Pair, coarsening: int, device: str = "cpu") -> Tensor:
    """The displacement (1, 3, D, H, W) in voxels of `pair`'s own grid."""
    item = coarsen(pair, coarsening)
    with torch.inference_mode():
        displacement = flow(network(item.moving.to(device), item.fixed.to(device)))
        if coarsening > 1:
            displacement = coarsening * F.interpolate(
                displacement, scale_factor=coarsening, mode="trilinear", align_corners=False
            )
    d, h, w = pair.grid.shape
    return displacement[..., :d, :h, :w]


def validation_dsc(network: VoxelMorph | None, cases: Sequence[Case], coarsening: int) -> float:
    """Mean DSC over all vertebrae of `cases`; without a network, of the pairs as they are."""
    values: list[float] = []
    for case in cases:
        moving, fixed = case.pair.moving.labels, case.pair.fixed.labels
        if moving is None or fixed is None:
            continue
        ids = sorted(set(vertebra_ids(moving)) & set(vertebra_ids(fixed)))
        displacement = to_voxels(np.zeros((*case.pair.grid.shape, 3), np.float32), case.pair.grid)
        if network is not None:
            displacement = predict(network, case.pair.blind("validation"), coarsening)
        warped = warp_labels(torch.from_numpy(moving.astype(np.int32)), displacement, ids)
        values += dice(warped, torch.from_numpy(fixed.astype(np.int32)), ids).tolist()
    return float(np.nanmean(values))


def train(
    train_pairs: Sequence[Pair],
    val_cases: Sequence[Case],
    workdir: Path,
    settings: Training,
    seed: int,
    progress: Callable[[str], None],
    start: Path | None = None,
) -> Path:
    """Train, resume where a checkpoint stands in `workdir`, and return the best network's safetensors file.

    Best is the highest validation DSC. `workdir` ends with best.safetensors, and history.json with every validation.
    start: weights to begin from. Raises FloatingPointError, naming the patient, where the loss is not finite, and
    ValueError where the checkpoint was made with other settings.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    network = VoxelMorph()
    if start is not None:
        network.load_state_dict(load_file(start))
    optimiser = torch.optim.Adam(network.parameters(), lr=settings.lr)
    history: list[dict[str, float]] = []
    first = _resume(workdir, network, optimiser, history, settings)
    if first == 0:
        progress(f"validation DSC before training {validation_dsc(None, val_cases, settings.coarsening):.4f}")
    items: dict[int, Item] = {}
    began = time.perf_counter()
    for step in range(first, settings.steps):
        index = patient_of(step, len(train_pairs), seed)
        if index not in items:
            items[index] = coarsen(train_pairs[index], settings.coarsening)
        item = augment(items[index], settings.patch, seed, step)
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        ids = _large(item.labels, settings.smallest_label / settings.coarsening**3)
        loss = training_loss(
            network(item.moving, item.fixed), item.moving, item.fixed, item.labels, ids,
            settings.smoothness, settings.penalties,
        )  # fmt: skip
        if not torch.isfinite(loss.total):
            raise FloatingPointError(f"step {step}: the loss is {loss.total.item()} on {train_pairs[index].case}")
        optimiser.zero_grad()
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip)
        optimiser.step()
        if (step + 1) % settings.validate_every == 0 or step + 1 == settings.steps:
            score = validation_dsc(network, val_cases, settings.coarsening)
            if score > max((h["dsc"] for h in history), default=0.0):
                save_file(network.state_dict(), workdir / "best.safetensors")
            history.append({"step": step + 1, "dsc": score, **loss.terms})
            pace = (time.perf_counter() - began) / (step + 1 - first)
            terms = " ".join(f"{k} {v:.4f}" for k, v in loss.terms.items())
            progress(f"step {step + 1}/{settings.steps}: validation DSC {score:.4f}, {terms}, {pace:.2f} s a step")
        if (step + 1) % settings.checkpoint_every == 0 or step + 1 == settings.steps:
            _save(workdir, network, optimiser, step + 1, history, settings)
    return workdir / "best.safetensors"


def _large(labels: Tensor, voxels: float) -> list[int]:
    """The vertebrae of at least so many voxels."""
    ids, counts = labels[labels > 0].unique(return_counts=True)
    return ids[counts >= voxels].tolist()


def _save(
    workdir: Path,
    network: VoxelMorph,
    optimiser: torch.optim.Adam,
    step: int,
    history: Sequence[Mapping[str, float]],
    settings: Training,
) -> None:
    """Write the checkpoint whole or not at all: tensors and the record of the run in one safetensors file."""
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": v for k, v in state.items()}
    metadata = {"step": str(step), "history": json.dumps(list(history)), "settings": json.dumps(asdict(settings))}
    temporary = workdir / "checkpoint.tmp"
    save_file(tensors, temporary, metadata)
    temporary.replace(workdir / "checkpoint.safetensors")
    (workdir / "history.json").write_text(json.dumps(list(history), indent=1), encoding="utf-8")


def _resume(
    workdir: Path,
    network: VoxelMorph,
    optimiser: torch.optim.Adam,
    history: list[dict[str, float]],
    settings: Training,
) -> int:
    """Load the checkpoint in `workdir`, if any; the step to go on with.

    Raises ValueError where it was made with other settings than these, the number of steps aside.
    """
    from safetensors import safe_open

    file = workdir / "checkpoint.safetensors"
    if not file.is_file():
        return 0
    tensors = load_file(file)
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    asked = json.loads(json.dumps(asdict(settings)))
    changed = [k for k, v in json.loads(metadata["settings"]).items() if k != "steps" and asked.get(k) != v]
    if changed:
        raise ValueError(f"{workdir}: its checkpoint has other {', '.join(changed)}; choose another folder to train in")
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("adam."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    history += json.loads(metadata["history"])
    return int(metadata["step"])
