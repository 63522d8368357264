"""Registrations by elastix, each in a process of its own.

Importing itk's elastix takes up to 20 s, and two registrations must not share a process. This file is therefore a
script too: it imports itk once and runs each job of `JOBS` in a fork. The tests check the results of the jobs.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from support.elastix_pairs import (
    FLIPPED,
    OBLIQUE,
    SHAPE,
    bone,
    centred,
    orthonormality_error,
    pair_of,
    rotation,
    stretched,
    turned,
)
from support.running_threads import running_threads
from support.slab_case import job_coarse_slab, job_slab  # noqa: F401 - found by its name

from methods.base import Grid, Pair, Scan
from methods.elastix import staring
from methods.registry import create_method


def method(settings: dict[str, Any] | None = None, name: str = "staring-fast", **changed: str) -> staring.Staring:
    """A prepared method; `changed` are elastix parameters in place of the file's."""
    made = create_method(name, settings)
    assert isinstance(made, staring.Staring)
    made.prepare("cpu", 2, 0)
    made.parameters.update({name: (value,) for name, value in changed.items()})
    return made


def job_exact() -> dict[str, Any]:
    """The displacement, the transform evaluated at points, and elastix's result image, on an oblique grid."""
    pair, _ = turned()
    caught: dict[str, Any] = {}
    index = np.random.default_rng(1).integers(0, OBLIQUE.shape, (300, 3))

    original = staring._displacement

    def record(moving: Any, elastix: Any, folder: Path) -> np.ndarray:
        import itk

        transform = elastix.ConvertToItkTransform(elastix.GetNthTransform(0))
        points = index[:, ::-1] * np.asarray(OBLIQUE.spacing_mm)
        caught["goes_to"] = np.array([tuple(transform.TransformPoint(p.tolist())) for p in points])
        caught["result"] = itk.array_from_image(elastix.GetOutput())
        return original(moving, elastix, folder)

    staring._displacement = record
    registration = method(WriteResultImage="true", MaximumNumberOfIterations="30").register(pair)
    registration.check(OBLIQUE)
    return {"pair": pair, "displacement": registration.displacement_mm, "index": index, **caught}


def job_translation(settings: dict[str, Any] | None = None, **changed: str) -> dict[str, Any]:
    shift = np.array([2.0, -1.5, 1.0])
    pair = pair_of(Grid(SHAPE, direction=FLIPPED), np.broadcast_to(shift, (*SHAPE, 3)))
    result = method(settings, MaximumNumberOfIterations="40", **changed).register(pair)
    return {"error": np.linalg.norm(result.displacement_mm - shift, axis=-1)[bone(pair)], **result.notes}


def job_short() -> dict[str, Any]:
    short = dict.fromkeys(("FixedInternalImagePixelType", "MovingInternalImagePixelType"), "short")
    return {**job_translation({"changes": short}), "not_replaced": job_translation(**short)["warning"]}


