"""Write the final weights of a training, and the card that describes how they were trained."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from methods.atomic import atomic_write
from methods.base import Case, Progress
from methods.voxelmorph.checkpoint import NAME as CHECKPOINT
from methods.voxelmorph.checkpoint import State
from methods.voxelmorph.devices import resolve_precision
from methods.voxelmorph.inference import for_inference
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training, deviations, start_file, total_steps
from methods.voxelmorph.trainer import NETWORK
from methods.voxelmorph.validation import kept_record, validate

MOST_DSC_LOST = 0.001  # float16 is used if it changes the validation DSC by less


def write_weights(
    folder: Path, name: str, profile: str, settings: Training, state: State, patients: int, cases: Sequence[Case],
    seed: int, progress: Progress,
) -> Path:  # fmt: skip
    """Write `folder`/`name`.safetensors and its card `folder`/`name`.json.

    The weights have half precision if this changes the validation DSC by less than 0.001, else float32.

    Args:
        folder: folder of the training, with the network to keep.
        name: the row.
        profile: the profile of the settings.
        settings: of the training.
        state: at the end of the training.
        patients: number of training patients.
        cases: validation cases.
        seed: of the training.
        progress: receives one line.

    Returns:
        The path of the weights.
    """
    weights = load_file(folder / NETWORK)
    half = {k: v.half() for k, v in weights.items()}
    full_dsc, half_dsc = (_dsc(w, cases, settings) for w in (weights, half))
    use_half = abs(half_dsc - full_dsc) < MOST_DSC_LOST
    dtype = "float16" if use_half else "float32"
    card = {
        "method": name,
        "profile": profile,
        "training": {**asdict(settings), "start": _start(settings)},
        "steps": {"all": total_steps(settings, patients, _processes()), "with_penalties_from": state.branched_at},
        "data": _data(folder.parent, patients, len(cases)),
        "seed": seed,
        **_provenance(folder.parent),
        "hours": round(state.seconds / 3600, 2),
        "device": _device(settings),
        "precision": resolve_precision(settings.precision, settings.device),
        "date": datetime.now(UTC).date().isoformat(),
        "version": _version(),
        "torch": torch.__version__,
        "deviations_from_the_paper": deviations(settings),
        "weights": {"dtype": dtype, "dsc_float32": full_dsc, "dsc_float16": half_dsc},
        "chosen": kept_record(state.history, settings.choose, state.branched_at),
        "validation": state.history,
    }
    file = folder / f"{name}.safetensors"
    atomic_write(file, partial(save_file, half if use_half else weights))
    text = json.dumps(card, indent=1) + "\n"
    atomic_write(file.with_suffix(".json"), lambda temporary: temporary.write_text(text, encoding="utf-8"))
    progress(f"wrote {file} ({dtype}) and its card: validation DSC {full_dsc:.4f}")
    return file


def _dsc(weights: Mapping[str, Tensor], cases: Sequence[Case], settings: Training) -> float:
    """The validation DSC of a network with these weights."""
    network = VelocityUNet()
    network.load_state_dict({k: v.float() for k, v in weights.items()})
    network = for_inference(network, settings.device)
    return validate(network, cases, settings.shrink_factor, settings.device, settings.precision)[0]["dsc"]


def _data(workdir: Path, patients: int, cases: int) -> dict[str, Any]:
    """The description of the data in the command's folder, and the numbers of patients."""
    file = workdir / "data.json"
    description = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {**description, "train": patients, "val": cases, "fixed_labels": "never in training, only in validation"}


def _provenance(workdir: Path) -> dict[str, Any]:
    """Commit and processor as the command wrote them into its folder; null where it wrote none."""
    file = workdir / "provenance.json"
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {name: known.get(name) for name in ("commit", "modified", "processor")}


def export_trunk(folder: Path, out: Path) -> Path:
    """Write the weights at the end of a trunk, from which the rows of its training branch off, and their card.

    Args:
        folder: the trunk's folder, with its checkpoint.
        out: the file to write, NAME.safetensors; the card is beside it. Float32, so that no bit is lost.

    Returns:
        `out`.
    """
    checkpoint = folder / CHECKPOINT
    with safe_open(checkpoint, "pt") as opened:
        record = {k: json.loads(v) for k, v in (opened.metadata() or {}).items()}
    tensors = load_file(checkpoint)
    part = "average." if any(name.startswith("average.") for name in tensors) else "network."
    weights = {name.removeprefix(part): value for name, value in tensors.items() if name.startswith(part)}
    patients = record["facts"]["patients"]
    card = {
        "method": out.stem,
        "training": record["settings"],
        "steps": record["step"],
        "data": _data(folder.parent, patients, 0),
        "seed": record["facts"]["seed"],
        **_provenance(folder.parent),
        "hours": round(record.get("seconds", 0.0) / 3600, 2),
        "torch": torch.__version__,
        "validation": record["history"],
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, partial(save_file, weights))
    text = json.dumps(card, indent=1) + "\n"
    atomic_write(out.with_suffix(".json"), lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return out


def _start(settings: Training) -> dict[str, Any] | None:
    """Hash and card of the initial weights, without the card's validations; None for random weights."""
    if settings.start is None:
        return None
    file = start_file(settings.start)
    card = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    card.pop("validation", None)
    return {"sha256": hashlib.sha256(file.read_bytes()).hexdigest(), "card": card}


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def _device(settings: Training) -> str:
    if settings.device == "cuda":
        return f"{torch.cuda.get_device_name()}, {_processes()} processes"
    return f"cpu, {torch.get_num_threads()} threads, {_processes()} processes"


def _version() -> str | None:
    try:
        return version("rigidbench")
    except PackageNotFoundError:
        return None
