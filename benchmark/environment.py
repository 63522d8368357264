"""The environment of a run: processor, memory, GPU, and the versions of libraries and code."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmark.execution.resources import THREAD_VARIABLES, memory_gb, usable_cores

ROOT = Path(__file__).resolve().parents[1]  # the checkout, or the folder of installed packages
PACKAGES = ("rigidbench", "torch", "itk-elastix", "itk-core", "SimpleITK", "numpy", "scipy", "pandas", "matplotlib")
COMPUTING = ("torch", "itk-elastix", "itk-core", "SimpleITK", "numpy", "scipy")


def describe() -> dict[str, Any]:
    """Describe the environment.

    Returns:
        JSON values by name, None where the system does not report one. Among them: `memory_gb` and `gpu_memory_gb`,
        GiB; `load`, the load average of the last minute; `governor`, the policy of the processors' clock; `threads`,
        the user's environment variables with numbers of threads; `commit` and `modified`, the git commit and whether
        files differ from it.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": usable_cores(),
        "physical_cores": psutil.cpu_count(logical=False),
        "memory_gb": memory_gb(),
        **_gpu(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "governor": _governor(),
        "threads": {name: os.environ.get(name) for name in THREAD_VARIABLES},
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "commit": _git("rev-parse", "HEAD"),
        "modified": _modified(),
    }


def provenance() -> dict[str, Any]:
    """The git commit, whether tracked files differ from it, and the processor, for the cards of trained weights."""
    return {"commit": _git("rev-parse", "HEAD"), "modified": _modified(), "processor": _processor()}


def _gpu() -> dict[str, Any]:
    import torch

    properties = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    return {
        "gpu": properties.name if properties else None,
        "gpu_memory_gb": round(properties.total_memory / 2**30, 1) if properties else None,
        "gpu_driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"),
        "cuda": torch.version.cuda,
    }


def _governor() -> str | None:
    """The clock policy of the first processor; virtual machines mostly have none."""
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="ascii").strip()
    except OSError:
        return None


@lru_cache
def libraries() -> str:
    """The versions of the libraries that compute, as JSON. Another version may give other values."""
    return json.dumps({name: _version(name) for name in COMPUTING})


@lru_cache
def machine(device: str = "cpu") -> str:
    """The hardware on which a time is measured, in words. Times of different hardware are not averaged.

    Args:
        device: `cpu` or `cuda`.
    """
    if device == "cuda":
        import torch

        if torch.cuda.is_available():
            return str(torch.cuda.get_device_name())
    cores = usable_cores()
    return f"{_processor()}, {cores} core{'' if cores == 1 else 's'}"


@lru_cache
def arithmetic() -> str:
    """The libraries, processor and numbers of threads, as JSON: with the code, they determine the rounding of a sum."""
    packages = {name: _version(name) for name in ("numpy", "scipy", "torch")}
    threads = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    return json.dumps([packages, _processor(), usable_cores(), threads])


def _processor() -> str | None:
    """The model of the processor. psutil and platform do not have it on Linux."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or None
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _modified() -> bool | None:
    """Whether tracked files differ from the commit."""
    changed = _git("status", "--porcelain", "--untracked-files=no")
    return None if changed is None else bool(changed)


def _git(*arguments: str) -> str | None:
    """Output of git in the checkout; None where the code is installed, possibly inside another repository."""
    top = _output("git", "rev-parse", "--show-toplevel")
    return _output("git", *arguments) if top is not None and Path(top).resolve() == ROOT else None


def _output(*command: str) -> str | None:
    """Output of a program; None where it is missing or fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
