"""A run folder of invented values, written by the store and the pictures of the project. Test data, not results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import yaml

from benchmark.results import pictures
from benchmark.results.store import Store
from methods.base import Case, Grid, Pair, Registration, Scan
from reports.paper import TABLE1

TABLE_ROWS = ("initial", "staring", "voxelmorph", "pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice",
              "pc+rigid-field", "volume")  # fmt: skip


def blocks_case(name: str, shape: tuple[int, int, int] = (56, 40, 36), spacing: float = 1.0) -> Case:
    """Three ellipsoids in noise, the fixed ones two voxels further front than the moving."""
    rng = np.random.default_rng(len(name))
    z, y, x = np.mgrid[: shape[0], : shape[1], : shape[2]]

    def labels(shift: int) -> np.ndarray:
        made = np.zeros(shape, np.uint16)
        for i, vertebra in enumerate((22, 21, 20)):
            centre = (i + 0.5) * shape[0] / 3
            inside = ((z - centre) / 7) ** 2 + ((y - shape[1] / 2 - shift) / 9) ** 2 + ((x - shape[2] / 2) / 11) ** 2
            made[inside < 1] = vertebra
        return made

    grid = Grid(shape, (spacing,) * 3)
    moving, fixed = labels(2), labels(0)
    noise = rng.random(shape, np.float32) * 0.1
    mr = Scan((0.6 - 0.3 * (fixed > 0) + noise).astype(np.float32), fixed, grid)
    ct = Scan((0.2 + 0.5 * (moving > 0) + noise).astype(np.float32), moving, grid)
    return Case(Pair(name, mr, ct))


def write_run(
    folder: Path, patients: int = 3, methods: Sequence[str] = ("initial", "staring", "voxelmorph", "pc", "volume"),
    case: Case | None = None, lost: Mapping[tuple[str, int], tuple[str, str]] | None = None, vertebrae: int = 3,
    unavailable: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Write a run of `methods` on `patients` patients into `folder`.

    case: the source of every patient's pictures. lost: (method, patient's number) -> status, error.
    """
    store = Store(folder)
    rows = [{"method": method, "name": method} for method in methods]
    config = {"dataset": {"name": "test-data", "split": "test"}, "methods": rows, "threads": 1, "seed": 0}
    store.write_text("config.yaml", yaml.safe_dump(config))
    environment = {"date": "2026-01-02T03:04:05+00:00", "processor": "A CPU <of tests>", "cores": 2, "python": "3.11.2"}
    store.write_text("environment.json", json.dumps(environment))
    names = [f"test-data-{i:03d}" for i in range(patients)]
    rng = np.random.default_rng(0)
    shown = case or blocks_case(names[0])
    for name in names:
        _write_pair(store, name, rng, vertebrae)
    for method in methods:
        for number, name in enumerate(names):
            status, error = (lost or {}).get((method, number), ("ok", ""))
            if method in unavailable:
                status, error = "unavailable", f"no weights of {method} here"
            _write_cell(store, method, name, status, error, rng, vertebrae)
    _write_pictures(store, shown, names, methods, lost or {}, unavailable)
    (folder / "logs").mkdir(exist_ok=True)
    for method in {m for m, _ in lost or {}}:
        (folder / "logs" / f"{method}@cpu.log").write_text(f"Traceback of {method} </script><b>\n", encoding="utf-8")
    store.write_tables([f"{m}@cpu" for m in methods], names)
    return folder


def _write_pair(store: Store, name: str, rng: np.random.Generator, vertebrae: int) -> None:
    rows = [
        {
            "dataset": "test-data", "split": "test", "case": name, "vertebra": 20 - v,
            "initial_dsc": float(np.clip(rng.normal(0.67, 0.15), 0, 1)), "rigid_fit_dsc": 0.88,
            "soft_rigid_fit_dsc": 0.88,
            "label_volume_difference_pct": abs(float(rng.normal(4, 4))), "voxels_moving": 9000, "voxels_fixed": 9000,
            "touches_border": False, "excluded_reason": None, "true_dsc": 0.9, "true_rigid_dsc": 0.99,
            "true_volume_change_pct": 0.5,
        }
        for v in range(vertebrae)
    ]  # fmt: skip
    store.write_cell("pairs", name, {"fingerprint": "test", "rows": rows})


