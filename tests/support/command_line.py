"""Commands run in this process, and the one line of a command that is refused."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner, Result

from run_benchmark import app

ROOT = Path(__file__).resolve().parents[2]


def invoke(*arguments: object) -> Result:
    """Run `rigidbench` with these arguments."""
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    """The only line on stderr of a command that ends with status 2."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]
