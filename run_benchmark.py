"""The command line: options and help of every command. The commands themselves are in `benchmark/cli/`.

`python run_benchmark.py` without a command runs the quick benchmark. `rigidbench` is the same program, installed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmark.cli import completion
from benchmark.cli.errors import one_line_errors, show_tracebacks
from benchmark.cli.options import (
    QUICK_NOTICE,
    Configuration,
    CtLabels,
    Dataset,
    Devices,
    Engine,
    Evaluate,
    FixedCentroids,
    FixedLabels,
    FixedModality,
    Jobs,
    LabelMap,
    MotionMm,
    MovingLabels,
    MovingModality,
    NoCache,
    OnStale,
    OutputGrid,
    Plugins,
    Repeats,
    Rows,
    Scheduler,
    TrainDataset,
    WithPaper,
)

app = typer.Typer(pretty_exceptions_enable=False, rich_markup_mode=None)
console = Console()


@app.callback(invoke_without_command=True)
def main(
    context: typer.Context, debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False
) -> None:
    """Compare registration methods where bones must stay rigid. Without a command: the quick benchmark.

    Exit status: 0 success; 1 a cell failed or a patient was refused; 2 the request cannot be used.
    """
    show_tracebacks(debug)
    if context.invoked_subcommand is None:
        console.print(QUICK_NOTICE, markup=False, highlight=False, soft_wrap=True)
        run()


@app.command(short_help="Run methods on a dataset and write the report.")
@one_line_errors()
def run(
    config: Configuration = "quick",
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder. The finished cells of an existing folder are kept. Default: runs/CONFIG."),
    ] = None,
    methods: Rows = "",
    dataset: Dataset = "",
    label_map: LabelMap = None,
    evaluate: Evaluate = "",
    device: Devices = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Number of cases, from the first.")] = None,
    repeats: Repeats = None,
    save_fields: Annotated[bool, typer.Option(help="Save displacement fields as NIfTI and ITK transforms.")] = False,
    jobs: Jobs = 1,
    on_stale: OnStale = "redo",
    retry_failed: Annotated[bool, typer.Option(help="Run again the cells that gave no result.")] = False,
    engine: Engine = "local",
    scheduler: Scheduler = "",
    dry_run: Annotated[bool, typer.Option(help="Print cells, faulty files and a time estimate; run nothing.")] = False,
    with_paper: WithPaper = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Run methods on a dataset and write the report: the paper's table, its figures and the statistics.

    An option that is not given keeps the configuration's value. After an interruption the same command continues from
    the last finished cell.

    Examples:

    \b
      rigidbench run
      rigidbench run --config table1 --out runs/table1
      rigidbench run --methods initial,deformable-pc+oc --dataset folders:patients
      rigidbench run --config table1 --dry-run
    """
    from benchmark.cli import run
    from benchmark.cli.requests import run_options, run_request
    from reports.write import Options, write_report

    folder = out or Path("runs") / Path(config).stem
    request = run_request(
        config, methods, dataset, device, limit, save_fields, plugin, repeats, label_map, evaluate
    )  # fmt: skip
    options = run_options(on_stale, retry_failed, jobs, engine, scheduler)
    if dry_run:
        run.dry_run(request, folder, options, console, cache=not no_cache)
        return
    outcome = run.run_config(request, folder, options, console, cache=not no_cache)
    index = write_report(folder, Options(with_paper), console)
    console.print(f"\nReport: {index}", soft_wrap=True)
    raise typer.Exit(outcome.exit_status)