def job_free() -> dict[str, Any]:
    pair = stretched()
    registration = method({"rigidity_weight": 0}, MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_penalised() -> dict[str, Any]:
    pair = stretched()
    registration = method({"rigidity_weight": 50}, MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_flexion() -> dict[str, Any]:
    """Flexion on a flipped grid with a strong penalty, which must not hinder a rotation."""
    grid = Grid(SHAPE, direction=FLIPPED)
    truth = centred(grid) @ (rotation(0, 8) - np.eye(3)).T
    pair = pair_of(grid, truth)
    registration = method({"rigidity_weight": 50}, MaximumNumberOfIterations="30").register(pair)
    return {
        "before": np.linalg.norm(truth, axis=-1)[bone(pair)].mean(),
        "after": np.linalg.norm(registration.displacement_mm - truth, axis=-1)[bone(pair)].mean(),
    }


def job_again() -> dict[str, Any]:
    pair, _ = turned()
    registration = method(MaximumNumberOfIterations="30").register(pair)
    return {"displacement": registration.displacement_mm, "left_over": left_over()}


def job_paper() -> dict[str, Any]:
    return dict(method(name="staring", MaximumNumberOfIterations="2").register(stretched()).notes)


def job_tuned() -> dict[str, Any]:
    return dict(method(name="staring-tuned", MaximumNumberOfIterations="2").register(stretched()).notes)


def job_bspline() -> dict[str, Any]:
    pair = stretched()
    registration = method({"parameters": "fast"}, "bspline", MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_nmi_and_linearity() -> dict[str, Any]:
    made = method({"metric": "nmi", "lc": 0.5, "pc": 0}, MaximumNumberOfIterations="2")
    return dict(made.register(stretched()).notes)


def job_lost_image() -> dict[str, Any]:
    """elastix does not get the name of the rigidity image, and finishes without an error."""

    original = staring._register

    def without_name(fixed: Any, moving: Any, parameters: Any, folder: Path, *masks: Any) -> Any:
        kept = {name: values for name, values in parameters.items() if name != "MovingRigidityImageName"}
        return original(fixed, moving, kept, folder, *masks)

    staring._register = without_name
    return {"error": message_of(lambda: method(MaximumNumberOfIterations="2").register(stretched()))}


def job_unwritten_image() -> dict[str, Any]:
    import itk

    itk.imwrite = lambda image, path: None
    return {"error": message_of(lambda: method())}


def job_damaged_image() -> dict[str, Any]:
    import itk

    write = itk.imwrite

    def write_damaged(image: Any, path: str) -> None:
        array = itk.array_from_image(image)
        array[0, 0, 0] ^= 1
        damaged = itk.image_from_array(array)
        damaged.SetSpacing(image.GetSpacing())
        write(damaged, path)

    itk.imwrite = write_damaged
    return {"error": message_of(lambda: method())}


def job_wrong_component() -> dict[str, Any]:
    made = method(MaximumNumberOfIterations="2", Optimizer="AdaptiveStochasticGradientDescend")
    return {"error": message_of(lambda: made.register(stretched())), "left_over": left_over()}


def job_outside() -> dict[str, Any]:
    """No sample may leave the moving image, and the first steps move some out of it."""
    made = method(MaximumNumberOfIterations="30", RequiredRatioOfValidSamples="1.0")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        error = message_of(lambda: made.register(stretched()))
    return {"error": error, "printed": printed.getvalue()}


def job_outside_of_limits() -> dict[str, Any]:
    """The same, where the moving scan did not see its outer voxels."""
    pair = stretched()
    inside = np.zeros(pair.grid.shape, bool)
    inside[2:-2, 2:-2, 2:-2] = True
    limited = replace(pair, moving=replace(pair.moving, inside=inside))
    made = method(MaximumNumberOfIterations="30", RequiredRatioOfValidSamples="1.0")
    result = made.register(limited)
    return {"displacement": result.displacement_mm, **result.notes}


def job_another_seed() -> dict[str, Any]:
    pair, _ = turned()
    made = method(MaximumNumberOfIterations="30")
    made.seed = 1
    return {"displacement": made.register(pair).displacement_mm}


def job_threads() -> dict[str, Any]:
    return {"running": running_threads(1)}


def job_two_threads() -> dict[str, Any]:
    return {"running": running_threads(2)}


def job_cut() -> dict[str, Any]:
    """Bone that is cut in half by the border of both images."""
    full = pair_of(Grid(SHAPE), np.broadcast_to([1.5, -1.0, 1.0], (*SHAPE, 3)))
    grid = Grid((20, *SHAPE[1:]))
    scans = [Scan(s.image[:20], None if s.labels is None else s.labels[:20], grid) for s in (full.fixed, full.moving)]
    assert (scans[1].labels[-1] > 0).any()
    registration = method(MaximumNumberOfIterations="40").register(Pair("cut", *scans))
    error = np.linalg.norm(registration.displacement_mm - (1.5, -1.0, 1.0), axis=-1)
    return {"error": error[scans[1].labels > 0].mean()}


def job_small() -> dict[str, Any]:
    """A volume of 5 x 6 x 7 mm with a bone of a few voxels; control points are 8 mm apart."""
    grid = Grid((5, 6, 7))
    pair = pair_of(grid, np.zeros((*grid.shape, 3)))
    labels = np.zeros(grid.shape, np.uint16)
    labels[2:4, 2:4, 2:5] = 7
    registration = method().register(Pair("small", pair.fixed, Scan(pair.moving.image, labels, grid)))
    registration.check(grid)
    return {"largest": np.abs(registration.displacement_mm).max()}


def job_near() -> dict[str, Any]:
    """Samples are drawn within 2 mm of the bone only."""
    shift = np.array([2.0, -1.5, 1.0])
    grid = Grid(SHAPE)
    pair = pair_of(grid, np.broadcast_to(shift, (*SHAPE, 3)))
    made = method({"near_mm": 2.0}, MaximumNumberOfIterations="40")
    registration = made.register(pair)
    return {"error": np.linalg.norm(registration.displacement_mm - shift, axis=-1)[bone(pair)]}


def left_over() -> list[Path]:
    """The files in the temporary folder, which is also the working directory of the jobs."""
    return list(Path(os.environ["TMPDIR"]).iterdir())


def message_of(act: Callable[[], object]) -> str:
    """The message of the RuntimeError that `act` raises."""
    try:
        act()
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


JOBS = {name.removeprefix("job_"): act for name, act in list(globals().items()) if name.startswith("job_")}


def serve(folder: Path) -> None:
    """Import itk's elastix once; then run each job named on stdin in a fork that writes its result into `folder`."""
    import itk

    image = itk.Image[itk.F, 3]
    for loaded in (itk.ElastixRegistrationMethod[image, image], itk.TransformixFilter[image], itk.ParameterObject):
        assert loaded
    for line in sys.stdin:
        name = line.strip()
        if os.fork() == 0:
            os.dup2(2, 1)
            try:
                (folder / f"{name}.pickle").write_bytes(pickle.dumps(JOBS[name]()))
            finally:
                traceback.print_exc()
                os._exit(0)
        os.wait()
        print(name, flush=True)


@contextmanager
def job_server(folder: Path, temporary: Path) -> Iterator[Callable[[str], dict[str, Any]]]:
    """A function that returns the result of a job by name; the job runs when it is first requested.

    folder: receives results and the log. temporary: working directory and TMPDIR of the jobs.
    """
    log = folder / "log.txt"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, __file__, str(folder)],
            env={
                **os.environ,
                "TMPDIR": str(temporary),
                "PYTHONPATH": os.pathsep.join(str(Path(p).resolve()) for p in sys.path),
            },
            cwd=temporary,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
        ) as server,
    ):

        @cache
        def result(name: str) -> dict[str, Any]:
            assert server.stdin is not None and server.stdout is not None
            server.stdin.write(name + "\n")
            server.stdin.flush()
            server.stdout.readline()
            file = folder / f"{name}.pickle"
            assert file.is_file(), f"job {name} left no result:\n{log.read_text(encoding='utf-8')[-4000:]}"
            return pickle.loads(file.read_bytes())

        yield result


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
