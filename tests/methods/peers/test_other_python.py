"""A script in another interpreter: arrays there and back, its errors, and what it does not inherit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from methods.peers.other_python import OtherPython, missing_in, versions_in

PYTHON = Path(sys.executable)
SCRIPT = """
import json, os, sys
from pathlib import Path
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

for line in sys.stdin:
    file = Path(line.strip())
    with safe_open(file, "numpy") as content:
        settings = json.loads(content.metadata()["settings"])
        arrays = {name: content.get_tensor(name) for name in content.keys()}
    if settings["do"] == "end":
        sys.exit(3)
    if settings["do"] == "fail":
        print(json.dumps({"error": "ValueError: no"}), flush=True)
        continue
    arrays["paths"] = np.array([ord(letter) for letter in os.pathsep.join(sys.path)])
    result = file.with_name("result.safetensors")
    save_file(arrays, result)
    print(json.dumps({"file": str(result)}), flush=True)
"""


@pytest.fixture
def other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OtherPython]:
    script = tmp_path / "echo.py"
    script.write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", "/of/this/one")
    process = OtherPython(PYTHON, script)
    yield process
    process.close()


def test_arrays_return_as_they_were_sent(other: OtherPython) -> None:
    array = np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1)
    for factor in (1, 2):
        answer = other.call({"image": factor * array}, {"do": "echo"})
        np.testing.assert_array_equal(answer["image"], factor * array)
    assert "/of/this/one" not in "".join(map(chr, answer["paths"])), "its modules must not come from this environment"


def test_an_error_of_the_script_is_raised_and_the_process_goes_on(other: OtherPython) -> None:
    with pytest.raises(RuntimeError, match="echo: ValueError: no"):
        other.call({}, {"do": "fail"})
    assert "paths" in other.call({}, {"do": "echo"})


def test_a_process_that_ended_is_reported(other: OtherPython) -> None:
    with pytest.raises(RuntimeError, match="echo: the process ended with exit status 3"):
        other.call({}, {"do": "end"})


def test_versions_are_those_of_the_other_environment() -> None:
    found = versions_in(PYTHON, ("numpy", "no-such-package"))
    assert found == {"numpy": np.__version__}
    assert missing_in(PYTHON, ("numpy", "no-such-package")) == f"no-such-package not installed for {PYTHON}"


def test_a_file_that_is_no_python_is_named(tmp_path: Path) -> None:
    absent = tmp_path / "python"
    expected = f"python: expected the Python of an environment, got {absent}: No such file or directory"
    assert missing_in(absent, ("numpy",)) == expected
