"""The door: every command of rigidbench. `python run_benchmark.py` alone runs the quick benchmark."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.cli import completion

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console()
debugging = False

Plugins = Annotated[
    list[Path],
    typer.Option("--plugin", help="A Python file with a method, dataset, metric or penalty of yours. It is run."),
]
Dataset = Annotated[
    str, typer.Option(help="NAME or NAME:ARGUMENT, as folders:DIR.", autocompletion=completion.datasets)
]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Show the paper's own figures beside ours.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Make every phantom anew; keep none on disk.")]


@app.callback(invoke_without_command=True)
def main(context: typer.Context, debug: Annotated[bool, typer.Option(help="Show tracebacks.")] = False) -> None:
    """Compare registration methods where bones must stay rigid. Without a command: the quick benchmark."""
    global debugging
    debugging = debug
    if context.invoked_subcommand is None:
        run()


@app.command(short_help="Run methods on a dataset, then make the report.")
def run(
    config: Annotated[
        str,
        typer.Option(
            help="A built-in configuration (see `list configs`) or a YAML file.",
            autocompletion=completion.configurations,
        ),
    ] = "quick",
    out: Annotated[
        Path | None, typer.Option(help="Run folder; one that exists is completed. Default: runs/CONFIG.")
    ] = None,
    methods: Annotated[
        str,
        typer.Option(help="Comma-separated rows instead of the configuration's.", autocompletion=completion.methods),
    ] = "",
    dataset: Dataset = "",
    device: Annotated[str, typer.Option(help="Comma-separated: cpu, cuda.", autocompletion=completion.devices)] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many cases.")] = None,
    repeats: Annotated[int | None, typer.Option(min=1, help="Register each pair so often; the median counts.")] = None,
    save_fields: Annotated[bool, typer.Option(help="Keep every displacement field as NIfTI.")] = False,
    jobs: Annotated[
        int, typer.Option(min=1, help="Cells beside each other. Table 1 leaves out the time of such cells.")
    ] = 1,
    on_stale: Annotated[
        str,
        typer.Option(
            help="Cells made with other settings, data or code: redo, keep or fail.",
            autocompletion=completion.one_of("redo", "keep", "fail"),
        ),
    ] = "redo",
    retry_failed: Annotated[bool, typer.Option(help="Run cells again that gave no result.")] = False,
    engine: Annotated[
        str,
        typer.Option(
            help="Where cells run: local, or dask, a cluster.", autocompletion=completion.one_of("local", "dask")
        ),
    ] = "local",
    scheduler: Annotated[str, typer.Option(help="Of the dask cluster, tcp://HOST:8786. Default: one of here.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Print the cells and an estimate of time; run nothing.")] = False,
    with_paper: WithPaper = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Run methods on a dataset and make the report: the paper's table and figures, and what stands around them."""
    with one_line_errors():
        from benchmark.cli import run
        from benchmark.cli.requests import request
        from reports.write import Options, write_report

        folder = out or Path("runs") / Path(config).stem
        wanted = request(config, methods, dataset, device, limit, save_fields, plugin, repeats)
        how = run.how(on_stale, retry_failed, jobs, engine, scheduler)
        if dry_run:
            run.dry_run(wanted, folder, how, console)
            return
        outcome = run.run_config(wanted, folder, how, console, cache=not no_cache)
        index = write_report(folder, Options(with_paper), console)
        console.print(f"\nReport: {index}", soft_wrap=True)
    raise typer.Exit(outcome.exit_status)


@app.command(short_help="Make the report of a finished run again.")
def report(
    run_folder: Path,
    with_paper: WithPaper = False,
    common: Annotated[bool, typer.Option("--common", help="Only patients on whom every row has a result.")] = False,
    baseline: Annotated[str, typer.Option(help="The row against which significance is marked.")] = "voxelmorph",
    case: Annotated[str, typer.Option(help="Fig. 3's patient. Default: the one of median DSC.")] = "",
    sagittal: Annotated[int | None, typer.Option(help="Fig. 3's sagittal slice, of those kept, from 1.")] = None,
    axial: Annotated[int | None, typer.Option(help="Fig. 3's axial slice, of those kept, from 1.")] = None,
    sweep: Annotated[Path | None, typer.Option(help="A folder of `train --sweep`, for the supplement.")] = None,
) -> None:
    """Make the report of a finished run again: report/index.md lists what it holds."""
    with one_line_errors():
        from reports.write import Options, write_report

        options = Options(with_paper, common, baseline, case or None, sagittal, axial, sweep)
        index = write_report(run_folder, options, console)
        console.print(f"\nReport: {index}", soft_wrap=True)


