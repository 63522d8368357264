"""The training loop: settings first, one straight loop, everything decided by (seed, step).

A step draws its patient, its crop and its appearance from the seed and its own number alone, so that a run killed at
any step and resumed from its checkpoint goes on exactly as if it had not been, and so that a variant which branches off
sees what the baseline sees. Nothing here imports ITK, SimpleITK or YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from methods.atomic import atomic_write
from methods.base import Case, Pair, Paused, Progress
from methods.voxelmorph import checkpoint
from methods.voxelmorph.augmentation import augment
from methods.voxelmorph.checkpoint import State
from methods.voxelmorph.devices import autocast, join_distributed, resolve_precision
from methods.voxelmorph.inference import for_inference
from methods.voxelmorph.items import Sample, items_of
from methods.voxelmorph.losses import Loss, training_loss
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import (
    Training,
    branch_step,
    learning_rate,
    patient_of,
    steps_per_epoch,
    total_steps,
)
from methods.voxelmorph.validation import chosen, validate
from metrics.volume import voxel_counts

NETWORK = "network.safetensors"


def train(
    train_pairs: Sequence[Pair],
    val_cases: Sequence[Case],
    workdir: Path,
    settings: Training,
    seed: int,
    progress: Progress,
    trunk: Path | None = None,
    until: int | None = None,
) -> State:
    """Train up to step `until` (None: all of the schedule), resuming where a checkpoint stands in `workdir`.

    trunk: the folder of a training whose checkpoint this one branches off from, if it has none of its own.
    `workdir` ends with checkpoint.safetensors, history.json (every validation) and, of a whole schedule,
    network.safetensors: the weights that `settings.choose` keeps. The checkpoint's state is returned.
    Raises FloatingPointError, naming the patient, where the loss is not finite (the last checkpoint stays); ValueError
    where the checkpoint was made with other settings, seed or patients; Paused where time is up.
    """
    team = join_distributed(settings.device)
    settings = replace(settings, precision=resolve_precision(settings.precision, settings.device))
    patients, last = len(train_pairs), total_steps(settings, len(train_pairs), team.size)
    epoch, end = steps_per_epoch(settings, patients, team.size), last if until is None else until
    branch = branch_step(settings, patients, team.size)
    facts = {"seed": seed, "patients": patients, "processes": team.size}
    workdir.mkdir(parents=True, exist_ok=True)
    state = checkpoint.begin(settings, seed)
    _restore(workdir, trunk, state, settings, facts, branch, end)
    if not state.history and team.first:
        state.history.append({"step": 0, **validate(None, val_cases, settings.coarsening)[0]})
        progress(f"{workdir.name}: validation DSC before training {state.history[0]['dsc']:.4f}")
    items, pausing = items_of(train_pairs, settings), False
    while state.step < end and not pausing:
        sample = state.step * team.size + team.rank
        drawn_from = seed if settings.branch_seed is None or state.step < branch else settings.branch_seed
        item = items[patient_of(sample, patients, drawn_from, settings.crops)]
        loss = loss_of(state.network, augment(item, settings, drawn_from, sample), settings)
        broken, pausing = team.any([not torch.isfinite(loss.total), progress.out_of_time()], settings.device)
        if broken:
            raise FloatingPointError(_fault(state.step, loss, item, workdir))
        for group in state.optimiser.param_groups:
            group["lr"] = learning_rate(state.step, settings, epoch)
        state.optimiser.zero_grad()
        loss.total.backward()
        team.average_gradients(state.network.parameters())
        if settings.clip is not None:
            torch.nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
        state.optimiser.step()
        state.update_average(settings.ema)
        state.step += 1
        if team.first:
            progress.step(workdir.name, state.step, last, loss.terms)
            if state.step % settings.validate_every == 0 or state.step == last:
                _validate(workdir, state, val_cases, settings, loss, progress)
            if state.step % settings.checkpoint_every == 0 or state.step == end or pausing:
                checkpoint.save(workdir, state, settings, facts)
    team.wait()
    if state.step < end:
        raise Paused(f"{workdir.name} has done {state.step} of {last} steps")
    return state


def _fault(step: int, loss: Loss, item: Sample, workdir: Path) -> str:
    own = not torch.isfinite(loss.total)
    what = f"{loss.total.item()} on {item.case}" if own else "not finite in another process"
    return f"step {step}: the loss is {what}; the last checkpoint in {workdir} is from before"


def _restore(
    workdir: Path, trunk: Path | None, state: State, settings: Training, facts: dict[str, int], branch: int, end: int
) -> None:
    """Fill `state` from the checkpoint of `workdir`, or else from the trunk's; neither: as it is.

    Raises ValueError where either has gone further than it may, or began from another step of the trunk.
    """
    own = workdir / checkpoint.NAME
    if own.is_file():
        checkpoint.load(own, state, settings, facts)
        if trunk is not None and state.branched_at != branch:
            raise ValueError(f"{workdir}: expected a training that branched off at step {branch}, got one from step "
                             f"{state.branched_at}; choose another folder to train in")  # fmt: skip
    elif trunk is not None:
        checkpoint.load(trunk / checkpoint.NAME, state, settings, facts, branching=True)
        if state.step != branch:
            raise ValueError(f"{trunk}: expected a checkpoint of step {branch} to branch off from, got {state.step}; "
                             "choose another folder to train in")  # fmt: skip
    if state.step > end:
        raise ValueError(f"{workdir}: expected a checkpoint of at most {end} steps, got {state.step}; choose another "
                         "folder to train in")  # fmt: skip


def loss_of(network: VelocityUNet, item: Sample, settings: Training) -> Loss:
    """Eq. 1 on one crop."""
    with autocast(settings.device, settings.precision):
        moving, fixed = item.shown or (item.moving, item.fixed)
        velocity = network(moving, fixed, item.shown_inside if item.shown else item.fixed_inside)
    ids = _large(item, settings.smallest_label_mm3)
    return training_loss(
        velocity, item.moving, item.fixed, item.labels, ids, settings.smoothness, settings.penalties,
        item.spacing_mm, settings.similarity, item.moving_inside, item.fixed_inside,
    )  # fmt: skip


def _large(item: Sample, mm3: float) -> list[int]:
    """The vertebrae of which the crop shows at least so much."""
    ids, voxel_mm3 = list(item.centres), prod(item.spacing_mm)
    counts: Tensor = voxel_counts(item.labels, ids)
    return [v for v, count in zip(ids, counts.tolist(), strict=True) if count * voxel_mm3 >= mm3]


def _validate(
    workdir: Path, state: State, cases: Sequence[Case], settings: Training, loss: Loss, progress: Progress
) -> None:
    """Add a record to the history; keep the network if it is the one to keep so far."""
    network, weights = VelocityUNet(), state.weights()
    network.load_state_dict(weights)
    network = for_inference(network, settings.device)
    figures, preview = validate(network, cases, settings.coarsening, settings.device, settings.precision)
    state.history.append({"step": state.step, **figures, **loss.terms})
    if chosen(state.history, settings.choose, state.branched_at) is state.history[-1]:
        atomic_write(workdir / NETWORK, partial(save_file, weights))
    progress.validated(workdir.name, state.step, figures, preview)
    shown = " ".join(f"{k} {v:.4f}" for k, v in state.history[-1].items() if k != "step")
    progress(f"{workdir.name} step {state.step}: {shown}")
