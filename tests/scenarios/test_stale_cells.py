"""Edits of a copy of the project: which cells become stale, and which do not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.files import write_files

from benchmark import fingerprint
from benchmark.config import make_config
from benchmark.execution.plan import make_plan
from benchmark.fingerprint import PROJECT, Sources, code_of

ROOT = Path(__file__).resolve().parents[2]


PLUGIN = '''
    """A row."""
    from methods.initial import Initial
    from methods.registry import METHODS

    STRENGTH = 1


    @METHODS.register("cheap")
    class Cheap(Initial):
        """Nothing."""
'''
CONFIG = """
    dataset: {name: phantom, limit: 1, settings: {splits: phantom-quick, spacing_mm: 4.0, vertebrae: 3}}
    methods: [initial, cheap]
    threads: 1
"""
ROWS = ("initial", "greedy", "staring", "staring-fast", "voxelmorph")
PRINTS = """
    import json

    from benchmark.config import load_config
    from benchmark.execution.plan import make_plan

    plan = make_plan(load_config("small.yaml", {"methods": ["initial", "greedy", "staring", "staring-fast"]}))
    print(json.dumps({task.method.name: task.fingerprint for task in plan.tasks(plan.cases)}))
"""
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
LOAD = """
    from benchmark.config import load_config
    from benchmark.datasets import phantom
    from benchmark.execution.plan import open_dataset, reader
    from methods.registry import load_plugin

    load_plugin("cheap.py")
    phantom.make_patient = None  # so that a case that is not in the cache is an error
    dataset, names = open_dataset(load_config("small.yaml"))
    print(reader(dataset)(names[0]).pair.case)
"""


class Copy:
    """A copy of the project, with a plugin and a finished run of two rows on one patient."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in (*PROJECT.packages, "reports", "data_splits"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "run_benchmark.py", folder)
        write_files(
            folder, {"cheap.py": PLUGIN, "small.yaml": CONFIG, "prints.py": PRINTS, "run.py": RUN, "load.py": LOAD}
        )
        self.python("run.py")

    def python(self, *arguments: str) -> str:
        changes = {"RIGIDBENCH_CACHE": str(self.folder / "cache"), "PYTHONPATH": str(self.folder)}
        done = subprocess.run([sys.executable, *arguments], cwd=self.folder, env=os.environ | changes,
                              capture_output=True, text=True)  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def dry_run(self) -> str:
        return self.python("run_benchmark.py", "run", "--config", "small.yaml", "--plugin", "cheap.py", "--out", "run",
                           "--dry-run")  # fmt: skip

    def prints(self) -> dict[str, str]:
        """The fingerprints of some rows' cells, by a process that runs the copy."""
        return dict(json.loads(self.python("prints.py")))

    @contextmanager
    def edited(self, edit: Callable[[str], str], *modules: str) -> Iterator[None]:
        """Inside, modules (by dotted name) and files (by path) are other ones."""
        files = [self.folder / (m if "/" in m else f"{m.replace('.', '/')}.py") for m in modules]
        texts = [file.read_text(encoding="utf-8") for file in files]
        try:
            for file, text in zip(files, texts, strict=True):
                assert edit(text) != text, f"{file}: nothing to edit"
                file.write_text(edit(text), encoding="utf-8")
            yield
        finally:
            for file, text in zip(files, texts, strict=True):
                file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("finished") / "copy")


FAST = "methods/elastix/parameters/fast.txt"
PROSE = ("metrics.overlap", "methods.elastix.staring", "methods.peers.greedy", "methods.registry",
         "benchmark.datasets.synthesis.motion", "benchmark.datasets.phantom", "benchmark.evaluation",
         "benchmark.execution.worker", "benchmark.execution.cell", "cheap")  # fmt: skip


def test_after_edits_of_prose_nothing_is_to_be_done_and_the_cache_is_valid(finished: Copy) -> None:
    def edit(text: str) -> str:
        return text.replace('"""', '"""Edited: ', 1) + "\n# Edited.\n"

    with finished.edited(edit, *PROSE):
        assert "0 cells to run" in finished.dry_run()
        assert finished.python("load.py").startswith("phantom-")


def test_an_edited_constant_of_a_plugin_makes_its_row_stale(finished: Copy) -> None:
    with finished.edited(lambda text: text.replace("STRENGTH = 1", "STRENGTH = 2"), "cheap"):
        printed = finished.dry_run()
    assert "1 cell to run" in printed and "cheap@cpu: 1 made with other plugin" in printed


def test_edits_of_a_parameter_file_and_of_the_catalogue_make_their_rows_stale(finished: Copy) -> None:
    before = finished.prints()
    with (
        finished.edited(lambda text: text.replace("Resolutions 3)", "Resolutions 2)"), FAST),
        finished.edited(lambda text: text.replace("peers.greedy:Greedy", "peers.ants_syn:AntsSyn"), "methods.builtin"),
    ):
        after = finished.prints()
    assert {row for row in before if before[row] != after[row]} == {"staring-fast", "greedy"}


@pytest.mark.parametrize(
    ("module", "old", "new", "stale"),
    [
        ("methods.peers.greedy", "seed + 1", "seed + 2", {"greedy"}),
        ("methods.elastix.staring", "_TAIL_LINES = 25", "_TAIL_LINES = 24", {"staring", "staring-fast"}),
        ("metrics.overlap", "np.percentile(d, 95)", "np.percentile(d, 94)", {*ROWS, "pairs", "case"}),
        ("metrics.landmarks", "landmark_error_mm(", "landmark_error_in_mm(", {*ROWS, "pairs"}),
        ("benchmark.execution.worker", "HIDDEN = (", 'HIDDEN = ("OTHER", ', set(ROWS)),
        ("benchmark.datasets.synthesis.motion", "CONTACT_MM = 2.0", "CONTACT_MM = 2.1", {*ROWS, "pairs", "case"}),
        ("benchmark.datasets.io.dicom", "MAX_DEVIATION = 0.1", "MAX_DEVIATION = 0.2", set()),
        ("benchmark.config", "CONFIGS = ", "OTHER = CONFIGS = ", set()),
    ],
)
def test_an_edit_of_code_makes_stale_what_it_can_change(
    finished: Copy, monkeypatch: pytest.MonkeyPatch, module: str, old: str, new: str, stale: set[str]
) -> None:
    """Rows' cells, what is measured of pairs, and a phantom in the cache."""
    plan = make_plan(make_config({"dataset": {"name": "phantom"}, "methods": list(ROWS), "threads": 1}, "test"))

    def prints() -> dict[str, str]:
        monkeypatch.setattr(fingerprint, "PROJECT", Sources(finished.folder, PROJECT.packages))
        for function in (fingerprint.measuring, fingerprint.running):
            function.cache_clear()
        found = {task.method.name: task.fingerprint for task in plan.tasks(plan.cases[:1])}
        return found | {"pairs": plan.code_of_pairs().everything(), "case": code_of(type(plan.dataset)).everything()}

    before = prints()
    with finished.edited(lambda text: text.replace(old, new), module):
        after = prints()
    assert {name for name in before if before[name] != after[name]} == stale
