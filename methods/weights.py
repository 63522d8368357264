"""Files of weights that a user brings: whether they are there, where they come from, their checksum, their tensors.

Nothing is downloaded here. A row whose file is missing is unavailable and names the project and the file to download.
A file is safetensors, or torch's format, of which only tensors are read: code in it is refused, not run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

_COMPILED = "_orig_mod."  # what torch.compile puts before the name of each tensor


@dataclass(frozen=True)
class Published:
    """Weights that their authors publish.

    Attributes:
        project: owner and name of the project, as in its address.
        file: name of the file.
        place: where in the project the file is.
    """

    project: str
    file: str
    place: str


def missing_weights(file: Path | None, published: Published) -> str | None:
    """The reason why a row without its weights is unavailable, in one line; None if the file is there."""
    if file is not None and file.is_file():
        return None
    got = "none" if file is None else f"nothing at {file}"
    return f"weights: expected a file, got {got}; download {published.file} ({published.project}, {published.place})"


def checksum(*files: Path) -> str:
    """The SHA-256 of the content of files, in this order, for a row's fingerprint. An absent file counts as `none`."""
    if len(files) == 1 and files[0].is_file():
        stat = files[0].stat()
        return _checksum_of_one(files[0], stat.st_size, stat.st_mtime_ns)
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes() if file.is_file() else b"none")
    return digest.hexdigest()


@lru_cache
def _checksum_of_one(file: Path, size: int, time_ns: int) -> str:
    """The SHA-256 of a file of possibly some GB, read again only where its size or time has changed."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def load_tensors(file: Path) -> dict[str, Tensor]:
    """Read the tensors in a file, onto the CPU, by name.

    Args:
        file: safetensors by its suffix `.safetensors`, else torch's format.

    Raises:
        ValueError: the file holds something else than tensors by name.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if file.suffix == ".safetensors":
            content: Any = load_file(file)
        else:
            content = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError, KeyError) as error:
        cause = str(error).strip().partition("\n")[0]
        raise ValueError(f"weights: expected tensors in {file}, found {cause}; download it again") from error
    if not isinstance(content, Mapping) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise ValueError(f"weights: expected tensors by name in {file}, got {type(content).__name__} of something else")
    return {str(name).removeprefix(_COMPILED): tensor for name, tensor in content.items()}


def load_into(network: nn.Module, file: Path, published: Published) -> None:
    """Load the tensors in a file into a network.

    Raises:
        ValueError: the file holds other tensors than the network has, or what `load_tensors` refuses.
    """
    tensors, expected = load_tensors(file), network.state_dict()
    other = sorted(tensors.keys() ^ expected.keys())
    other += sorted(n for n in tensors.keys() & expected.keys() if tensors[n].shape != expected[n].shape)
    if other:
        raise ValueError(
            f"weights: expected the tensors of {published.file} ({published.project}), got others in {file}: "
            f"{other[0]} differs{f', and {len(other) - 1} more' if len(other) > 1 else ''}"
        )
    network.load_state_dict(tensors)
