"""Write the report of a run: the files of its folder `report/`, and Table 1 in the terminal."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.errors import BadInput
from benchmark.results.store import Run, read_run
from reports.curves import curves_section
from reports.environment import environment_line, environment_lines
from reports.figures.training import read_sweep
from reports.frames import quantity
from reports.loss_or_network import loss_or_network_section
from reports.paper import BASELINE
from reports.printing import csv, markdown_text, render, write_text
from reports.run_data import DataSet, data_sets
from reports.sections import (
    Section,
    claims_section,
    measures_section,
    runtime_section,
    statistics_section,
    supplement_section,
)
from reports.stats.intervals import LEAST_PATIENTS
from reports.stats.verdicts import outside_paper
from reports.table1.footnotes import incomplete
from reports.table1.further_measures import measures_latex
from reports.table1.render import latex, markdown, terminal
from reports.table1.sheet import Sheet, make_sheet

if TYPE_CHECKING:
    from rich.console import Console

    from reports.html.page import Part

_TABLE_WIDTH = 160


@dataclass(frozen=True)
class Options:
    """The options of a report.

    Attributes:
        with_paper: Whether the paper's values are printed beside ours.
        common: Whether means include only the patients for whom every row has a result.
        baseline: The method against whose row significance is marked.
        case: The patient of Fig. 3; None for the patient of median DSC.
        sagittal: Fig. 3's sagittal slice among those kept, from 1; None for the one with the most label.
        axial: The same for the axial slice.
        sweep: A folder of `train --sweep`, whose tables go into the supplement; None for the one in the run folder.
        paper_axes: Whether Fig. 2 has the paper's axes; else they are fitted to the values.
    """

    with_paper: bool = False
    common: bool = False
    baseline: str = BASELINE
    case: str | None = None
    sagittal: int | None = None
    axial: int | None = None
    sweep: Path | None = None
    paper_axes: bool = False


@dataclass(frozen=True)
class _Still:
    """A figure that was saved: its title, its text alternative, and its PNG."""

    title: str
    alternative: str
    file: Path


@dataclass(frozen=True)
class _Content:
    """A run as the report takes it: a sheet for each data set, and the table of a tuning, if there is one."""

    run: Run
    options: Options
    sheets: list[Sheet]
    sweep: pd.DataFrame | None

    def name(self, stem: str, data: DataSet) -> str:
        """The name of a file; a run of several data sets adds the data set's name."""
        return stem if len(self.sheets) == 1 else f"{stem}-{_slug(data)}"


def write_report(run_folder: Path, options: Options | None = None, console: Console | None = None) -> Path:
    """Write the report of a run into its folder `report/`.

    A run of several data sets has figures for each, named after it, and tables for each in the same files. The same run
    gives the same bytes. Files of an earlier report that this one does not have are removed.

    Args:
        run_folder: A run folder with at least one finished cell.
        options: The report's options; None for the defaults.
        console: Where Table 1 is printed too; None prints nothing.

    Returns:
        The report's index, `report/index.md`, which links every other file.

    Raises:
        BadInput: The folder holds no run, or the run cannot meet an option.
    """
    content = _read(run_folder, options or Options())
    folder = content.run.folder / "report"
    folder.mkdir(parents=True, exist_ok=True)
    before = _listed(folder)
    environment = environment_line(content.run.environment)
    written = _tables(content, folder, environment)
    stills: list[list[_Still]] = []
    for sheet in content.sheets:
        lines, figures = _figures(content, sheet.data, folder)
        written += lines
        stills.append(figures)
    sections = [_sections(content, sheet) for sheet in content.sheets]
    written += _write_sections(content, sections, folder)
    _write_page(content, sections, stills, folder)
    written.insert(0, "[HTML report](report.html): the whole report in one file, for a browser without a network")
    index = _write_index(content, folder, environment, written)
    for name in before - _listed(folder):
        (folder / name).unlink(missing_ok=True)
    if console is not None:
        _print(content, console)
    return index


def _print(content: _Content, console: Console) -> None:
    given = console.width
    # A pipe or a log has no width: the table is then printed in its full width.
    console.width = given if console.is_terminal else max(given, _TABLE_WIDTH)
    try:
        for sheet in content.sheets:
            console.print(terminal(sheet, console.width))
    finally:
        console.width = given


