"""Edits of code make stale what they can change and nothing else: real workers, and edits of a copy of the project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support.files import write_files

from benchmark import fingerprint
from benchmark.config import make_config
from benchmark.execution.plan import make_plan
from benchmark.execution.worker import Worker, WorkerSpec
from benchmark.fingerprint import PROJECT, code_of
from methods.registry import DATASETS, METHODS
from methods.sources import Sources

ROOT = Path(__file__).resolve().parents[2]

LOOKER = '''
    import sys
    from unittest.mock import MagicMock

    import numpy as np

    from methods.base import Method, Registration
    from methods.registry import METHODS, create_method


    def itk_stand_in():
        """itk without its modules, which take 12 s to import: images keep their array, a registration gives zeros."""
        itk, files = MagicMock(), {}

        def image_from_array(array):
            image = MagicMock(array=array)
            image.GetSpacing = lambda: image.SetSpacing.call_args.args[0]
            return image

        def imwrite(image, path):
            open(path, "wb").close()
            files[path] = image

        itk.image_from_array, itk.imwrite, itk.imread = image_from_array, imwrite, files.get
        itk.TransformixFilter.__getitem__.return_value.New.return_value.GetOutputDeformationField = (
            lambda: MagicMock(array=np.zeros((48, 32, 32, 3), np.float32))
        )
        itk.array_from_image = lambda image: image.array
        return itk


    sys.modules["itk"] = itk_stand_in()


    @METHODS.register("looker")
    class Looker(Method):
        """Another row, whose notes list the files of all modules that the process has imported."""

        def __init__(self, looker, **row):
            self.name, self.row = looker, create_method(**row)
            self.settings = self.Settings()

        def prepare(self, device, threads, seed):
            self.row.prepare(device, threads, seed)

        def unavailable(self, device):
            return self.row.unavailable(device)

        def register(self, pair):
            done = self.row.register(pair)
            files = {str(getattr(m, "__file__", None) or "") for m in list(sys.modules.values())}
            return Registration(done.displacement_mm, {"files": "|".join(sorted(files))})
'''


@pytest.mark.parametrize(
    ("row", "settings"),
    [
        ("initial", {}),
        ("pc", {}),
        ("staring-fast", {"rigidity_weight": 0}),
        ("polyrigid", {}),
        ("refined", {}),
    ],
)
def test_every_module_that_a_worker_imports_is_found(
    row: str, settings: dict[str, Any], tiny: Path, tmp_path: Path
) -> None:
    reason = METHODS.create(row).unavailable("cpu")
    if reason:
        pytest.skip(reason)
    plugin = write_files(tmp_path, {"looker.py": LOOKER}) / "looker.py"
    pair = DATASETS.create("tiny").load("one").pair.blind("token")
    worker = Worker(WorkerSpec("looker", {"name": row, "settings": settings}, "cpu", 1, 0, 1, (str(plugin),)), 120)
    try:
        files = worker.register(pair)[0].notes["files"].split("|")
    finally:
        worker.close()
    folders = [ROOT / package for package in PROJECT.packages]
    paths = [Path(f) for f in files if f and any(Path(f).is_relative_to(folder) for folder in folders)]
    imported = {".".join(p.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for p in paths}
    # The catalogue is in a row's fingerprint by the row's factory and settings.
    families = ("methods.voxelmorph", "methods.deformable")
    catalogue = {"methods.builtin", *families, *(f"{family}.variants" for family in families)}
    config = make_config({"dataset": {"name": "tiny"}, "methods": [row], "threads": 1}, "test")
    plan = make_plan(config)
    (m,) = config.methods
    hashed = plan.code_of_cells(m, METHODS.create(m.method, m.settings)).modules
    assert METHODS[row].factory.partition(":")[0] in imported, "the row was not run"
    assert imported - catalogue <= hashed


PLUGIN = '''
    """A row."""
    from methods.initial import Initial
    from methods.registry import METHODS

    STRENGTH = 1


    @METHODS.register("cheap")
    class Cheap(Initial):
        """Moves nothing."""
'''
CONFIG = """
    dataset: {name: phantom, limit: 1, settings: {splits: phantom-quick, spacing_mm: 4.0, vertebrae: 3}}
    methods: [initial, cheap]
    threads: 1
"""
ROWS = ("initial", "greedy", "staring", "staring-fast", "voxelmorph")
RUN = """
    from pathlib import Path

    from rich.console import Console

    from benchmark.config import load_config
    from benchmark.cli.run import run_config
    from benchmark.execution.runner import RunOptions
    from methods.registry import load_plugin

    load_plugin("cheap.py")
    config = load_config("small.yaml", {"plugins": ["cheap.py"]})
    run_config(config, Path("run"), RunOptions(), Console())
"""
STATE = """
    import io
    import json
    from pathlib import Path

    from rich.console import Console

    from benchmark.cli.run import dry_run
    from benchmark.execution.runner import RunOptions
    from benchmark.config import load_config
    from benchmark.datasets import phantom
    from benchmark.execution.plan import make_plan, open_dataset, reader
    from methods.registry import load_plugin

    load_plugin("cheap.py")
    config = load_config("small.yaml", {"plugins": ["cheap.py"]})
    text = io.StringIO()
    dry_run(config, Path("run"), RunOptions(), Console(file=text, width=200))
    phantom.make_patient = None  # so that a case that is not in the cache is an error
    dataset, names = open_dataset(config)
    case = reader(dataset)(names[0]).pair.case
    plan = make_plan(load_config("small.yaml", {"methods": ["initial", "greedy", "staring", "staring-fast"]}))
    fingerprints = {task.method.name: task.fingerprint for task in plan.tasks(plan.cases)}
    Path("state.json").write_text(json.dumps({"dry_run": text.getvalue(), "case": case, "fingerprints": fingerprints}))