@app.command(short_help="Write the report of a finished run again.")
@one_line_errors()
def report(
    run_folder: Annotated[Path, typer.Argument(help="Folder given to `run --out`.")],
    with_paper: WithPaper = False,
    common: Annotated[
        bool, typer.Option("--common", help="Use only patients for whom every row has a result.")
    ] = False,
    baseline: Annotated[str, typer.Option(help="Row with which significance tests compare the others.")] = "voxelmorph",
    case: Annotated[str, typer.Option(help="Patient in Fig. 3. Default: the one of median DSC.")] = "",
    sagittal: Annotated[
        int | None, typer.Option(help="Sagittal slice in Fig. 3, counted from 1 among the saved slices.")
    ] = None,
    axial: Annotated[
        int | None, typer.Option(help="Axial slice in Fig. 3, counted from 1 among the saved slices.")
    ] = None,
    sweep: Annotated[
        Path | None, typer.Option(help="Folder of `train --sweep`, whose tables the supplement shows.")
    ] = None,
    paper_axes: Annotated[
        bool, typer.Option("--paper-axes", help="Draw Fig. 2 with the paper's axes. Default: fitted to the values.")
    ] = False,
) -> None:
    """Write the report of a finished run again. report/index.md lists its files.

    Examples:

    \b
      rigidbench report runs/table1
      rigidbench report runs/table1 --with-paper --common
    """
    from reports.write import Options, write_report

    options = Options(with_paper, common, baseline, case or None, sagittal, axial, sweep, paper_axes)
    index = write_report(run_folder, options, console)
    console.print(f"\nReport: {index}", soft_wrap=True)


@app.command(short_help="Train methods.")
@one_line_errors()
def train(
    methods: Annotated[
        str, typer.Option(help="Trainable methods or rows of --config, comma-separated.")
    ] = "voxelmorph",
    out: Annotated[
        Path, typer.Option(help="Folder for checkpoints and weights. A training in it is continued.")
    ] = Path("runs/training"),
    config: Annotated[str, typer.Option(help="Built-in configuration or YAML file with rows and a dataset.")] = "",
    dataset: TrainDataset = "",
    profile: Annotated[
        str, typer.Option(help="Training settings: cpu, from-scratch or paper. Default: the configuration's, or cpu.")
    ] = "",
    steps: Annotated[int | None, typer.Option(min=1, help="Steps of all stages. Default: the profile's.")] = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after this time; the same command continues.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda. Default: the profile's.")] = "",
    start: Annotated[Path | None, typer.Option(help="Weights or row to start from. Default: random weights.")] = None,
    val_limit: Annotated[int, typer.Option(min=1, help="Number of validation patients.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of initial weights and data order.")] = 0,
    sweep: Annotated[
        bool, typer.Option(help="Train the paper's tuning series of similarity and smoothness instead.")
    ] = False,
    no_cache: NoCache = False,
    plugin: Plugins = [],
) -> None:
    """Train methods on the training split and select weights on the validation split.

    Training uses no labels of fixed scans.

    Examples:

    \b
      rigidbench train --methods voxelmorph,pc --out runs/training
      rigidbench train --config my_config.yaml --methods my-row --minutes 60
      rigidbench train --sweep --out runs/sweep
    """
    from benchmark.cli.requests import TrainRequest
    from benchmark.cli.train import train
    from reports.figures.training import draw_preview, write_sweep

    request = TrainRequest(
        methods, out, config, dataset, profile, steps, minutes, device, start, val_limit, seed, sweep, not no_cache,
        plugin,
    )  # fmt: skip
    if train(request, draw_preview, console) and sweep:
        console.print(f"Tuning: {write_sweep(out)}", soft_wrap=True)


@app.command(short_help="Time methods on CPU and GPU.")
@one_line_errors()
def runtime(
    methods: Rows = "initial,staring-fast,voxelmorph",
    device: Devices = "cpu,cuda",
    spacings: Annotated[str, typer.Option(help="Voxel spacings of the grids in mm, comma-separated.")] = "2,1.5,1",
    limit: Annotated[int, typer.Option(min=1, help="Number of patients on each grid.")] = 2,
    repeats: Repeats = 3,
    out: Annotated[Path, typer.Option(help="Folder. The finished cells of an existing folder are kept.")] = Path(
        "runs/runtime"
    ),
    plugin: Plugins = [],
) -> None:
    """Time methods on CPU and GPU and on growing volumes, and write a table and a figure.

    Examples:

    \b
      rigidbench runtime
      rigidbench runtime --methods staring,voxelmorph --device cpu --spacings 2,1
    """
    from benchmark.cli.requests import run_request
    from benchmark.cli.runtime import measure, parse_spacings
    from reports.figures.runtime import write_runtime

    grids = parse_spacings(spacings)
    request = run_request("quick", methods, "phantom", device, plugins=plugin, repeats=repeats)
    folders, status = measure(request, grids, limit, out, console)
    index, table = write_runtime(folders, out / "report")
    console.print(table)
    console.print(f"\nReport: {index}", soft_wrap=True)
    raise typer.Exit(status)