def _read(run_folder: Path, options: Options) -> _Content:
    run = read_run(run_folder)
    known = set(run.cases["method"])
    if options.baseline != BASELINE and options.baseline not in known:
        raise BadInput(f"--baseline {options.baseline}: expected a row of the run, one of {', '.join(sorted(known))}")
    everything = data_sets(run)
    kept = _common(everything) if options.common else everything
    sheets = [make_sheet(data, options.with_paper, True, options.baseline) for data in kept]
    if options.common:
        patients, everyone = (sum(data.cases["case"].nunique() for data in part) for part in (kept, everything))
        lines = [
            f"Common patients only (--common): the {patients} of {everyone} for whom every row with a result has one.",
            # Missing cells of all patients are listed, also of those that the means leave out.
            *(line for data in everything for line in incomplete(data)),
        ]
        sheets = [replace(sheet, incomplete=lines) for sheet in sheets]
    return _Content(run, options, sheets, _sweep(run, options))


def _common(everything: list[DataSet]) -> list[DataSet]:
    """The data sets restricted to common patients; a data set without any is left out."""
    kept = [common for data in everything if len((common := data.common_patients()).cases)]
    if not kept:
        everyone = sum(data.cases["case"].nunique() for data in everything)
        raise BadInput(f"--common: expected a patient for whom every row has a result, found none of {everyone}")
    return kept


def _sweep(run: Run, options: Options) -> pd.DataFrame | None:
    """The tuning's table: of the folder that was named, else of one in the run folder."""
    named = options.sweep
    for folder in (named,) if named is not None else (run.folder, run.folder / "sweep"):
        if (table := read_sweep(folder)) is not None:
            return table
    if named is not None:
        raise BadInput(f"--sweep {named}: expected a folder that `train --sweep --out {named}` finished")
    return None


def _tables(content: _Content, folder: Path, environment: str) -> list[str]:
    from reports.html.page import table_page

    write_text(folder / "table1.md", markdown(content.sheets, environment))
    write_text(folder / "table1.csv", csv(pd.concat([sheet.table for sheet in content.sheets], ignore_index=True)))
    write_text(folder / "table1.tex", latex(content.sheets))
    write_text(folder / "table1.html", table_page(content.sheets))
    write_text(folder / "measures.tex", measures_latex([sheet.data for sheet in content.sheets]))
    return ["Table 1: [Markdown](table1.md), [CSV](table1.csv), [LaTeX](table1.tex), [HTML](table1.html)"]


def _figures(content: _Content, data: DataSet, folder: Path) -> tuple[list[str], list[_Still]]:
    """Draw and save a data set's figures. Out: the index's lines, and the figures of the page, which draws Fig. 2."""
    from reports.figures.catalogue import draw_all
    from reports.figures.drawing import save

    options = content.options
    # Only one of several data sets has the patient; Fig. 3 of the others shows a patient of median DSC.
    case = None if len(content.sheets) > 1 and options.case not in data.patients else options.case
    sweep = content.sweep if data is content.sheets[0].data else None
    lines, stills = [], []
    for drawn in draw_all(data, content.run.folder, case, options.sagittal, options.axial, sweep,
                          options.paper_axes):  # fmt: skip
        name = content.name(drawn.stem, data) if drawn.stem != "tuning" else drawn.stem
        stills.append(_Still(drawn.title, drawn.alternative, save(drawn.figure, folder / name)[0]))
        title = f"{markdown_text(drawn.title)} ({markdown_text(data.name)})"
        lines.append(f"{title}: [PNG]({name}.png), [PDF]({name}.pdf), [SVG]({name}.svg)")
    return lines, stills[1:]


def _sections(content: _Content, sheet: Sheet) -> list[Section]:
    data = sheet.data
    sections = [
        measures_section(data),
        *([] if _no_claims(data) else [claims_section(data)]),
        *([section] if not _few(data) and (section := loss_or_network_section(data)) else []),
        *([section] if (section := curves_section(data)) is not None else []),
        *([] if _few(data) else [statistics_section(data, sheet.tests, content.options.baseline)]),
        supplement_section(data, content.sweep),
        runtime_section(data, environment_line(content.run.environment)),
    ]
    if not sheet.incomplete:
        return sections
    warning = (
        "Incomplete run: table1.md lists what is missing. Two rows are compared on the patients with a result of both."
    )
    return [replace(section, text=[warning, *section.text]) for section in sections]


