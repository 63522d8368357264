"""Every built-in method fulfils the contract of methods/base.py, checked on a small pair."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Grid, Method, Pair, Scan
from methods.deformable.settings import LEVELS
from methods.deformable.variants import ROWS
from methods.registry import METHODS, create_method
from methods.voxelmorph.variants import VARIANTS

SMALL = Grid((32, 48, 32), (1.0, 1.5, 1.25), (5.0, -3.0, 40.0))
FIELDS = Path(tempfile.mkdtemp(prefix="rigidbench-fields-"))
atexit.register(shutil.rmtree, FIELDS, ignore_errors=True)
# Settings that make a slow method fast enough to test, and settings that a method cannot run without.
ELASTIX = ("staring-tuned", "staring-fast", "bspline")
SETTINGS: dict[str, dict] = {
    **{name: {"changes": {"MaximumNumberOfIterations": 10}} for name in ELASTIX},
    "precomputed": {"dir": str(FIELDS)},
    **{name: {"levels": [{**LEVELS[-1].model_dump(), "iterations": 5}]} for name in ROWS},
}


def small_pair(with_fixed_labels: bool = False) -> Pair:
    """A block vertebra in texture on an anisotropic grid, shifted by 1 voxel."""
    rng = np.random.default_rng(0)
    texture = rng.random(SMALL.shape, np.float32) * 0.1
    moving, fixed = (np.zeros(SMALL.shape, np.uint16) for _ in range(2))
    moving[10:22, 14:34, 9:23] = 20
    fixed[10:22, 14:34, 8:22] = 20
    ct = (0.1 + 0.5 * (moving > 0) + texture).astype(np.float32)
    mr = (0.6 - 0.3 * (fixed > 0) + texture).astype(np.float32)
    return Pair("token", Scan(mr, fixed if with_fixed_labels else None, SMALL), Scan(ct, moving, SMALL))


@pytest.fixture(autouse=True, scope="module")
def fields() -> None:
    """Write a zero displacement of the pair, in Learn2Reg's format, for `precomputed`."""
    np.savez_compressed(FIELDS / "token.npz", np.zeros((3, 16, 24, 16), np.float16))


NAMES = [entry.name for entry in METHODS if entry.origin == "built in"]
READY = [name for name in NAMES if create_method(name, SETTINGS.get(name)).unavailable("cpu") is None]
# Rows that need an optional package, weights or a Python environment, and what their reason names.
OPTIONAL = {
    **dict.fromkeys(("ants-syn", "greedy", "convexadam"), "pip install 'rigidbench[peers]'"),
    **dict.fromkeys(("unigradicon", "multigradicon"), "download Step_2_final.trch (uncbiag/uniGradICON, "),
    "anatomix-convexadam": "download anatomix.pth (neel-dey/anatomix, ",
    "fireants": "pip install fireants safetensors",
}
# A row of elastix takes 15 s, most of it to load elastix. These differ from staring-tuned by their parameters.
FAST = [name for name in READY if name not in ("staring", "staring-oc", "staring-pc")]


@pytest.mark.parametrize("name", NAMES)
def test_a_method_declares_the_attributes_that_the_runner_reads(name: str) -> None:
    method = create_method(name, SETTINGS.get(name))
    assert isinstance(method, Method)
    assert method.name == name
    assert set(method.devices) <= {"cpu", "cuda"} and "cpu" in method.devices
    assert isinstance(method.fingerprint(), str)
    reason = method.unavailable("cpu")
    if name in OPTIONAL:
        assert reason is None or (OPTIONAL[name] in reason and "\n" not in reason)
    else:  # Only a network may be unavailable, because a training makes its weights.
        assert (reason or "no weights at").startswith("no weights at")
    assert METHODS[name].summary
    with pytest.raises(ValueError, match="no_such_setting"):
        create_method(name, {"no_such_setting": 1})


@pytest.mark.parametrize("name", FAST)
def test_register_returns_a_valid_displacement_and_does_not_change_the_pair(name: str) -> None:
    pair = small_pair(METHODS[name].oracle)
    before = [pair.fixed.image.copy(), pair.moving.image.copy(), pair.moving.labels.copy()]
    worker = Worker(WorkerSpec(name, SETTINGS.get(name, {}), "cpu", 1, 0, 1), 200)
    try:
        registration, timing = worker.register(pair)
    finally:
        worker.close()
    registration.check(pair.grid)
    assert np.abs(registration.displacement_mm).max() < 50, "the displacement is in millimetres"
    assert timing.seconds > 0
    for array, copy in zip((pair.fixed.image, pair.moving.image, pair.moving.labels), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_only_untrained_networks_and_optional_rows_are_unavailable() -> None:
    assert {"initial", "staring", "staring-fast", "voxelmorph"} <= set(READY)
    assert set(NAMES) - set(READY) <= {*VARIANTS, *OPTIONAL}


@pytest.mark.parametrize("name", FAST)
def test_an_unsupported_device_is_unavailable(name: str) -> None:
    with pytest.raises(CellError) as caught:
        Worker(WorkerSpec(name, {}, "abacus", 1, 0, 1), 60)
    assert caught.value.status == "unavailable"
