"""docs/design.md lists every module with the first line of its docstring. `python tests/scenarios/test_design_page.py`
writes the list anew.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "design.md"
BEGIN = "<!-- modules: made by tests/scenarios/test_design_page.py -->\n"
END = "<!-- /modules -->\n"
PACKAGES = ("metrics", "methods", "benchmark", "reports")


def module_list() -> str:
    """A table for each folder of modules: file, and the first line of its docstring."""
    parts = []
    for package in PACKAGES:
        for folder in sorted({file.parent for file in (ROOT / package).rglob("*.py")}):
            lines = [f"| [{file.name}](../{file.relative_to(ROOT).as_posix()}) | {summary(file)} |"
                     for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]  # fmt: skip
            if lines:
                parts.append(f"### {folder.relative_to(ROOT).as_posix()}/\n\n| module | content |\n| :--- | :--- |")
                parts[-1] += "\n" + "\n".join(lines) + "\n"
    return "\n".join(parts)


def summary(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).replace("|", "\\|")


def page() -> str:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    return before + BEGIN + "\n" + module_list() + "\n" + END + rest.partition(END)[2]


def test_the_design_page_lists_every_module_with_its_docstring() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tests/scenarios/test_design_page.py"


def test_every_module_has_a_docstring() -> None:
    files = [file for package in PACKAGES for file in (ROOT / package).rglob("*.py") if file.name != "__init__.py"]
    assert [file.relative_to(ROOT).as_posix() for file in files if not summary(file)] == []


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
