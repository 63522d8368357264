"""What a shell offers after Tab."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from support.command_line import ROOT

from benchmark.cli.completion import label_maps


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run", "--methods", "initial,vox"], {"initial,voxelmorph"}),
        (["run", "--config", "t"], {"table1"}),
        (["run", "--device", "cpu,"], {"cpu,cuda"}),
        (["run", "--dataset", "fol"], {"folders"}),
        (["run", "--on-stale", ""], {"redo", "keep", "fail"}),
        (["runti"], {"runtime"}),
        (["simulate", "--label-map", "spi"], {"spider", "spineps"}),
    ],
)
def test_matching_names_are_offered(words: list[str], offered: set[str]) -> None:
    line = " ".join(["rigidbench", *words])
    variables = {"_RIGIDBENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    code = "import run_benchmark, sys; sys.argv[0] = 'rigidbench'; run_benchmark.app(prog_name='rigidbench')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | variables, capture_output=True, encoding="utf-8"
    )
    assert offered == set(done.stdout.split()), done.stderr


def test_completion_imports_no_torch() -> None:
    code = (
        "import sys; from benchmark.cli import completion as c; "
        "c.methods(''), c.datasets(''), c.configurations(''); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("v", ["verse"]), ("c", ["ct="]), ("ct=spid", ["ct=spider"]),
        ("ct=spider,m", ["ct=spider,moving=", "ct=spider,mr="]),
        ("ct=spider,mr=ve", ["ct=spider,mr=verse"]),
    ],
)  # fmt: skip
def test_a_label_map_for_each_scan_is_offered(typed: str, offered: list[str]) -> None:
    assert sorted(label_maps(typed)) == offered
