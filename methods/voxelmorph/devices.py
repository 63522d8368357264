"""The device of a training, its precision, and the processes that train one network together.

torchrun starts several processes, which average their gradients after each backward pass. A network of a million
weights needs no overlap and no sharding, so one call of `torch.distributed` does this. The network is not wrapped, and
its checkpoints do not depend on the number of processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor


def resolve_precision(precision: str, device: str) -> str:
    """Replace `auto` by the precision of the device.

    Args:
        precision: auto, fp32 or bf16.
        device: cpu or cuda.

    Returns:
        bf16 or fp32; for `auto` bf16 if the device computes in it.

    Raises:
        ValueError: bf16 on a GPU that does not compute in it.
    """
    if device == "cuda":
        has_bf16 = torch.cuda.is_bf16_supported()
    else:
        # torch before 2.9 does not report it; there, a user selects bf16 by name.
        features: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        has_bf16 = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    if precision == "bf16" and device == "cuda" and not has_bf16:
        raise ValueError(
            "training.precision: expected fp32 or auto, got bf16, which this GPU does not compute in; use auto"
        )
    return ("bf16" if has_bf16 else "fp32") if precision == "auto" else precision


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """A context in which convolutions run in `precision`; weights, flow and losses stay float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one network together.

    Attributes:
        rank: number of this process, from 0.
        size: number of processes, at least 1.
    """

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files, validates and reports."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Replace the gradients in every process by their mean over the processes."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flags: Sequence[bool], device: str) -> list[bool]:
        """For each flag whether it is true in any process."""
        if self.size == 1:
            return list(flags)
        shared = torch.tensor(flags, dtype=torch.int32, device=device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return [bool(f) for f in shared.tolist()]

    def wait(self) -> None:
        """Wait until every process has reached this call."""
        if self.size > 1:
            dist.barrier()


def join_distributed(device: str) -> DistributedContext:
    """Join the processes that torchrun started; without torchrun, train in this process alone.

    Raises:
        ValueError: the device is cuda and torch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device: expected cpu, got cuda, but torch finds no CUDA device; use cpu")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return DistributedContext()
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # The others wait while the first process validates.
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(hours=2))
    return DistributedContext(dist.get_rank(), size)
