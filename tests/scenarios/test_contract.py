"""One contract over every registered method: the specification of methods/base.py, checked on a small pair."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest

from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Grid, Method, Pair, Scan
from methods.registry import METHODS, create_method
from methods.voxelmorph.variants import VARIANTS

SMALL = Grid((32, 48, 32), (1.0, 1.5, 1.25), (5.0, -3.0, 40.0))
FIELDS = Path(tempfile.mkdtemp(prefix="rigidbench-fields-"))
atexit.register(shutil.rmtree, FIELDS, ignore_errors=True)
# Settings under which a slow method stays a test, and those without which a method is not one.
SETTINGS: dict[str, dict] = {
    "bspline": {"parameters": "fast"},
    "precomputed": {"dir": str(FIELDS)},
}


def small_pair() -> Pair:
    """A block vertebra in texture, 1 voxel apart, on an anisotropic grid."""
    rng = np.random.default_rng(0)
    texture = rng.random(SMALL.shape, np.float32) * 0.1
    moving, fixed = (np.zeros(SMALL.shape, np.uint16) for _ in range(2))
    moving[10:22, 14:34, 9:23] = 20
    fixed[10:22, 14:34, 8:22] = 20
    ct = (0.1 + 0.5 * (moving > 0) + texture).astype(np.float32)
    mr = (0.6 - 0.3 * (fixed > 0) + texture).astype(np.float32)
    return Pair("token", Scan(mr, None, SMALL), Scan(ct, moving, SMALL))


@pytest.fixture(autouse=True, scope="module")
def fields() -> None:
    """A field of zeros for the pair, in Learn2Reg's format."""
    np.savez_compressed(FIELDS / "token.npz", np.zeros((3, 16, 24, 16), np.float16))


NAMES = [entry.name for entry in METHODS if entry.origin == "built in"]
READY = [name for name in NAMES if create_method(name, SETTINGS.get(name)).unavailable("cpu") is None]
# What an extra brings.
PEERS = ("ants-syn", "greedy", "convexadam")
# The authors' file takes minutes whatever the volume; staring-oc and staring-pc are staring-fast by weights alone.
FAST = [name for name in READY if name not in ("staring", "staring-oc", "staring-pc")]


@pytest.mark.parametrize("name", NAMES)
def test_declares_what_the_runner_reads(name: str) -> None:
    method = create_method(name, SETTINGS.get(name))
    assert isinstance(method, Method)
    assert method.name == name
    assert set(method.devices) <= {"cpu", "cuda"} and "cpu" in method.devices
    assert isinstance(method.fingerprint(), str)
    reason = method.unavailable("cpu")
    if name in PEERS:
        assert reason is None or reason.endswith("pip install -e '.[peers]'")
    else:  # Only a network may be missing here: its weights come with a training.
        assert (reason or "no weights at").startswith("no weights at")
    assert METHODS[name].summary
    with pytest.raises(ValueError, match="no_such_setting"):
        create_method(name, {"no_such_setting": 1})


@pytest.mark.parametrize("name", FAST)
def test_gives_a_field_that_can_be_evaluated_and_leaves_its_input_alone(name: str) -> None:
    pair = small_pair()
    before = [pair.fixed.image.copy(), pair.moving.image.copy(), pair.moving.labels.copy()]
    worker = Worker(WorkerSpec(name, SETTINGS.get(name, {}), "cpu", 1, 0, 1), 200)
    try:
        registration, timing = worker.register(pair)
    finally:
        worker.close()
    registration.check(pair.grid)
    assert np.abs(registration.displacement_mm).max() < 50, "millimetres, not voxels of something else"
    assert timing.seconds > 0
    for array, copy in zip((pair.fixed.image, pair.moving.image, pair.moving.labels), before, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_no_method_but_a_network_without_weights_is_missing() -> None:
    assert {"initial", "staring", "staring-fast", "voxelmorph"} <= set(READY)
    assert set(NAMES) - set(READY) <= {*VARIANTS, *PEERS}


@pytest.mark.parametrize("name", FAST)
def test_refuses_a_device_it_does_not_have(name: str) -> None:
    with pytest.raises(CellError) as caught:
        Worker(WorkerSpec(name, {}, "abacus", 1, 0, 1), 60)
    assert caught.value.status == "unavailable"
