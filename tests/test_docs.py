"""README and docs/: their code runs unchanged, their commands parse, their links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from benchmark.config import load_config
from methods.registry import BUILT_IN, METRICS
from run_benchmark import app

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
WRITTEN = [page for page in PAGES if page.name not in ("results.md", "design.md")]  # the others are generated
BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(
    r"^    (?:\.venv/bin/)?(?:rigidbench|python run_benchmark\.py)\b(.*?)(?:\s#.*)?$|`rigidbench (\w[^`\n]*)`",
    re.MULTILINE,
)
MOST_README_BYTES = 6000
# Blocks that need a cluster or files of the reader; every other one has a name and runs.
NOT_RUN = ("dask_jobqueue", 'Path("mr.nii.gz")', "[project.entry-points")
# The scripts of docs/api.md in order, after the plugins; one process, so that torch is imported once.
SCRIPTS = ("loss.py", "bench.py", "read.py", "one.py", "files.py")
RUN_ALL = f"""
import runpy, sys
from benchmark.config import load_config
from methods.registry import create_method, load_plugin
for plugin in ("penalty.py", "demons.py", "shift.py"):
    load_plugin(plugin)
config = load_config("penalised.yaml")
for row in config.methods:
    create_method(row.method, row.settings, row.name)
for script in {SCRIPTS}:
    runpy.run_path(script, run_name="__main__")
from methods.registry import DATASETS, PENALTIES
pair = DATASETS.create("blocks").load("test-0").pair.blind("token")
demons = create_method("demons", {{"iterations": 1}})
demons.prepare("cpu", 1, 0)
registration = demons.register(pair)
registration.check(pair.grid)
create_method("shift").register(pair).check(pair.grid)
import torch
from methods.penalties import Warped
labels = torch.zeros(8, 8, 8, dtype=torch.int32)
labels[2:6, 2:6, 2:6] = 20
penalty = PENALTIES["my-penalty"].load()(Warped(torch.ones(1, 3, 8, 8, 8), labels, [20]))
print("penalty", penalty.item() * 512)
"""


def blocks(kind: str) -> Iterator[tuple[Path, str]]:
    for page in WRITTEN:
        for indent, language, body in BLOCK.findall(page.read_text(encoding="utf-8")):
            if language == kind:
                yield page, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)


def named(kind: str) -> dict[str, str]:
    """Every block of a kind by the name in its first line."""
    found = {}
    for page, body in blocks(kind):
        if any(word in body for word in NOT_RUN):
            continue
        match = re.match(r"# ([\w-]+\.(?:py|yaml))\n", body)
        assert match, f"{page.name}: expected a first line `# name.{kind}`, got {body.splitlines()[0]!r}"
        assert found.setdefault(match[1], body) == body or page == README, f"{match[1]} stands twice and differs"
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    for page in WRITTEN:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        pattern = (
            r"^    (?:\.venv/bin/)?(?:rigidbench|python run_benchmark\.py)\b(.*?)(?:\s#.*)?$|`rigidbench (\w[^`\n]*)`"
        )
        for match in re.finditer(pattern, text, flags=re.MULTILINE):
            line = (match[1] if match[1] is not None else match[2]).strip()
            yield f"{page.name}: {line}", shlex.split(line)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the scripts print, one after the other in one folder."""
    folder = tmp_path_factory.mktemp("docs")
    for name, body in {**named("python"), **named("yaml")}.items():
        (folder / name).write_text(body, encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", RUN_ALL], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          encoding="utf-8", check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    assert (folder / "runs" / "blocks" / "report" / "report.html").is_file()
    return done.stdout


def test_every_script_of_the_docs_is_run() -> None:
    run_by_name = {"mine.py", "motion.py", "blocks.py", "penalty.py", "demons.py", "shift.py", *SCRIPTS}
    assert set(named("python")) == run_by_name


def test_a_run_of_the_plugins_gives_every_cell_and_column(output: str) -> None:
    assert "['ok', 'ok', 'ok', 'ok']" in output
    assert "centroid_error_mm" in output and "mean_motion_mm" in output


def test_the_penalty_is_a_loss_term(output: str) -> None:
    assert re.search(r"^penalty 192\.0$", output, flags=re.MULTILINE), "3 x 64 voxels of the vertebra"


@pytest.mark.parametrize("name", sorted(set(named("yaml")) - {"penalised.yaml"}))
def test_every_configuration_is_accepted(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(named("yaml")[name], encoding="utf-8")
    load_config(str(tmp_path / name))


def test_every_command_has_known_options() -> None:
    known = vars(typer.main.get_command(app))["commands"]
    found = list(commands())
    assert {arguments[0] for _, arguments in found if arguments} == set(known), "every command is documented"
    for where, arguments in found:
        print(where)  # shown with an error
        if len(arguments) > 1:  # a name alone is a mention, or the quick benchmark
            known[arguments[0]].make_context(arguments[0], arguments[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def test_every_column_of_a_metric_is_explained() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    built_in = [entry.name for entry in METRICS if entry.origin == BUILT_IN]  # other tests load plugins
    assert built_in
    assert [name for name in built_in if f"`{name}`" not in page] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_bytes()) <= MOST_README_BYTES


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if page.name not in navigation] == []