def _write_cell(
    store: Store, method: str, name: str, status: str, error: str, rng: np.random.Generator, vertebrae: int
) -> None:
    identity = {"dataset": "test-data", "split": "test", "case": name, "method": method, "device": "cpu", "seed": 0}
    cell = {**identity, "fingerprint": "test", "status": status, "error": error or None, "contended": False}
    rows = []
    if status == "ok":
        printed = TABLE1.get(method if method != "volume" else "pc", {})
        seconds = printed.get("seconds", (0.01, None))[0]
        cell |= {"seconds": seconds * float(rng.uniform(0.8, 1.2)), "folding_voxels": int(rng.poisson(0.2)),
                 "folding_pct": 0.0, "sd_log_jacobian": float(rng.uniform(0.1, 0.2)),
                 "sd_log_jacobian_l2r": float(rng.uniform(0.03, 0.05)),
                 "properness": float(rng.uniform(0.01, 0.02)) * (1.5 if method == "volume" else 1),
                 "orthonormality": float(rng.uniform(0.02, 0.03)), "similarity": 0.1}  # fmt: skip
        for v in range(vertebrae):
            drawn = {
                key: float(rng.normal(printed[key][0], (printed[key][1] or 0) / 2))
                for key in ("dsc", "rigid_dsc", "volume_change_pct") if key in printed
            }  # fmt: skip
            rows.append({
                **identity, "vertebra": 20 - v, "dsc": min(1.0, drawn["dsc"]),
                "rigid_dsc": min(1.0, drawn["rigid_dsc"]), "volume_change_pct": abs(drawn["volume_change_pct"]),
                "hd95_mm": float(rng.uniform(1, 4)),
                "soft_dsc": min(1.0, drawn["dsc"]), "soft_rigid_dsc": min(1.0, drawn["rigid_dsc"]),
            })  # fmt: skip
    store.write_cell(f"{method}@cpu", name, {"case": cell, "vertebrae": rows, "notes": {}})


def _write_pictures(
    store: Store, shown: Case, names: Sequence[str], methods: Sequence[str], lost: Mapping[tuple[str, int], object],
    unavailable: Sequence[str],
) -> None:  # fmt: skip
    """Cut from one case with the project's own code; the other patients get copies."""
    first = names[0]
    pictures.save(store, [first], pictures.of_case(shown))
    for i, method in enumerate(methods):
        if method in unavailable:
            continue
        displacement = np.zeros((*shown.pair.grid.shape, 3), np.float32)
        displacement[..., 1] = 2.0 if i else 0.0
        wave = np.sin(np.linspace(0, 6, shown.pair.grid.shape[0], dtype=np.float32))[:, None, None]
        displacement[..., 1] += 0.4 * i * wave
        result = Registration(displacement)
        shift = round(2 + 0.3 * i) if i else 0
        warped = np.roll(shown.pair.moving.labels, -shift, axis=1)
        pictures.save(store, [f"{method}@cpu", first], pictures.of_cell(shown, warped, result, True))
        content = dict(np.load(store.path("pictures", f"{method}@cpu", f"{first}.npz")))
        content.pop("field")
        for number, name in enumerate(names[1:], 1):
            if (method, number) not in lost:
                np.savez(store.path("pictures", f"{method}@cpu", f"{name}.npz"), **content)
        if (method, 0) in lost:
            store.path("pictures", f"{method}@cpu", f"{first}.npz").unlink()
    for name in names[1:]:
        shutil.copy(store.path("pictures", f"{first}.npz"), store.path("pictures", f"{name}.npz"))
