"""Options of commands, as types of Typer's parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli import completion

QUICK_NOTICE = (
    "Quick benchmark: every row of Table 1 on four embedded phantom patients, into runs/quick; some minutes on two "
    "cores, and Ctrl-C keeps what is finished. --help lists the other commands."
)

Plugins = Annotated[
    list[Path],
    typer.Option(
        "--plugin",
        help="Python file that adds methods, datasets, metrics or penalties. It is executed. Repeat it for more files.",
    ),
]
Dataset = Annotated[
    str,
    typer.Option(help="NAME or NAME:ARGUMENT, for example folders:DIR.", autocompletion=completion.datasets),
]
Configuration = Annotated[
    str,
    typer.Option(
        help="Built-in configuration (`rigidbench list configs` shows them) or YAML file.",
        autocompletion=completion.configurations,
    ),
]
Jobs = Annotated[
    int, typer.Option(min=1, help="Number of cells that run at the same time. Above 1, Table 1 shows no times.")
]
TrainDataset = Annotated[
    str,
    typer.Option(
        help="NAME or NAME:ARGUMENT, for example folders:DIR. Default: the configuration's, or phantom.",
        autocompletion=completion.datasets,
    ),
]
Rows = Annotated[str, typer.Option("--methods", help="Rows, comma-separated.", autocompletion=completion.methods)]
Devices = Annotated[
    str, typer.Option("--device", help="Devices, comma-separated: cpu, cuda.", autocompletion=completion.devices)
]
Repeats = Annotated[int | None, typer.Option(min=1, help="Registrations of each pair; the median time counts.")]
WithPaper = Annotated[bool, typer.Option("--with-paper", help="Show the paper's values beside these results.")]
NoCache = Annotated[bool, typer.Option("--no-cache", help="Generate every phantom again and keep none on disk.")]

LabelMap = Annotated[
    str | None,
    typer.Option(
        help="Scheme of the label ids, if they are not VerSe's: totalsegmentator-1, totalsegmentator-2 (or "
        "totalsegmentator), totalsegmentator-mr, spineps, spider or a YAML file. Different schemes of two scans: "
        "ct=totalsegmentator-2,mr=verse.",
        autocompletion=completion.label_maps,
    ),
]
Evaluate = Annotated[
    str,
    typer.Option(
        help="Part of the moving labels that is compared: vertebrae, or bodies for fixed labels that show vertebral "
        "bodies alone. Default: vertebrae.",
        autocompletion=completion.one_of("vertebrae", "bodies"),
    ),
]
FixedModality = Annotated[
    str,
    typer.Option(
        help="What the fixed scan is: ct (HU), cbct or mr (any unit).",
        autocompletion=completion.one_of("ct", "cbct", "mr"),
    ),
]
MovingModality = Annotated[
    str, typer.Option(help="What the moving scan is.", autocompletion=completion.one_of("ct", "cbct", "mr"))
]
MovingLabels = Annotated[
    Path,
    typer.Option(help="Vertebra labels of the moving image, on its grid; or TotalSegmentator's folder of masks."),
]
CtLabels = Annotated[
    Path, typer.Option(help="Vertebra labels of the CT, on its grid; or TotalSegmentator's folder of masks.")
]
FixedLabels = Annotated[
    Path | None,
    typer.Option(
        help="Vertebra labels of the fixed scan, on its grid. With them the measures are printed, and the pair is "
        "pre-aligned on their centroids, as in `run`. The method does not get them."
    ),
]
FixedCentroids = Annotated[
    Path | None,
    typer.Option(
        help="Vertebra centroids of the fixed scan (JSON, LPS mm), to pre-align on. Default: those of --fixed-labels; "
        "without either the pair is not pre-aligned."
    ),
]
OutputGrid = Annotated[
    str,
    typer.Option(
        help="Grid of the written images: fixed (of the fixed scan) or 1mm (of the methods, around the labels).",
        autocompletion=completion.one_of("fixed", "1mm"),
    ),
]
OnStale = Annotated[
    str,
    typer.Option(
        help="Cells made with other settings, data or code: redo, keep or fail.",
        autocompletion=completion.one_of("redo", "keep", "fail"),
    ),
]
Engine = Annotated[
    str,
    typer.Option(
        help="Where cells run: local (this machine) or dask (a cluster).",
        autocompletion=completion.one_of("local", "dask"),
    ),
]
MotionMm = Annotated[
    float | None, typer.Option(help="Motion of the vertebrae, RMS in mm, 1.2 to 14. Default: drawn for each patient.")
]
Scheduler = Annotated[
    str, typer.Option(help="Address of the dask scheduler, tcp://HOST:8786. Default: start one on this machine.")
]
