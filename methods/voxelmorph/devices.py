"""Where a network is trained: the device, its precision, and the processes that train it together.

Several processes are started by torchrun and average their gradients after each backward pass. With one network of a
million weights there is nothing to overlap or to shard, so that plain `torch.distributed` does it in one call; the
network stays unwrapped, and its checkpoints are the same however many processes wrote them.
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


def resolve_precision(asked: str, device: str) -> str:
    """`auto` as bf16 where the processor computes in it, else fp32. Raises ValueError for bf16 where a GPU lacks it."""
    if device == "cuda":
        able = torch.cuda.is_bf16_supported()
    else:
        # torch before 2.9 does not say; bf16 can be asked for by name there.
        features: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
        able = bool(features.get("avx512_bf16") or features.get("amx_bf16"))
    if asked == "bf16" and device == "cuda" and not able:
        raise ValueError("training.precision: expected fp32 or auto, got bf16, which this GPU does not compute in")
    return ("bf16" if able else "fp32") if asked == "auto" else asked


def autocast(device: str, precision: str) -> AbstractContextManager[None]:
    """The convolutions in `precision`; weights, flow and losses stay float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16")


@dataclass(frozen=True)
class DistributedContext:
    """The processes that train one network: this one's number, and how many they are."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes, validates and speaks for all."""
        return self.rank == 0

    def average_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Every process's gradients become their mean."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        dist.all_reduce(flat)
        parts = (flat / self.size).split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flags: Sequence[bool], device: str) -> list[bool]:
        """For each flag, whether it is raised in any process."""
        if self.size == 1:
            return list(flags)
        raised = torch.tensor(flags, dtype=torch.int32, device=device)
        dist.all_reduce(raised, op=dist.ReduceOp.MAX)
        return [bool(f) for f in raised.tolist()]

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()


def join_distributed(device: str) -> DistributedContext:
    """The team that torchrun's variables describe, or this process alone.

    Raises ValueError where `device` is cuda and torch sees none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ValueError("training.device: expected cpu, got cuda, of which torch sees no device")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return DistributedContext()
    if not dist.is_initialized():
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        # The others wait while the first one validates.
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=timedelta(hours=2))
    return DistributedContext(dist.get_rank(), size)