"""


class Copy:
    """A copy of the project, with a plugin and a finished run of two rows on one patient."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*PROJECT.packages, "reports", "data_splits"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        write_files(folder, {"cheap.py": PLUGIN, "small.yaml": CONFIG, "state.py": STATE, "run.py": RUN + STATE})
        self.before = self.state("run.py")

    def state(self, script: str = "state.py") -> dict[str, Any]:
        """Values from a new process of the copy: its dry run, the case that the cache holds, some fingerprints."""
        changes = {"RIGIDBENCH_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(self.folder)}
        done = subprocess.run([sys.executable, script], cwd=self.folder, env=os.environ | changes,
                              capture_output=True, encoding="utf-8")  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return dict(json.loads((self.folder / "state.json").read_text(encoding="utf-8")))

    @contextmanager
    def edited(self, edits: Mapping[str, tuple[str, str]], suffix: str = "") -> Iterator[None]:
        """Replace a text in each module (by dotted name) or file (by path) and append a suffix; restore on exit."""
        files = {self.folder / (m if "/" in m else f"{m.replace('.', '/')}.py"): edit for m, edit in edits.items()}
        texts = {file: file.read_text(encoding="utf-8") for file in files}
        try:
            for file, (old, new) in files.items():
                assert old in texts[file], f"{file}: expected {old!r}"
                file.write_text(texts[file].replace(old, new, 1) + suffix, encoding="utf-8")
            yield
        finally:
            for file, text in texts.items():
                file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("finished") / "copy")


PROSE = ("metrics.overlap", "methods.elastix.staring", "methods.peers.greedy", "methods.registry",
         "benchmark.datasets.synthesis.motion", "benchmark.datasets.phantom", "benchmark.evaluation",
         "benchmark.execution.worker", "benchmark.execution.cell", "cheap")  # fmt: skip


def test_edits_of_prose_keep_every_cell_and_the_cache(finished: Copy) -> None:
    with finished.edited(dict.fromkeys(PROSE, ('"""', '"""Edited: ')), suffix="\n# Edited.\n"):
        state = finished.state()
    assert "0 cells to run" in state["dry_run"]
    assert state["case"].startswith("phantom-")
    assert state["fingerprints"] == finished.before["fingerprints"]


@pytest.fixture(scope="module")
def edited(finished: Copy) -> dict[str, Any]:
    """The state after edits of a plugin's constant, a parameter file and the catalogue of methods."""
    edits = {
        "cheap": ("STRENGTH = 1", "STRENGTH = 2"),
        "methods/elastix/parameters/fast.txt": ("Resolutions 3)", "Resolutions 2)"),
        "methods.builtin": ("peers.greedy:Greedy", "peers.ants_syn:AntsSyn"),
    }
    with finished.edited(edits):
        return finished.state()


def test_an_edited_constant_of_a_plugin_makes_its_row_stale(edited: dict[str, Any]) -> None:
    assert "1 cell to run" in edited["dry_run"] and "cheap@cpu: 1 made with other plugin" in edited["dry_run"]


def test_edits_of_a_parameter_file_and_of_the_catalogue_make_their_rows_stale(
    finished: Copy, edited: dict[str, Any]
) -> None:
    before, after = finished.before["fingerprints"], edited["fingerprints"]
    assert {row for row in before if before[row] != after[row]} == {"staring-fast", "greedy"}


@pytest.mark.parametrize(
    ("module", "old", "new", "stale"),
    [
        ("methods.peers.greedy", "seed + 1", "seed + 2", {"greedy"}),
        ("methods.elastix.staring", "_TAIL_LINES = 25", "_TAIL_LINES = 24", {"staring", "staring-fast"}),
        ("metrics.overlap", "np.percentile(d, 95)", "np.percentile(d, 94)", {*ROWS, "pairs"}),
        (
            "metrics.procrustes",
            "(weights.detach().sum(dim=-1) > 0)",
            "(weights.sum(dim=-1) > 0)",
            {*ROWS, "pairs", "case"},
        ),
        ("metrics.landmarks", "landmark_error_mm(", "landmark_error_in_mm(", {*ROWS, "pairs"}),
        ("benchmark.execution.worker", "HIDDEN = (", 'HIDDEN = ("OTHER", ', set(ROWS)),
        ("benchmark.datasets.synthesis.motion", "CONTACT_MM = 2.0", "CONTACT_MM = 2.1", {*ROWS, "pairs", "case"}),
        ("benchmark.datasets.io.dicom", "DOUBLED_MM = 0.01", "DOUBLED_MM = 0.02", set()),
        ("benchmark.config", "CONFIGS = ", "OTHER = CONFIGS = ", set()),
    ],
)
def test_an_edit_of_code_makes_stale_only_what_it_can_change(
    finished: Copy, monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str, stale: set[str]
) -> None:
    """stale: names of rows, `pairs` for the measurements of pairs, `case` for a phantom in the cache."""
    plan = make_plan(make_config({"dataset": {"name": "phantom"}, "methods": list(ROWS), "threads": 1}, "test"))

    def fingerprints() -> dict[str, str]:
        monkeypatch.setattr(fingerprint, "PROJECT", Sources(finished.folder, PROJECT.packages))
        for function in (fingerprint.measuring, fingerprint.running):
            function.cache_clear()
        cells = {task.method.name: task.fingerprint for task in plan.tasks(plan.cases[:1])}
        return cells | {"pairs": plan.code_of_pairs().everything(), "case": code_of(type(plan.dataset)).everything()}

    before = fingerprints()
    with finished.edited({module: (old, new)}):
        after = fingerprints()
    assert {name for name in before if before[name] != after[name]} == stale