def _write_sections(content: _Content, sections: list[list[Section]], folder: Path) -> list[str]:
    lines = []
    named = [
        (sheet.data.name, section) for sheet, part in zip(content.sheets, sections, strict=True) for section in part
    ]
    for stem in dict.fromkeys(section.stem for _, section in named):
        same = [(name, section) for name, section in named if section.stem == stem]
        write_text(folder / f"{stem}.md", render("sections.md", sections=same))
        latex_file = ", [LaTeX](measures.tex)" if stem == "measures" else ""
        lines.append(f"{same[0][1].title}: [Markdown]({stem}.md){latex_file}")
        for key in dict.fromkeys(key for _, section in same for key in section.numbers):
            tables = [section.numbers[key].assign(data=name) for name, section in same if key in section.numbers]
            write_text(folder / f"{key}.csv", csv(pd.concat(tables, ignore_index=True)))
            lines[-1] += f", [{key}]({key}.csv)"
    for data in (sheet.data for sheet in content.sheets):
        name = markdown_text(data.name)
        if few := _few(data):
            lines.append(f"No statistics and no claims: {name} has {few}")
        elif outside := _no_claims(data):
            lines.append(f"No claims of the paper for {name}: {outside}")
    return lines


def _few(data: DataSet) -> str:
    """How many patients the data set has, where they are too few for a test; "" where they are enough."""
    if data.independent_patients >= LEAST_PATIENTS:
        return ""
    return f"{quantity(data.independent_patients, 'patient', 'patients')}, and a test needs {LEAST_PATIENTS}"


def _no_claims(data: DataSet) -> str:
    """Why the paper's claims are not tested; "" where they are."""
    return _few(data) or outside_paper(data)


def _write_page(content: _Content, sections: list[list[Section]], stills: list[list[_Still]], folder: Path) -> None:
    from reports.html.page import page

    parts = [_part(content, *part) for part in zip(content.sheets, sections, stills, strict=True)]
    config = (content.run.folder / "config.yaml").read_text(encoding="utf-8")
    title = content.run.folder.resolve().name
    write_text(folder / "report.html", page(title, parts, environment_lines(content.run.environment), config))


def _part(content: _Content, sheet: Sheet, sections: list[Section], stills: list[_Still]) -> Part:
    from reports.html.data import failures, plots
    from reports.html.page import Figure, Part
    from reports.html.sprites import encode, still
    from reports.paper import colour

    data = sheet.data
    return Part(
        sheet=sheet,
        rows=[{"name": row.name, "label": row.label, "colour": colour(row.method)} for row in data.rows],
        plots=plots(data),
        sprites=encode(content.run.folder, data.rows, data.patients),
        figures=[Figure(figure.title, figure.alternative, still(figure.file)) for figure in stills],
        sections=sections,
        failures=failures(data, content.run),
    )


def _write_index(content: _Content, folder: Path, environment: str, written: list[str]) -> Path:
    incomplete_lines = list(dict.fromkeys(line for sheet in content.sheets for line in sheet.incomplete))
    pictures = []
    for data in (sheet.data for sheet in content.sheets):
        text = f"Fig. 2: DSC, rigid DSC and relative volume change, {data.name}"
        pictures.append((text, f"{content.name('fig2', data)}.png"))
        fig3 = f"{content.name('fig3', data)}.png"
        if (folder / fig3).is_file():
            pictures.append(("Fig. 3", fig3))
    title = content.run.folder.resolve().name
    index = folder / "index.md"
    text = render("index.md", title=title, incomplete=incomplete_lines, files=written, environment=environment,
                  pictures=pictures)  # fmt: skip
    write_text(index, text)
    return index


def _listed(folder: Path) -> set[str]:
    """The files that a report's index lists. Other files in the folder are the user's and are kept."""
    index = folder / "index.md"
    if not index.is_file():
        return set()
    return set(re.findall(r"\]\(([A-Za-z0-9-]+\.[a-z]+)\)", index.read_text(encoding="utf-8")))


def _slug(data: DataSet) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", f"{data.dataset}-{data.split}").strip("-")