@app.command("list", short_help="List methods, datasets, metrics, penalties or configurations.")
@one_line_errors()
def list_names(
    what: Annotated[str, typer.Argument(help="methods, datasets, metrics, penalties or configs.")] = "methods",
    plugin: Plugins = [],
) -> None:
    """List the names that options and configurations can use.

    Examples:

    \b
      rigidbench list
      rigidbench list configs
    """
    from benchmark.cli.listing import list_names

    list_names(what, plugin, console)


@app.command(short_help="Register one pair of files.")
@one_line_errors()
def register(
    method: Annotated[str, typer.Option(help="Name of the method.", autocompletion=completion.methods)],
    fixed: Annotated[Path, typer.Option(help="Fixed image, an MR by default.")],
    moving: Annotated[Path, typer.Option(help="Moving image, a CT in HU by default.")],
    moving_labels: MovingLabels,
    out: Annotated[Path, typer.Option(help="Folder for the displacement, the warped image and the warped labels.")],
    fixed_labels: FixedLabels = None,
    fixed_centroids: FixedCentroids = None,
    grid: OutputGrid = "fixed",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    label_map: LabelMap = None,
    evaluate: Evaluate = "",
    fixed_modality: FixedModality = "mr",
    moving_modality: MovingModality = "ct",
    plugin: Plugins = [],
) -> None:
    """Register a moving to a fixed image that it overlaps, or that it is pre-aligned to on centroids.

    Example:

    \b
      rigidbench register --method deformable-pc+oc --fixed mr.nii.gz --moving ct.nii.gz \\
        --moving-labels ct_seg.nii.gz --out registered
    """
    from benchmark.cli.register import PairFiles, register
    from benchmark.cli.requests import label_settings
    from reports.figures.quality import write_quality

    settings = label_settings(label_map, evaluate, fixed_modality, moving_modality)
    files = PairFiles(fixed, moving, moving_labels, fixed_labels, fixed_centroids, settings)
    slices = register(method, files, out, device, grid, plugin, console)
    picture = write_quality(out / "quality.png", slices, method)
    console.print(f"wrote {picture}", markup=False, soft_wrap=True)


@app.command(short_help="Divide patients into train, val and test.")
@one_line_errors()
def split(
    dataset: Dataset,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random order.")] = 0,
    out: Annotated[
        Path | None, typer.Option(help="New JSON file. Default: data_splits/DIR.json in the working directory.")
    ] = None,
) -> None:
    """Divide patients at random into train, val and test, in the paper's proportions.

    Example:

    \b
      rigidbench split --dataset folders:patients --out patients.json
    """
    from benchmark.cli.split import split

    split(dataset, seed, out, console)


@app.command(short_help="Make CT and MR pairs from one CT.")
@one_line_errors()
def simulate(
    ct: Annotated[Path, typer.Option(help="CT image in HU.")],
    labels: CtLabels,
    out: Annotated[Path, typer.Option(help="Folder for the simulated patients.")],
    count: Annotated[int, typer.Option(min=1, help="Number of patients, each with another motion.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first patient.")] = 0,
    weighting: Annotated[str, typer.Option(help="Weighting of the MR: T1 or T2.")] = "T1",
    exact_labels: Annotated[bool, typer.Option(help="Give the MR exact labels, without an annotator's error.")] = False,
    motion_mm: MotionMm = None,
    label_map: LabelMap = None,
) -> None:
    """Make CT and MR pairs with a known displacement from one CT, in the paper's folder layout.

    displacement.nii.gz maps MR points to CT points (mm, LPS). The points in mr_centroids.json have an annotator's
    error, chosen so that pre-alignment with them does not reduce the simulated motion.

    Example:

    \b
      rigidbench simulate --ct ct.nii.gz --labels ct_seg.nii.gz --out patients --count 5
      rigidbench simulate --ct ct.nii.gz --labels total.nii.gz --label-map totalsegmentator-2 --out patients
    """
    from benchmark.cli.simulate import simulate

    simulate(ct, labels, out, count, seed, weighting, exact_labels, console, label_map, motion_mm)


if __name__ == "__main__":
    app()
