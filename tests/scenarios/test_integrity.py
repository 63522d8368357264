"""A method gets no name, path or fixed labels of a case, and a run records the origin of its plugins."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from support.small_runs import Recorder

from benchmark.config import make_config
from benchmark.datasets.folders import write_patient
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from benchmark.execution.runner import run
from benchmark.execution.worker import blind
from methods.base import Grid
from methods.registry import DATASETS, METHODS, load_plugin

SPY = Path(__file__).resolve().parents[1] / "plugins" / "spy.py"
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def spy() -> ModuleType:
    if "spy" not in METHODS:
        load_plugin(SPY)
    return sys.modules["rigidbench_plugin_spy"]


def test_a_method_that_searches_its_process_finds_no_secret(
    spy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A patient called Zaphod in a folder called betelgeuse, registered into a run called magrathea."""
    patients, out = tmp_path / "betelgeuse", tmp_path / "magrathea"
    grid = Grid((40, 24, 24))
    fixed, moving = np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.uint16)
    fixed[4:18, 5:19, 5:19], fixed[22:36, 5:19, 5:19] = 21, 20
    moving[4:18, 5:19, 7:21], moving[22:36, 5:18, 5:19] = 21, 20
    rng = np.random.default_rng(0)
    ct, mr = (rng.normal(0, 50, grid.shape) + 500 * (labels > 0) for labels in (moving, fixed))
    write_patient(patients / "zaphod", ct, moving, mr, fixed, None, grid, centroids_mm(fixed, grid))
    monkeypatch.chdir(patients)
    monkeypatch.setenv("PWD", str(patients))
    settings = {"dir": str(patients)}
    content = {"dataset": {"name": "folders", "settings": settings}, "methods": ["spy"], "threads": 1}
    outcome = run(make_config({**content, "plugins": [str(SPY)]}, "test"), out, Recorder())
    assert outcome.statuses == ["ok"]
    notes = json.loads((out / "cells" / "spy@cpu" / "zaphod.json").read_text(encoding="utf-8"))["notes"]
    for secret in ("zaphod", "betelgeuse", "magrathea", "mr_mask"):
        assert secret not in notes["texts"].lower(), f"the method found {secret}"
    case = DATASETS.create("folders", settings).load("zaphod")
    seen = set(notes["arrays"].split())
    given = [case.pair.fixed.image, case.pair.moving.image, case.pair.moving.labels]
    assert {spy.digest(a) for a in given} <= seen, "the spy finds the arrays that it is given, so its search works"
    assert re.search("pair-[0-9a-f]{12}", notes["texts"])
    assert spy.digest(case.pair.fixed.labels) not in seen


def test_the_token_depends_on_the_images_only(tiny: Path) -> None:
    pair = DATASETS.create("tiny").load("one").pair
    assert blind(pair).case == blind(pair).case != blind(DATASETS.create("tiny").load("two").pair).case
    assert blind(pair).fixed.labels is None and "one" not in blind(pair).case


def test_a_run_records_where_its_plugins_come_from(tiny: Path, tmp_path: Path) -> None:
    content = {"dataset": {"name": "tiny", "limit": 1}, "methods": ["true-shift"], "threads": 1}
    run(make_config({**content, "plugins": [str(tiny)]}, "test"), tmp_path / "run", Recorder())
    environment = json.loads((tmp_path / "run" / "environment.json").read_text(encoding="utf-8"))
    assert environment["plugins"]["method true-shift"] == str(tiny)
    assert environment["plugins"]["metric mean_motion_mm"] == str(tiny)
    assert not any("initial" in name for name in environment["plugins"]), "built-in methods are no plugins"
    assert {"governor", "threads", "physical_cores", "gpu_driver", "load"} <= set(environment)


@pytest.mark.parametrize("name", ["../out", "a/b", "..", "a\0b"])
def test_a_row_or_case_with_a_path_as_name_is_refused(
    tiny: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"dataset": {"name": "tiny"}, "methods": [{"method": "initial", "name": name}], "threads": 1}
    with pytest.raises(BadInput, match="inside the run folder"):
        run(make_config(rows, "test"), tmp_path / "run", Recorder())
    monkeypatch.setattr(DATASETS["tiny"].load(), "cases", lambda *_: [name])
    with pytest.raises(BadInput, match="inside the run folder"):
        run(make_config(rows | {"methods": ["initial"]}, "test"), tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()


def test_no_source_reads_or_writes_a_pickle() -> None:
    """This is about files. Arrays pass through pipes between processes of one run."""
    listed = subprocess.run(
        ["git", "ls-files", "*.py"], cwd=ROOT, capture_output=True, encoding="utf-8", check=True
    ).stdout
    forbidden = re.compile(
        r"\bpickle\.(load|dump|Unpickler|Pickler)|import (pickle|dill|joblib|shelve)|torch\.(load|save)\("
        r"|allow_pickle=True|to_pickle|read_pickle|yaml\.(load|unsafe_load|full_load)\("
    )
    # Published weights are in torch's format. With `weights_only` it reads tensors and refuses code.
    allowed = re.compile(r"import pickle\n|torch\.load\(file, map_location=\"cpu\", weights_only=True\)")
    for file in listed.split():
        if not file.startswith("tests/"):
            text = (ROOT / file).read_text(encoding="utf-8")
            found = forbidden.search(allowed.sub("", text) if file == "methods/weights.py" else text)
            assert found is None, f"{file}: {found}"
