"""The door: every command of rigidbench. `python run_benchmark.py` alone runs the quick benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console()
debugging = False

Plugins = Annotated[
    list[Path],
    typer.Option("--plugin", help="A Python file with a method, dataset, metric or penalty of yours. It is run."),
]
Dataset = Annotated[str, typer.Option(help="NAME or NAME:ARGUMENT, as folders:DIR.")]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Show the paper's own figures beside ours.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Make every phantom anew; keep none on disk.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context, debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False) -> None:
    """Compare registration methods where bones must stay rigid. Without a command: the quick benchmark."""
    global debugging
    debugging = debug
    if context.invoked_subcommand is None:
        run()


@app.command()
def run(
    config: Annotated[
        str, typer.Option(help="A built-in configuration (see `list configs`) or a YAML file.")
    ] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; one that exists is completed. Default: runs/CONFIG.")
    ] = None,
    methods: Annotated[str, typer.Option(help="Comma-separated rows instead of the configuration's.")] = "",
    dataset: Dataset = "",
    device: Annotated[str, typer.Option(help="Comma-separated: cpu, cuda.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many cases.")] = None,
    save_fields: Annotated[bool, typer.Option(help="Keep every displacement field as NIfTI.")] = False,
    on_stale: Annotated[
        str, typer.Option(help="Cells made with other settings, data or code: redo, keep or fail.")
    ] = "redo",
    with_paper: WithPaper = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Run methods on a dataset, then report: Table 1, Fig. 2, Fig. 3 and what stands around them."""
    with one_line_errors():
        from benchmark.commands import request, run_config
        from reports.write import Options, write_report

        folder = out or Path("runs") / Path(config).stem
        wanted = request(config, methods, dataset, device, limit, save_fields, plugin)
        outcome = run_config(wanted, folder, on_stale, console, cache=not no_cache)
        index = write_report(folder, Options(with_paper), console)
        console.print(f"\nReport: {index}", soft_wrap=True)
    raise typer.Exit(outcome.exit_status)


@app.command()
def report(
    run_folder: Path,
    with_paper: WithPaper = False,
    common: Annotated[bool, typer.Option("--common", help="Only patients on whom every row has a result.")] = False,
    baseline: Annotated[str, typer.Option(help="The row against which significance is marked.")] = "voxelmorph",
    case: Annotated[str, typer.Option(help="Fig. 3's patient. Default: the one of median DSC.")] = "",
    sagittal: Annotated[int | None, typer.Option(help="Fig. 3's sagittal slice, of those kept, from 0.")] = None,
    axial: Annotated[int | None, typer.Option(help="Fig. 3's axial slice, of those kept, from 0.")] = None,
    sweep: Annotated[Path | None, typer.Option(help="A folder of `train --sweep`, for the supplement.")] = None,
) -> None:
    """Make the report of a finished run again: report/index.md lists what it holds."""
    with one_line_errors():
        from reports.write import Options, write_report

        options = Options(with_paper, common, baseline, case or None, sagittal, axial, sweep)
        index = write_report(run_folder, options, console)
        console.print(f"\nReport: {index}", soft_wrap=True)


@app.command()
def train(
    methods: Annotated[
        str, typer.Option(help="Comma-separated methods that learn, or rows of --config.")
    ] = "voxelmorph",
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and weights; a training begun there goes on.")
    ] = Path("runs/training"),
    config: Annotated[str, typer.Option(help="A configuration with rows and a dataset of yours.")] = "",
    dataset: Annotated[
        str, typer.Option(help="NAME or NAME:ARGUMENT, as folders:DIR. Default: the configuration's, or phantom.")
    ] = "",
    profile: Annotated[str, typer.Option(help="How: cpu (the default) or paper.")] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps instead of the profile's own.")] = None,
    minutes: Annotated[float | None, typer.Option(min=0, help="Stop after so many; run again to go on.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "",
    val_limit: Annotated[int, typer.Option(min=1, help="Validation patients that judge the weights.")] = 8,
    seed: int = 0,
    sweep: Annotated[bool, typer.Option(help="Instead: the paper's tuning of similarity and smoothness.")] = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Train methods on the training split, judged on the validation split; fixed labels are never trained on."""
    with one_line_errors():
        from benchmark.commands import TrainRequest
        from benchmark.commands import train as fit
        from reports.training import draw_glimpse, write_sweep

        asked = TrainRequest(
            methods, out, config, dataset, profile, steps, minutes, device, val_limit, seed, sweep, not no_cache, plugin
        )
        if fit(asked, draw_glimpse, console) and sweep:
            console.print(f"Tuning: {write_sweep(out)}", soft_wrap=True)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, datasets, metrics, penalties or configs.")], plugin: Plugins = []
) -> None:
    """List what can be named."""
    with one_line_errors():
        from benchmark.commands import listing

        listing(what, plugin, console)


@app.command()
def register(
    method: Annotated[str, typer.Option(help="A method's name.")],
    fixed: Annotated[Path, typer.Option(help="The MR.")],
    moving: Annotated[Path, typer.Option(help="The CT, in HU.")],
    moving_labels: Annotated[Path, typer.Option(help="The CT's vertebra labels (VerSe ids), on the CT's grid.")],
    out: Annotated[Path, typer.Option(help="Folder for displacement, warped CT and warped labels.")],
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    plugin: Plugins = [],
) -> None:
    """Register one pair of files that lie roughly on each other already."""
    with one_line_errors():
        from benchmark.commands import register as register_pair

        register_pair(method, fixed, moving, moving_labels, out, device, plugin, console)


@app.command()
def split(
    dataset: Dataset,
    seed: Annotated[int, typer.Option(min=0, help="Of the random order.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A new JSON file. Default: data_splits/DIR.json.")] = None,
) -> None:
    """Divide patients into train, val and test, in the paper's proportions."""
    with one_line_errors():
        from benchmark.commands import split as divide

        divide(dataset, seed, out, console)


@app.command()
def simulate(
    ct: Annotated[Path, typer.Option(help="A CT in HU.")],
    labels: Annotated[Path, typer.Option(help="Its vertebra labels (VerSe ids).")],
    out: Annotated[Path, typer.Option(help="Folder for the simulated patients.")],
    count: Annotated[int, typer.Option(min=1, help="How many motions.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 0,
    weighting: Annotated[str, typer.Option(help="Of the MR: T1 or T2.")] = "T1",
    exact_labels: Annotated[bool, typer.Option(help="Give the MR the moved labels, not what a reader draws.")] = False,
) -> None:
    """Make CT and MR pairs with a known displacement from one CT, in the paper's folder layout."""
    with one_line_errors():
        from benchmark.commands import simulate as make

        make(ct, labels, out, count, seed, weighting, exact_labels, console)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A request or an input that cannot be used ends with one line on stderr and status 2."""
    from benchmark.errors import BadInput

    try:
        yield
    except BadInput as error:
        if debugging:
            raise
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
