"""Write finished runs into the project's pages: docs/results.md, and the results in the README.

    make results RUNS="runs/table1 runs/verse" MORE="runs/classical"

writes each run's report again and collects tables and figures in docs/results.md. Five rows of the first of RUNS go
between the README's marks, its picture to docs/before-after.png, and the tables of every run to docs/runs. Slices are
shown for phantoms only, since the licence of other data may not allow it. With chromium installed, a picture of the
HTML report is added.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from benchmark.errors import BadInput
from benchmark.results.following import FOLLOWING
from benchmark.results.store import Run, read_run
from reports.figures.before_after import write_before_after
from reports.paper import label
from reports.printing import PrintedTable, markdown_text, render, write_text
from reports.run_data import data_sets
from reports.table1.sheet import NOTE_MARKS, Sheet, make_sheet
from reports.write import Options, write_report

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- results: made by `make results` -->", "<!-- /results -->"
_FIGURES = {"fig2": "Fig. 2: DSC, rigid DSC and relative volume change", "runtime": "Runtime"}
_SLICES = {"fig3": "Fig. 3: the moving scan, and the fixed scan with the label that each method warps"}
_CHAPTERS = ("table1", "measures", "claims", "loss-or-network", "curves", "supplement", "runtime", "statistics")
_MARKS = f"[{NOTE_MARKS}]"
_SHORT_ROWS = ("initial", "staring", "staring-fast", "deformable-pc+oc", "voxelmorph", "pc+rigid-dice", "pc")
_SHORT_COLUMNS = {"Method", "DSC ↑", "Rigid DSC ↑", "%Δvol ↓", "|J|≤0 ↓", "Time [s] ↓"}
_MOST_SHORT_ROWS = 5
# All that the report's values and verdicts depend on: without FOLLOWING the claims would lose a gate.
_TABLES = ("pairs.parquet", "vertebrae.parquet", "cases.parquet", "columns.json", "config.yaml", "environment.json",
           FOLLOWING)  # fmt: skip
_WIDTH, _SCREEN = 1800, (1600, 1400)


def publish(runs: Sequence[Path], docs: Path, readme: Path, more: Sequence[Path] = ()) -> None:
    """Write docs/results.md with its pictures, the tables of the runs, and five rows in the README.

    Args:
        runs: Run folders for the page; the first is shown in the README.
        docs: The folder of results.md.
        readme: The README, which has the marks BEGIN and END.
        more: Run folders for the page only.

    Raises:
        BadInput: The README lacks the marks.
    """
    docs.mkdir(parents=True, exist_ok=True)
    publish_readme(runs[0], docs, readme)
    arguments = f'RUNS="{_named(runs)}"' + (f' MORE="{_named(more)}"' if more else "")
    page = ["# Results", "", f"Made by `make results {arguments}`.", ""]
    for folder in [*runs, *more]:
        report = write_report(folder, Options(with_paper=True)).parent
        run = read_run(folder)
        shown = _pictures(run, report, docs)
        page += [f"# {markdown_text(folder.name)}", "", *_linked(shown, Path()), *_chapters(report)]
        _keep_tables(folder, docs)
    picture = _screenshot(runs[0] / "report" / "report.html", docs / "report.png")
    if picture is not None:
        page += [f"![The HTML report]({picture.name})", ""]
    write_text(docs / "results.md", "\n".join(page))


def publish_readme(folder: Path, docs: Path, readme: Path) -> None:
    """Write five rows of a run between the README's marks, its picture, and its tables to docs/runs.

    Args:
        folder: A run folder. The picture is written for phantoms with pictures only.
        docs: The folder of the picture and the tables.
        readme: The README, which has the marks BEGIN and END.

    Raises:
        BadInput: The README lacks the marks.
    """
    before, after = _parts_of(readme)
    run = read_run(folder)
    block = _short(make_sheet(data_sets(run)[0]), folder.name, run.environment).rstrip()
    if _is_phantom(run) and (folder / "pictures").is_dir():
        write_before_after(folder, docs / "before-after.png")
    _keep_tables(folder, docs)
    write_text(readme, f"{before}{BEGIN}\n\n{block}\n\n{END}{after}")


def _named(runs: Sequence[Path]) -> str:
    return " ".join(f"runs/{run.name}" for run in runs)


def _is_phantom(run: Run) -> bool:
    return set(run.cases["dataset"]) == {"phantom"}


def _pictures(run: Run, report: Path, docs: Path) -> dict[str, str]:
    """File name in `docs` -> title, of the figures that may be shown."""
    found = {}
    for stem, title in (_FIGURES | (_SLICES if _is_phantom(run) else {})).items():
        if (report / f"{stem}.png").is_file():
            name = f"{run.folder.resolve().name}-{stem}.png"
            _small(report / f"{stem}.png", docs / name)
            found[name] = title
    return found


def _small(drawn: Path, out: Path) -> None:
    """A figure as a page shows it: at most 1800 pixels wide, 256 colours."""
    with Image.open(drawn) as image:
        scale = min(1.0, _WIDTH / image.width)
        size = (round(image.width * scale), round(image.height * scale))
        image.convert("RGB").resize(size, Image.Resampling.LANCZOS).quantize(256).save(out, optimize=True)


def _linked(pictures: dict[str, str], folder: Path) -> list[str]:
    """Markdown lines that show pictures in `folder`, an empty line after each."""
    links = [f"![{markdown_text(title)}]({(folder / name).as_posix()})" for name, title in pictures.items()]
    return [line for link in links for line in (link, "")]


def _chapters(report: Path) -> list[str]:
    files = [report / f"{stem}.md" for stem in _CHAPTERS]
    texts = [file.read_text(encoding="utf-8") for file in files if file.is_file()]  # one patient has no statistics
    return [re.sub(r"!\[[^\]]*\]\([^)]*\)\n?", "", text) for text in texts]


def _short(sheet: Sheet, folder: str, environment: Mapping[str, Any]) -> str:
    """Five rows of Table 1 for the README, without marks, with where the values come from."""
    names, lines = [re.sub(_MARKS, "", name) for name in sheet.printed.heads], sheet.printed.lines
    texts = {re.sub(_MARKS, "", line[0].text): line for line in lines}
    rows = [texts[label(row)] for row in _SHORT_ROWS if label(row) in texts][:_MOST_SHORT_ROWS]
    # A column without a value, such as times of a run beside other work, is left out.
    kept = [i for i, name in enumerate(names) if name in _SHORT_COLUMNS and any(line[i].text != "–" for line in rows)]
    shown = [
        [replace(line[i], text=re.sub(_MARKS, "", line[i].text), best=False, mark="") for i in kept] for line in rows
    ]
    table = PrintedTable(sheet.title, [names[i] for i in kept], [sheet.printed.right[i] for i in kept], shown)
    commit = str(environment.get("commit") or "unknown")[:10]
    note = (
        f"mean(SD). Commit {commit} of {str(environment.get('date', ''))[:10]}; tables of the run: docs/runs/{folder}."
    )
    return render("compact.md", run=folder, title=sheet.title, printed=table, lines=[note])


def _keep_tables(run: Path, docs: Path) -> None:
    """Copy the tables of a run, its request and its machine to docs/runs, so that its values can be checked."""
    kept = docs / "runs" / run.name
    kept.mkdir(parents=True, exist_ok=True)
    if run.resolve() == kept.resolve():  # the kept tables themselves
        return
    for name in _TABLES:
        if (run / name).is_file():
            shutil.copyfile(run / name, kept / name)


def _screenshot(page: Path, out: Path) -> Path | None:
    """The top of the HTML report as a picture, or None without chromium."""
    browser = shutil.which("chromium")
    if browser is None:
        return None
    width, height = _SCREEN
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "page.png"
        subprocess.run(
            [browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--screenshot={taken}",
             f"--window-size={width},{height}", "--virtual-time-budget=10000", page.resolve().as_uri()],
            check=True, capture_output=True, timeout=120,
        )  # fmt: skip
        _small(taken, out)
    return out


def _parts_of(readme: Path) -> tuple[str, str]:
    """The README's text before and after the results."""
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadInput(
            f"{readme}: expected the lines {BEGIN} and {END}, got a file without them; put them where results belong"
        )
    return before, after


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--more", nargs="*", default=[], type=Path, help="Runs for docs/results.md alone.")
    arguments = parser.parse_args()
    publish(arguments.runs, ROOT / "docs", ROOT / "README.md", arguments.more)
