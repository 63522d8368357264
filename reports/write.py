"""From a run folder to what people read: the files of `report/`, and Table 1 in the terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.errors import BadInput
from benchmark.results.store import Run, read_run
from methods.atomic import atomic_write
from reports.environment import environment_line, environment_lines
from reports.paper import BASELINE
from reports.run_data import Frames, by_dataset, common_patients
from reports.sections import Section, claims_section, runtime_section, statistics_section, supplement_section
from reports.stats.claims import claims_table, verdicts
from reports.stats.comparisons import Measured, ranks
from reports.table1.footnotes import incomplete
from reports.table1.latex import latex
from reports.table1.render import Sheet, csv, markdown, markdown_table, plain, sheets, terminal
from reports.table1.values import table1

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from reports.html.page import Part

_TABLE_WIDTH = 120


@dataclass(frozen=True)
class Options:
    """What a report may be asked for.

    with_paper: the paper's figures beside ours. common: patients alone on whom every row has a result. baseline: the
    row against which significance is marked. case, sagittal, axial: what Fig. 3 shows, a patient and which of the
    slices kept, from 1 (default: the patient of median DSC, the slices with the most label). sweep: a folder of
    `train --sweep`, whose tables go into the supplement.
    """

    with_paper: bool = False
    common: bool = False
    baseline: str = BASELINE
    case: str | None = None
    sagittal: int | None = None
    axial: int | None = None
    sweep: Path | None = None


@dataclass(frozen=True)
class _Content:
    """A run as the report takes it: its frames, a sheet and the comparisons of each data set."""

    run: Run
    options: Options
    frames: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
    sheets: list[Sheet]
    measured: list[Measured]

    def name(self, stem: str, part: Frames) -> str:
        """A file's name: with several data sets it carries that of its own."""
        return stem if len(self.measured) == 1 else f"{stem}-{_slug(part)}"


def write_report(run_folder: Path, options: Options | None = None, console: Console | None = None) -> Path:
    """Write the report of a run into report/ and return its index: what it holds stands there.

    A run of several data sets has figures for each, named after it, and tables for each in the same files. The same run
    gives the same bytes; what an earlier report made and this one does not goes. console: where Table 1 is printed too.
    Raises BadInput for options that the run cannot meet.
    """
    content = _read(run_folder, options or Options())
    folder = content.run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    before = _listed(folder)
    environment = environment_line(content.run.environment)
    written = _tables(content, folder, environment)
    stills: list[list[tuple[str, str, Path]]] = []
    for measured in content.measured:
        lines, figures = _figures(content, measured, folder)
        written += lines
        stills.append(figures)
    sections = [_sections(content, *part) for part in zip(content.sheets, content.measured, strict=True)]
    written += _write_sections(content, sections, folder)
    _write_page(content, sections, stills, folder)
    written.insert(0, "[HTML report](report.html): everything, to open in a browser; no network is needed")
    index = _write_index(content, folder, environment, written)
    for name in before - _listed(folder):
        (folder / name).unlink(missing_ok=True)
    if console is not None:
        _print(content, console)
    return index


def _print(content: _Content, console: Console) -> None:
    given = console.width
    # What is not a terminal (a pipe, a log) has no width of its own: the table then takes what it needs.
    console.width = given if console.is_terminal else max(given, _TABLE_WIDTH)
    try:
        for sheet in content.sheets:
            console.print(terminal(sheet, console.width))
    finally:
        console.width = given


def _read(run_folder: Path, options: Options) -> _Content:
    run = read_run(run_folder)
    frames = (run.pairs, run.vertebrae, run.cases)
    known = set(run.cases["method"])
    if options.baseline != BASELINE and options.baseline not in known:
        raise BadInput(f"--baseline {options.baseline}: expected a row of the run, one of {', '.join(sorted(known))}")
    lost = []
    if options.common:
        chosen = common_patients(*frames)
        kept, everyone = (len(set(map(tuple, f[["dataset", "case"]].to_numpy()))) for f in (chosen[2], frames[2]))
        if not kept:
            raise BadInput(f"--common: expected a patient on whom every row has a result, found none of {everyone}")
        lost = [f"Common patients only, as asked: the {kept} of {everyone} on whom every row with a result has one."]
        # What the run lacks is said of the whole run, also where the averages leave it out.
        lost += [line for part in by_dataset(*frames) for line in incomplete(part)]
        frames = chosen
    found = sheets(*frames, options.with_paper, True, options.baseline)
    if lost:
        found = [replace(sheet, incomplete=lost) for sheet in found]
    return _Content(run, options, frames, found, [sheet.measured for sheet in found])


