"""The training loop.

The seed and the number of a step determine its patient, crop and appearance. Therefore a training that was killed and
resumed equals an uninterrupted one, and a variant that branches off sees the same data as the baseline. This module
imports neither ITK, SimpleITK nor YAML.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import fsum, prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from methods.atomic import atomic_write
from methods.base import Case, Pair, Paused, Progress
from methods.voxelmorph import checkpoint
from methods.voxelmorph.ahead import Ahead, spare_core
from methods.voxelmorph.augmentation import augment
from methods.voxelmorph.checkpoint import State
from methods.voxelmorph.devices import DistributedContext, autocast, join_distributed, resolve_precision
from methods.voxelmorph.inference import for_inference
from methods.voxelmorph.known_motion import KnownItem, draw_item
from methods.voxelmorph.losses import Loss, training_loss
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.samples import Sample, Samples, samples_of
from methods.voxelmorph.settings import (
    Training,
    branch_step,
    learning_rate,
    patient_of,
    steps_per_epoch,
    total_steps,
)
from methods.voxelmorph.stages import stage_number
from methods.voxelmorph.supervision import supervised_loss
from methods.voxelmorph.validation import check_following, follows_shifts, kept_record, validate
from metrics.volume import voxel_counts

NETWORK = "network.safetensors"


def no_teacher(patient: int) -> Tensor:
    """Refuse to give the displacement of a patient."""
    raise ValueError(f"patient {patient}: expected a teacher for items `taught`, got none")


def train(
    train_pairs: Sequence[Pair],
    val_cases: Sequence[Case],
    workdir: Path,
    settings: Training,
    seed: int,
    progress: Progress,
    trunk: Path | None = None,
    until: int | None = None,
    taught: Callable[[int], Tensor] = no_teacher,
) -> State:
    """Train a network, or resume from the checkpoint in `workdir`.

    Writes checkpoint.safetensors, history.json (all validations) and network.safetensors (the weights that
    `settings.choose` keeps) into `workdir`.

    Args:
        train_pairs: training pairs.
        val_cases: validation cases with fixed labels.
        workdir: folder of this training.
        settings: of this training.
        seed: of every random number.
        progress: receives losses and validations; tells when to stop.
        trunk: folder of the training from which this one branches off if `workdir` has no checkpoint; None: no branch.
        until: last step; None: the whole schedule.
        taught: the teacher's displacement of a patient's number, for items `taught`.

    Returns:
        The state after the last step.

    Raises:
        FloatingPointError: the loss is not finite. The message names the patient, and the last checkpoint is kept.
        ValueError: the checkpoint was made with other settings, seed or patients; or the network follows shifts by less
            than `settings.least_following`. The state is saved then.
        Paused: `progress.out_of_time()` returned True. The state is saved.
    """
    distributed = join_distributed(settings.device)
    settings = replace(settings, precision=resolve_precision(settings.precision, settings.device))
    patients, last = len(train_pairs), total_steps(settings, len(train_pairs), distributed.size)
    epoch, end = steps_per_epoch(settings, patients, distributed.size), last if until is None else until
    branch = branch_step(settings, patients, distributed.size)
    facts = {"seed": seed, "patients": patients, "processes": distributed.size}
    workdir.mkdir(parents=True, exist_ok=True)
    state = checkpoint.initial_state(settings, seed)
    _restore(workdir, trunk, state, settings, facts, branch, end)
    if not state.history and distributed.first:
        state.history.append({"step": 0, **validate(None, val_cases, settings.shrink_factor)[0]})
        progress(f"{workdir.name}: validation DSC before training {state.history[0]['dsc']:.4f}")
    samples = samples_of(train_pairs, settings.shrink_factor, settings.device, settings.memory_gb)
    data = TrainingData(samples, taught, patients, distributed)

    def items_of(step: int) -> list[Sample | KnownItem]:
        own_seed = seed if settings.branch_seed is None or step < branch else settings.branch_seed
        return step_items(step, data, settings, own_seed)

    pausing, begun = False, time.monotonic() - state.seconds
    with Ahead(items_of, end, spare_core() if settings.background is None else settings.background) as items:
        while state.step < end and not pausing:
            number, _ = stage_number(state.step, settings.stages)
            if number != state.stage:
                state.enter(number, settings)
            state.optimiser.zero_grad()
            losses = list(step_losses(state, items[state.step], settings))
            bad = [(case, loss) for case, loss in losses if not torch.isfinite(loss.total)]
            diverged, pausing = distributed.any([bool(bad), progress.out_of_time()], settings.device)
            if diverged:
                raise FloatingPointError(_divergence(state.step, bad, workdir))
            for group in state.optimiser.param_groups:
                group["lr"] = learning_rate(state.step, settings, epoch)
            distributed.average_gradients(state.trained)
            if settings.clip is not None:
                torch.nn.utils.clip_grad_norm_(state.trained, settings.clip)
            state.optimiser.step()
            state.update_average(settings.ema)
            state.step += 1
            if distributed.first:
                terms = _mean_terms([loss for _, loss in losses])
                progress.step(workdir.name, state.step, last, terms)
                validated = state.step % settings.validate_every == 0 or state.step == last
                if validated:
                    _validate(workdir, state, val_cases, settings, terms, progress)
                if state.step % settings.checkpoint_every == 0 or state.step == end or pausing:
                    state.seconds = time.monotonic() - begun
                    checkpoint.save(workdir, state, settings, facts)
                if validated:
                    check_following(workdir, state.history[-1], settings)
    distributed.wait()
    if state.step < end:
        raise Paused(f"{workdir.name} has done {state.step} of {last} steps")
    return state


@dataclass(frozen=True)
class TrainingData:
    """The data of the steps of a training.

    Attributes:
        samples: the training patients.
        taught: the teacher's displacement of a patient's number, (1, 3, d, h, w), voxels of the half resolution.
        patients: their number.
        distributed: the processes that share the steps.
    """

    samples: Samples
    taught: Callable[[int], Tensor]
    patients: int
    distributed: DistributedContext


def step_items(step: int, data: TrainingData, settings: Training, seed: int) -> list[Sample | KnownItem]:
    """The items of a step: samples for the paper's loss, and items whose displacement is known.

    Args:
        step: of the training, from 0.
        data: the patients.
        settings: of the training.
        seed: of the step's random numbers.
    """
    number, position = stage_number(step, settings.stages)
    rank, size, patients = data.distributed.rank, data.distributed.size, data.patients
    items: list[Sample | KnownItem] = []
    if number == len(settings.stages):
        index = step * size + rank
        sample = data.samples[patient_of(index, patients, seed, settings.crops)]
        items.append(augment(sample, settings, seed, index))
        if not settings.supervision:
            return items
        stage, batch = settings.stages[-1], 1
    else:
        stage, batch = settings.stages[number], settings.stages[number].batch
    for i in range(batch):
        index = (position * size + rank) * batch + i
        items.append(draw_item(data.samples.__getitem__, data.taught, patients, stage, number, settings, seed, index))
    return items


def step_losses(state: State, items: Sequence[Sample | KnownItem], settings: Training) -> Iterator[tuple[str, Loss]]:
    """The losses of one step with the patients' names. The gradient of each loss is added before the next is made.

    Args:
        state: before the step.
        items: of this step, as `step_items` makes them.
        settings: of the training.
    """
    number, position = stage_number(state.step, settings.stages)
    batch, reading, displacement, head_only = 1, 0.0, settings.supervision, False
    if number < len(settings.stages):
        stage = settings.stages[number]
        batch, reading, displacement = stage.batch, stage.reading, stage.displacement_weight(position)
        head_only = position < stage.head_first
    for item in items:
        if isinstance(item, KnownItem):
            loss, case = supervised_loss(state.network, state.layer, item, reading, displacement, settings.device,
                                         settings.precision, head_only), item.sample.case  # fmt: skip
        else:
            loss, case = loss_of(state.network, item, settings), item.case
        if loss.total.requires_grad:
            (loss.total / batch).backward()
        yield case, loss


def _mean_terms(losses: Sequence[Loss]) -> dict[str, float]:
    """The mean of each term over the losses that have it."""
    names = dict.fromkeys(name for loss in losses for name in loss.terms)
    values = {name: [loss.terms[name] for loss in losses if name in loss.terms] for name in names}
    return {name: fsum(v) / len(v) for name, v in values.items()}


def _divergence(step: int, bad: Sequence[tuple[str, Loss]], workdir: Path) -> str:
    """The error message for losses that are not finite in any process; bad: those of this process."""
    value = f"{bad[0][1].total.item()} on {bad[0][0]}" if bad else "not finite in another process"
    return f"step {step}: the loss is {value}; the last checkpoint in {workdir} is from before this step"


def _restore(
    workdir: Path, trunk: Path | None, state: State, settings: Training, facts: dict[str, int], branch: int, end: int
) -> None:
    """Fill `state` from the checkpoint of `workdir`, else from the trunk's; without both, leave it as it is."""
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


