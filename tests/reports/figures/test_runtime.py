"""The runtime table: values worked out by hand, and cells that do not count."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark.results.columns import dtypes
from reports.figures.runtime import markdown, runtime_figure, runtime_table
from reports.paper import label


def cells(*rows: dict) -> pd.DataFrame:
    common = {"dataset": "phantom", "split": "test", "seed": 0, "status": "ok", "contended": False, "machine": "a CPU",
              "threads": 2, "seconds_spread": 0.2, "prepare_seconds": 1.0, "peak_memory_mb": 500.0}  # fmt: skip
    frame = pd.DataFrame([common | row for row in rows]).reindex(columns=list(dtypes("cases")))
    return frame.astype(dtypes("cases"))


@pytest.fixture
def two_devices() -> pd.DataFrame:
    """Staring takes twice as long on eight times the voxels, p = 1/3; the GPU is 8 and 32 times as fast."""
    rows = []
    for case, factor in (("a", 1.0), ("b", 2.0)):
        for voxels, seconds in ((125_000, 4.0), (1_000_000, 8.0)):
            cpu = {"case": case, "voxels": voxels, "seconds": seconds * factor}
            rows.append(cpu | {"method": "voxelmorph", "device": "cpu", "peak_memory_mb": 500 * factor})
            gpu = {"device": "cuda", "seconds": 1.0 if case == "a" else 0.5, "peak_device_memory_mb": 100.0 * factor}
            rows.append(cpu | {"method": "voxelmorph"} | gpu)
            rows.append(cpu | {"method": "staring", "device": "cpu"})
            rows.append(cpu | {"method": "staring", "device": "cuda", "status": "unavailable", "seconds": None,
                               "error": "staring runs on cpu only", "voxels": None})  # fmt: skip
    return cells(*rows)


def test_the_values_are_those_of_the_finest_grid(two_devices: pd.DataFrame) -> None:
    table = runtime_table(two_devices).set_index("method")
    assert list(table.index) == ["staring", "voxelmorph"]
    deep = table.loc["voxelmorph"]
    assert deep["voxels"] == 1_000_000 and deep["cpu_cells"] == 4
    assert deep["cpu_seconds"] == 12.0 and deep["cuda_seconds"] == 0.75
    assert deep["speed_up"] == 20.0, "the median of 8 / 1 and 16 / 0.5, patient by patient"
    assert deep["cpu_memory_mb"] == 1000 and deep["cuda_device_memory_mb"] == 200
    assert deep["cpu_growth"] == pytest.approx(1 / 3) and deep["cuda_growth"] == pytest.approx(0)
    assert deep["cpu_reason"] is None
    classical = table.loc["staring"]
    assert classical["cuda_reason"] == "unavailable: staring runs on cpu only" and np.isnan(classical["speed_up"])


def test_what_is_printed(two_devices: pd.DataFrame) -> None:
    text = markdown(runtime_table(two_devices))
    assert "| VoxelMorph | 1,000,000 | 12 ±0.1 | p = 0.33 |" in text
    assert "unavailable" in next(line for line in text.splitlines() if line.startswith("| Staring"))
    assert "- Staring on cuda: unavailable: staring runs on cpu only" in text
    deep = next(line for line in text.splitlines() if line.startswith("| VoxelMorph"))
    assert "| 0.75 ±0.1 |" in deep and "nan" not in text, "one row without a time takes nobody else's"


def test_times_of_other_patients_machines_or_threads_are_named() -> None:
    of_both = [{"method": method, "device": "cpu", "case": case, "voxels": 1000, "seconds": 2.0}
               for method in ("staring", "voxelmorph") for case in ("a", "b")]  # fmt: skip
    assert "comparable" not in markdown(runtime_table(cells(*of_both)))
    text = markdown(runtime_table(cells(*of_both[1:])))
    assert "Patients timed on cpu: Staring 1, VoxelMorph 2. Medians over different patients are not comparable." in text
    text = markdown(runtime_table(cells(*of_both[:2], *({**row, "threads": 1} for row in of_both[2:]))))
    said = "Times on cpu are not comparable: Staring: a CPU with 2 threads; VoxelMorph: a CPU with 1 thread."
    assert said in text and "Patients timed" not in text


def test_an_error_in_the_notes_stays_text_in_markdown(two_devices: pd.DataFrame) -> None:
    error = two_devices["error"].mask(two_devices["error"].notna(), "no | *bars* here")
    assert "unavailable: no \\| \\*bars\\* here\n" in markdown(runtime_table(two_devices.assign(error=error)))


def test_contended_and_failed_cells_do_not_count() -> None:
    frame = cells(
        {"method": "staring", "device": "cpu", "case": "a", "voxels": 10, "seconds": 1.0},
        {"method": "staring", "device": "cpu", "case": "b", "voxels": 10, "seconds": 9.0, "contended": True},
        {"method": "staring", "device": "cpu", "case": "c", "voxels": 10, "seconds": 9.0, "status": "failed"},
        {"method": "pc", "device": "cpu", "case": "a", "voxels": 10, "seconds": 1.0, "contended": True},
    )
    table = runtime_table(frame).set_index("method")
    assert table.loc["staring", "cpu_seconds"] == 1 and table.loc["staring", "cpu_cells"] == 1
    assert np.isnan(table.loc["staring", "cpu_growth"]), "one size says nothing about growth"
    assert table.loc["pc", "cpu_reason"] == "every cell ran beside others"
    assert "speed_up" not in table


def test_a_figure_is_drawn_with_and_without_a_gpu(two_devices: pd.DataFrame, tmp_path: Path) -> None:
    for frame in (two_devices, two_devices[two_devices["device"] == "cpu"]):
        figure = runtime_figure(frame)
        assert len(figure.axes) == 3
        figure.savefig(tmp_path / "a.png")
        assert (tmp_path / "a.png").stat().st_size > 10_000


def test_logarithmic_axes_begin_at_a_decade_and_have_plain_numbers(two_devices: pd.DataFrame) -> None:
    """Times of 0.8 to 1.4 s: bars that begin at 0.1, and ticks that can be read."""
    alike = two_devices[two_devices["device"] == "cpu"].copy()
    alike["seconds"] = np.linspace(0.8, 1.4, len(alike))
    alike["voxels"] = 5_000_000
    figure = runtime_figure(alike)
    figure.draw_without_rendering()
    assert figure.axes[0].get_xlim()[0] == pytest.approx(0.1, rel=1e-6)
    for axis in (figure.axes[0].xaxis, figure.axes[2].xaxis, figure.axes[2].yaxis):
        low, high = axis.get_view_interval()
        labels = zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)
        shown = [float(tick.get_text()) for tick, at in labels if low <= at <= high]
        assert high / low >= 10 * (1 - 1e-9) and len(shown) >= 2, shown


def test_rows_without_a_time_are_named_and_take_no_place(two_devices: pd.DataFrame) -> None:
    cpu = two_devices[two_devices["device"] == "cpu"]
    name = sorted(set(cpu["method"]) - {"initial"})[0]
    figure = runtime_figure(cpu.assign(contended=cpu["contended"] | (cpu["method"] == name)))
    shown = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert label(name) not in shown and shown
    assert f"No time, see the notes of the table: {label(name)}." in figure.get_supxlabel()