def _tables(content: _Content, folder: Path, environment: str) -> list[str]:
    from reports.html.page import table_page

    printed = "\n".join(markdown(sheet) for sheet in content.sheets)
    _write(folder / "table1.md", f"{printed}\nEnvironment: {plain(environment)}\n")
    _write(folder / "table1.csv", csv(table1(*content.frames, content.options.with_paper, references=True)))
    _write(folder / "table1.tex", "\n".join(latex(sheet) for sheet in content.sheets))
    _write(folder / "table1.html", table_page(content.sheets))
    return ["Table 1: [Markdown](table1.md), [CSV](table1.csv), [LaTeX](table1.tex), [HTML](table1.html)"]


def _figures(content: _Content, measured: Measured, folder: Path) -> tuple[list[str], list[tuple[str, str, Path]]]:
    """Draw and save a data set's figures. Out: lines of the index, and (title, alternative, PNG) for the page."""
    from reports.figures.fig2 import save

    part, lines, stills = measured.frames, [], []
    for stem, title, alternative, figure in _drawn(content, measured):
        name = content.name(stem, part) if stem != "tuning" else stem
        stills.append((title, alternative, save(figure, folder / name)[0]))
        lines.append(f"{plain(title)} ({plain(part.name)}): [PNG]({name}.png), [PDF]({name}.pdf), [SVG]({name}.svg)")
    return lines, stills[1:]


def _drawn(content: _Content, measured: Measured) -> Iterator[tuple[str, str, str, Figure]]:
    """A data set's figures, Fig. 2 first: file's stem, title, what is seen, and the figure."""
    from reports.figures.critical_difference import METRICS, critical_difference
    from reports.figures.fig1 import fig1, fig1_data
    from reports.figures.fig2 import fig2, fig2_data
    from reports.figures.fig3 import fig3, fig3_data
    from reports.figures.runtime import runtime_figure, timed

    part, options, run = measured.frames, content.options, content.run.folder
    yield "fig2", "Fig. 2: DSC, rigid DSC and relative volume change", "Boxplots.", fig2(fig2_data(part))
    # Of several data sets one has the patient; the others show their own.
    case = None if len(content.measured) > 1 and options.case not in part.patients else options.case
    try:
        shown = fig3_data(run, measured, case, options.sagittal, options.axial)
    except ValueError as error:
        raise BadInput(f"Fig. 3: {error}") from error
    if shown is not None:
        title = f"Fig. 3: {shown.slices.case}, moving CT and MR with warped labels"
        yield "fig3", title, "Slices of CT and MR with outlines and errors of the labels.", fig3(shown)
    fields = fig1_data(run, measured)
    if fields is not None:
        title = f"Fields as in Fig. 1: {fields.slices.case}, displacement and |J| on a sagittal slice"
        yield "fig1", title, "Arrows of each displacement over the MR, and maps of |J|.", fig1(fields)
    found = {key: r for key in METRICS if (r := ranks(measured, key)) is not None}
    if found:
        title = "Critical differences: mean ranks by patient, rows that do not differ significantly joined"
        yield "critical-difference", title, "Mean ranks of the rows.", critical_difference(found)
    if timed(part.cases):
        title = "Runtime: seconds, memory, and seconds by voxels"
        yield "runtime", title, "Bars of seconds and memory, and seconds against voxels.", runtime_figure(part.cases)
    tuning = _sweep(content) if measured is content.measured[0] else None
    if tuning is not None:
        from reports.figures.training import draw_sweep

        yield "tuning", "Tuning of similarity and smoothness", "DSC by setting.", draw_sweep(tuning)


def _sections(content: _Content, sheet: Sheet, measured: Measured) -> list[Section]:
    found = [
        claims_section(claims_table(verdicts(measured))),
        statistics_section(measured, sheet.tests, content.options.baseline),
        supplement_section(measured, _sweep(content)),
        runtime_section(measured.frames.cases, environment_line(content.run.environment)),
    ]
    if not sheet.incomplete:
        return found
    warning = "Incomplete run: table1.md lists what is missing. Two rows are compared on the patients that both have."
    return [replace(section, text=[warning, *section.text]) for section in found]


