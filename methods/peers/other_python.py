"""Run a script in another Python environment, for a library whose pins do not fit this one.

The script is a file of this project that imports nothing of it. It gets arrays as a safetensors file in a temporary
folder and answers with such a file. The other interpreter runs isolated: PYTHONPATH and the user's site packages have
no effect there.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

_VERSIONS = """
import sys
from importlib.metadata import PackageNotFoundError, version
for name in sys.argv[1:]:
    try:
        print(name, version(name))
    except PackageNotFoundError:
        pass
"""


def versions_in(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """The versions of packages in an environment, without importing them; absent ones are left out.

    Args:
        python: its interpreter.
        packages: names in the package index.

    Raises:
        ValueError: the file cannot be run as a Python interpreter.
    """
    return dict(_versions_in(python, tuple(packages)))


@lru_cache
def _versions_in(python: Path, packages: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    command = [str(python), "-I", "-c", _VERSIONS, *packages]
    try:
        output = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError) as error:
        cause = getattr(error, "strerror", None) or type(error).__name__
        raise ValueError(f"python: expected the Python of an environment, got {python}: {cause}") from error
    return tuple((name, version) for name, version in (line.split() for line in output.splitlines()))


def missing_in(python: Path, packages: Sequence[str]) -> str | None:
    """The reason why a row cannot run in an environment, in one line; None if it has all packages."""
    try:
        found = versions_in(python, packages)
    except ValueError as error:
        return str(error)
    absent = [name for name in packages if name not in found]
    return f"{' and '.join(absent)} not installed for {python}" if absent else None


class OtherPython:
    """A process of another interpreter that answers requests.

    Args:
        python: the interpreter.
        script: the file that it runs.
    """

    def __init__(self, python: Path, script: Path) -> None:
        self._name = script.stem
        self._process = subprocess.Popen(
            [str(python), "-I", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def call(self, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Send one request.

        Args:
            arrays: by name.
            settings: what JSON can hold.

        Returns:
            The arrays of the answer, by name.

        Raises:
            RuntimeError: the script failed, or the process ended.
        """
        from safetensors.numpy import load_file, save_file

        assert self._process.stdin is not None and self._process.stdout is not None
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            file = Path(folder) / "request.safetensors"
            save_file({n: np.ascontiguousarray(a) for n, a in arrays.items()}, file, {"settings": json.dumps(settings)})
            try:
                print(file, file=self._process.stdin, flush=True)
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = ""
            if not line:
                raise RuntimeError(f"{self._name}: the process ended with exit status {self._process.wait()}")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{self._name}: {answer['error']}")
            return load_file(answer["file"])

    def close(self) -> None:
        """End the process."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process.wait()