@app.command(short_help="Train methods, or with --sweep tune them.")
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
    start: Annotated[Path | None, typer.Option(help="Weights to begin from (.safetensors), instead of random.")] = None,
    val_limit: Annotated[int, typer.Option(min=1, help="Validation patients that judge the weights.")] = 8,
    seed: int = 0,
    sweep: Annotated[bool, typer.Option(help="Instead: the paper's tuning of similarity and smoothness.")] = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Train methods on the training split, judged on the validation split; fixed labels are never trained on."""
    with one_line_errors():
        from benchmark.cli.requests import TrainRequest
        from benchmark.cli.requests import train as fit
        from reports.figures.training import draw_preview, write_sweep

        asked = TrainRequest(
            methods,
            out,
            config,
            dataset,
            profile,
            steps,
            minutes,
            device,
            start,
            val_limit,
            seed,
            sweep,
            not no_cache,
            plugin,
        )
        if fit(asked, draw_preview, console) and sweep:
            console.print(f"Tuning: {write_sweep(out)}", soft_wrap=True)


@app.command(short_help="Time methods on CPU and GPU.")
def runtime(
    methods: Annotated[
        str, typer.Option(help="Comma-separated rows.", autocompletion=completion.methods)
    ] = "initial,staring-fast,voxelmorph",
    device: Annotated[
        str, typer.Option(help="Comma-separated: cpu, cuda.", autocompletion=completion.devices)
    ] = "cpu,cuda",
    spacings: Annotated[str, typer.Option(help="Grids by their spacing in mm.")] = "2,1.5,1",
    limit: Annotated[int, typer.Option(min=1, help="Patients on each grid.")] = 2,
    repeats: Annotated[int, typer.Option(min=1, help="Register each pair so often; the median counts.")] = 3,
    out: Annotated[Path, typer.Option(help="Folder; one that exists is completed.")] = Path("runs/runtime"),
    plugin: Plugins = [],
) -> None:
    """Time methods on CPU and GPU and on growing volumes: a table and a figure."""
    with one_line_errors():
        from benchmark.cli import runtime as measuring
        from benchmark.cli.requests import request
        from benchmark.execution.runner import RunOptions
        from reports.figures.runtime import write_runtime

        sizes = measuring.Sizes(measuring.parse_spacings(spacings), limit)
        wanted = request("quick", methods, "phantom", device, None, False, plugin, repeats)
        folders, status = measuring.measure(wanted, sizes, out, RunOptions(), console)
        index, table = write_runtime(folders, out / "report")
        console.print(table)
        console.print(f"\nReport: {index}", soft_wrap=True)
    raise typer.Exit(status)


@app.command("list")
def list_(
    what: Annotated[str, typer.Argument(help="methods, datasets, metrics, penalties or configs.")] = "methods",
    plugin: Plugins = [],
) -> None:
    """List what can be named."""
    with one_line_errors():
        from benchmark.cli.requests import listing

        listing(what, plugin, console)


@app.command(short_help="Register one pair of files.")
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
        from benchmark.cli.requests import register as register_pair

        register_pair(method, fixed, moving, moving_labels, out, device, plugin, console)


@app.command(short_help="Divide patients into train, val and test.")
def split(
    dataset: Dataset,
    seed: Annotated[int, typer.Option(min=0, help="Of the random order.")] = 0,
    out: Annotated[Path | None, typer.Option(help="A new JSON file. Default: data_splits/DIR.json.")] = None,
) -> None:
    """Divide patients into train, val and test, in the paper's proportions."""
    with one_line_errors():
        from benchmark.cli.requests import split as divide

        divide(dataset, seed, out, console)


@app.command(short_help="Make CT and MR pairs from one CT.")
def simulate(
    ct: Annotated[Path, typer.Option(help="A CT in HU.")],
    labels: Annotated[Path, typer.Option(help="Its vertebra labels (VerSe ids).")],
    out: Annotated[Path, typer.Option(help="Folder for the simulated patients.")],
    count: Annotated[int, typer.Option(min=1, help="How many motions.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first.")] = 0,
    weighting: Annotated[str, typer.Option(help="Of the MR: T1 or T2.")] = "T1",
    exact_labels: Annotated[bool, typer.Option(help="Give the MR the moved labels, not what a reader draws.")] = False,
) -> None:
    """Make CT and MR pairs with a known displacement from one CT, in the paper's folder layout.

    displacement.nii.gz leads from MR points to CT points (mm, LPS); mr_centroids.json has the error of an observer that
    leaves the pair as far apart as it was moved.
    """
    with one_line_errors():
        from benchmark.cli.requests import simulate as make

        make(ct, labels, out, count, seed, weighting, exact_labels, console)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What cannot be used ends with one line on stderr and status 2, what could not be finished with status 1."""
    from benchmark.errors import BadInput, Stopped

    try:
        yield
    except (typer.Exit, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:
        if debugging:
            raise
        if isinstance(error, BadInput | Stopped):
            said = str(error)
        elif isinstance(error, OSError) and error.filename:
            said = f"{error.filename}: {error.strerror}"
        else:
            said = f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; --debug shows where"
        typer.echo(f"error: {said}", err=True)
        raise typer.Exit(2 if isinstance(error, BadInput) else 1) from None


if __name__ == "__main__":
    app()