def _sweep(content: _Content) -> pd.DataFrame | None:
    """The tuning's table: of the folder that was named, else of one in the run folder."""
    named = content.options.sweep
    for folder in (named,) if named is not None else (content.run.folder, content.run.folder / "sweep"):
        if (folder / "sweep.parquet").is_file():
            return pd.read_parquet(folder / "sweep.parquet")
    if named is not None:
        raise BadInput(f"--sweep {named}: expected a folder that `train --sweep --out {named}` finished")
    return None


def _write_sections(content: _Content, sections: list[list[Section]], folder: Path) -> list[str]:
    lines = []
    for number in range(len(sections[0])):
        kind = sections[0][number]
        texts = []
        for found, measured in zip(sections, content.measured, strict=True):
            section = found[number]
            texts.append(f"## {plain(section.title)}: {plain(measured.frames.name)}\n")
            texts += [f"{plain(line)}\n" for line in section.text]
            for title, table in section.tables:
                texts.append(f"### {plain(title)}\n\n{markdown_table(table)}")
        _write(folder / f"{kind.stem}.md", "\n".join(texts))
        lines.append(f"{kind.title}: [Markdown]({kind.stem}.md)")
        for name in kind.numbers:
            every = [s[number].numbers[name].assign(data=m.frames.name) for s, m in
                     zip(sections, content.measured, strict=True)]  # fmt: skip
            _write(folder / f"{name}.csv", csv(pd.concat(every, ignore_index=True)))
            lines[-1] += f", [{name}]({name}.csv)"
    return lines


def _write_page(
    content: _Content, sections: list[list[Section]], stills: list[list[tuple[str, str, Path]]], folder: Path
) -> None:
    from reports.html.page import page

    parts: list[Part] = []
    for sheet, measured, found, figures in zip(content.sheets, content.measured, sections, stills, strict=True):
        parts.append(_part(content, sheet, measured, found, figures))

    config = (content.run.folder / "config.yaml").read_text(encoding="utf-8")
    title = content.run.folder.resolve().name
    _write(folder / "report.html", page(title, parts, environment_lines(content.run.environment), config))


def _part(
    content: _Content, sheet: Sheet, measured: Measured, sections: list[Section], figures: list[tuple[str, str, Path]]
) -> Part:
    from reports.html.data import failures, plots
    from reports.html.page import Figure, Part
    from reports.html.sprites import encode, still
    from reports.paper import colour

    rows = measured.rows
    return Part(
        sheet=sheet,
        rows=[{"name": row.name, "label": row.label, "colour": colour(row.method)} for row in rows],
        plots=plots(measured.frames, rows),
        sprites=encode(content.run.folder, rows, measured.frames.patients),
        figures=[Figure(title, alternative, still(file)) for title, alternative, file in figures],
        tables=[table for section in sections for table in section.page()],
        failures=failures(measured.frames, content.run),
    )


def _write_index(content: _Content, folder: Path, environment: str, written: list[str]) -> Path:
    lines = [f"# {plain(content.run.folder.resolve().name)}", ""]
    lost = list(dict.fromkeys(line for sheet in content.sheets for line in sheet.incomplete))
    if lost:
        lines += ["**Incomplete run.** Not in the averages:", "", *(f"- {plain(line)}" for line in lost), ""]
    lines += [*(f"- {line}" for line in written), "", f"Environment: {plain(environment)}"]
    for measured in content.measured:
        name = content.name("fig2", measured.frames)
        what = f"Fig. 2: DSC, rigid DSC and relative volume change, {measured.frames.name}"
        lines += ["", f"![{plain(what)}]({name}.png)"]
        if (folder / f"{content.name('fig3', measured.frames)}.png").is_file():
            lines += ["", f"![Fig. 3]({content.name('fig3', measured.frames)}.png)"]
    index = folder / "index.md"
    _write(index, "\n".join([*lines, ""]))
    return index


def _listed(folder: Path) -> set[str]:
    """The files that a report's index names: what an earlier report made, and no file of the reader's own."""
    index = folder / "index.md"
    if not index.is_file():
        return set()
    return set(re.findall(r"\]\(([A-Za-z0-9-]+\.[a-z]+)\)", index.read_text(encoding="utf-8")))


def _slug(frames: Frames) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{frames.dataset}-{frames.split}").strip("-")


def _write(path: Path, text: str) -> None:
    atomic_write(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", newline="\n"))