def loss_of(network: VelocityUNet, sample: Sample, settings: Training) -> Loss:
    """The loss of a network on one sample, eq. 1 of the paper."""
    with autocast(settings.device, settings.precision):
        moving, fixed = sample.network_input or (sample.moving, sample.fixed)
        velocity = network(moving, fixed, sample.network_inside if sample.network_input else sample.fixed_inside)
    ids = _large(sample, settings.smallest_label_mm3)
    return training_loss(
        velocity, sample.moving, sample.fixed, sample.labels, ids, settings.smoothness, settings.penalties,
        sample.spacing_mm, settings.similarity, sample.moving_inside, sample.fixed_inside, settings.squares,
    )  # fmt: skip


def _large(sample: Sample, mm3: float) -> list[int]:
    """The vertebrae with at least this volume in the sample."""
    ids, voxel_mm3 = list(sample.centres), prod(sample.spacing_mm)
    counts: Tensor = voxel_counts(sample.labels, ids)
    return [v for v, count in zip(ids, counts.tolist(), strict=True) if count * voxel_mm3 >= mm3]


def _validate(
    workdir: Path, state: State, cases: Sequence[Case], settings: Training, terms: Mapping[str, float],
    progress: Progress,
) -> None:  # fmt: skip
    """Add a record to the history, write the network if it is the one to keep so far, and report."""
    network, weights = VelocityUNet(), state.weights()
    network.load_state_dict(weights)
    network = for_inference(network, settings.device)
    values, preview = validate(network, cases, settings.shrink_factor, settings.device, settings.precision)
    values |= follows_shifts(network, cases, settings.shrink_factor, settings.device, settings.precision)
    state.history.append({"step": state.step, **values, **terms})
    if kept_record(state.history, settings.choose, state.branched_at) is state.history[-1]:
        atomic_write(workdir / NETWORK, partial(save_file, weights))
    progress.validated(workdir.name, state.step, values, preview)
    text = " ".join(f"{k} {v:.4f}" for k, v in state.history[-1].items() if k != "step")
    progress(f"{workdir.name} step {state.step}: {text}")
