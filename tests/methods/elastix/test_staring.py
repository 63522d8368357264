"""`staring`: the field is the transform, the penalty acts, and what elastix passes over in silence is refused.

Importing itk's elastix takes up to 20 s and two registrations may not share a process. So this file is also a script:
it imports once and runs each job of `JOBS` in a fork of its own, and the tests look at what the jobs left.
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
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

from methods.base import Grid, Pair, Scan
from methods.elastix import parameter_file, rigidity, staring
from methods.geometry import to_sitk
from methods.registry import create_method

FAST = parameter_file.BUILT_IN["fast"]
SHAPE = (40, 44, 48)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


# ---------------------------------------------------------------------------------------------------- small pairs


def rotation(axis: int, degrees: float) -> np.ndarray:
    """A 3 x 3 rotation about x, y or z (0, 1, 2)."""
    i, j = [a for a in range(3) if a != axis]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix


OBLIQUE = Grid(
    (28, 36, 40), (1.1, 1.3, 1.8), (-12.0, 31.0, 5.0), tuple((rotation(0, 20) @ rotation(2, -35)).ravel().tolist())
)


def pair_of(grid: Grid, displacement_mm: np.ndarray) -> Pair:
    """Texture with a box of bone in the middle; the fixed image is the moving one pulled back by the displacement."""
    rng = np.random.default_rng(0)
    labels = np.zeros(grid.shape, np.uint16)
    labels[tuple(slice(n // 8, n - n // 8) for n in grid.shape)] = 21
    texture = gaussian_filter(rng.standard_normal(grid.shape), 2.0)
    moving = 0.35 + 0.1 * texture / texture.std() + 0.3 * gaussian_filter((labels > 0).astype(float), 0.7)
    at = np.moveaxis(grid.to_indices_xyz(grid.points_mm() + displacement_mm)[..., ::-1], -1, 0)
    fixed = 1.0 - 0.8 * map_coordinates(moving, at, order=1, mode="nearest")  # another contrast, as MR and CT have
    scans = [np.clip(image, 0, 1).astype(np.float32) for image in (fixed, moving)]
    return Pair("small", Scan(scans[0], None, grid), Scan(scans[1], labels, grid))


def centred(grid: Grid) -> np.ndarray:
    points = grid.points_mm()
    return points - points.reshape(-1, 3).mean(0)


def bone(pair: Pair) -> np.ndarray:
    assert pair.moving.labels is not None
    return pair.moving.labels > 0


def orthonormality_error(displacement_mm: np.ndarray, pair: Pair) -> float:
    """Mean Frobenius norm of J'J - I in bone, a grid spacing away from its rim; the grid is axis-aligned."""
    in_axes = displacement_mm @ pair.grid.matrix
    rows = [np.stack(np.gradient(in_axes[..., c], *pair.grid.spacing_mm[::-1]), -1)[..., ::-1] for c in range(3)]
    jacobian = (np.stack(rows, -2) + np.eye(3))[binary_erosion(bone(pair), iterations=6)]
    return float(np.linalg.norm(jacobian.transpose(0, 2, 1) @ jacobian - np.eye(3), axis=(1, 2)).mean())


# ----------------------------------------------------------------------------------------------------------- jobs


def method(settings: dict[str, Any] | None = None, name: str = "staring-fast", **changed: str) -> staring.Staring:
    """A prepared method; `changed` are elastix parameters in place of the file's."""
    made = create_method(name, settings)
    assert isinstance(made, staring.Staring)
    made.prepare("cpu", 2, 0)
    made.parameters.update({name: (value,) for name, value in changed.items()})
    return made


def job_exact() -> dict[str, Any]:
    """The field beside the transform evaluated at points and beside elastix's own result image, on an oblique grid."""
    pair = pair_of(OBLIQUE, centred(OBLIQUE) @ (rotation(2, 4) - np.eye(3)).T + (1.5, -1.0, 0.5))
    caught: dict[str, Any] = {}
    index = np.random.default_rng(1).integers(0, OBLIQUE.shape, (300, 3))

    original = staring._displacement

    def catch(moving: Any, elastix: Any, folder: Path) -> np.ndarray:
        import itk

        transform = elastix.ConvertToItkTransform(elastix.GetNthTransform(0))
        points = index[:, ::-1] * np.asarray(OBLIQUE.spacing_mm)
        caught["goes_to"] = np.array([tuple(transform.TransformPoint(p.tolist())) for p in points])
        caught["result"] = itk.array_from_image(elastix.GetOutput())
        return original(moving, elastix, folder)

    staring._displacement = catch
    registration = method(WriteResultImage="true", MaximumNumberOfIterations="30").register(pair)
    registration.check(OBLIQUE)
    return {"pair": pair, "displacement": registration.displacement_mm, "index": index, **caught}


def job_translation() -> dict[str, Any]:
    grid = Grid(SHAPE, direction=FLIPPED)
    shift = np.array([2.0, -1.5, 1.0])
    pair = pair_of(grid, np.broadcast_to(shift, (*SHAPE, 3)))
    registration = method(MaximumNumberOfIterations="40").register(pair)
    return {"error": np.linalg.norm(registration.displacement_mm - shift, axis=-1)[bone(pair)], **registration.notes}


def stretched() -> Pair:
    """Bone that is 12 % longer in the fixed image: what a rigid registration must not follow."""
    grid = Grid(SHAPE)
    return pair_of(grid, centred(grid) * (0.0, 0.0, -0.12))


def job_free() -> dict[str, Any]:
    pair = stretched()
    registration = method({"rigidity_weight": 0}, MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_penalised() -> dict[str, Any]:
    pair = stretched()
    registration = method({"rigidity_weight": 50}, MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_turned() -> dict[str, Any]:
    """Flexion on a flipped grid, the penalty strong: a rotation that it must let pass."""
    grid = Grid(SHAPE, direction=FLIPPED)
    truth = centred(grid) @ (rotation(0, 8) - np.eye(3)).T
    pair = pair_of(grid, truth)
    registration = method({"rigidity_weight": 50}, MaximumNumberOfIterations="30").register(pair)
    return {
        "before": np.linalg.norm(truth, axis=-1)[bone(pair)].mean(),
        "after": np.linalg.norm(registration.displacement_mm - truth, axis=-1)[bone(pair)].mean(),
    }


def job_again() -> dict[str, Any]:
    pair = pair_of(OBLIQUE, centred(OBLIQUE) @ (rotation(2, 4) - np.eye(3)).T + (1.5, -1.0, 0.5))
    registration = method(MaximumNumberOfIterations="30").register(pair)
    return {"displacement": registration.displacement_mm, "left_over": left_over()}


def job_paper() -> dict[str, Any]:
    return dict(method(name="staring", MaximumNumberOfIterations="2").register(stretched()).notes)


def job_tuned() -> dict[str, Any]:
    return dict(method(name="staring-tuned", MaximumNumberOfIterations="2").register(stretched()).notes)


def job_rigid() -> dict[str, Any]:
    """Unlabelled, on an oblique grid: a turn of 4 degrees and a shift, to be found as a rigid transform."""
    truth = centred(OBLIQUE) @ (rotation(2, 4) - np.eye(3)).T + (1.5, -1.0, 0.5)
    pair = pair_of(OBLIQUE, truth)
    unlabelled = Scan(pair.moving.image, np.zeros_like(pair.moving.labels), OBLIQUE)
    made = create_method("rigid")
    made.prepare("cpu", 2, 0)
    registration = made.register(Pair("p", pair.fixed, unlabelled))
    return {"truth": truth, "displacement": registration.displacement_mm, **registration.notes}


def job_bspline() -> dict[str, Any]:
    pair = stretched()
    registration = method({"parameters": "fast"}, "bspline", MaximumNumberOfIterations="30").register(pair)
    return {"error": orthonormality_error(registration.displacement_mm, pair), **registration.notes}


def job_nmi_and_linearity() -> dict[str, Any]:
    made = method({"metric": "nmi", "lc": 0.5, "pc": 0}, MaximumNumberOfIterations="2")
    return dict(made.register(stretched()).notes)


def job_lost_image() -> dict[str, Any]:
    """The image's name does not reach elastix, which then runs to its end all the same."""

    original = staring._register

    def lose(fixed: Any, moving: Any, parameters: Any, folder: Path, sampled: Any) -> Any:
        kept = {name: values for name, values in parameters.items() if name != "MovingRigidityImageName"}
        return original(fixed, moving, kept, folder, sampled)

    staring._register = lose
    return {"error": message_of(lambda: method(MaximumNumberOfIterations="2").register(stretched()))}


def job_unwritten_image() -> dict[str, Any]:
    import itk

    itk.imwrite = lambda image, path: None
    return {"error": message_of(lambda: method())}


def job_damaged_image() -> dict[str, Any]:
    import itk

    write = itk.imwrite

    def spoil(image: Any, path: str) -> None:
        array = itk.array_from_image(image)
        array[0, 0, 0] ^= 1
        spoilt = itk.image_from_array(array)
        spoilt.SetSpacing(image.GetSpacing())
        write(spoilt, path)

    itk.imwrite = spoil
    return {"error": message_of(lambda: method())}


def job_wrong_component() -> dict[str, Any]:
    made = method(MaximumNumberOfIterations="2", Optimizer="AdaptiveStochasticGradientDescend")
    return {"error": message_of(lambda: made.register(stretched())), "left_over": left_over()}


def job_outside() -> dict[str, Any]:
    """Not one sample may leave the moving image, and the first steps take some out of it."""
    made = method(MaximumNumberOfIterations="30", RequiredRatioOfValidSamples="1.0")
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        error = message_of(lambda: made.register(stretched()))
    return {"error": error, "printed": printed.getvalue()}


def job_another_seed() -> dict[str, Any]:
    pair = pair_of(OBLIQUE, centred(OBLIQUE) @ (rotation(2, 4) - np.eye(3)).T + (1.5, -1.0, 0.5))
    made = method(MaximumNumberOfIterations="30")
    made.seed = 1
    return {"displacement": made.register(pair).displacement_mm}


def job_threads() -> dict[str, Any]:
    return {"running": running_threads(1)}


def job_two_threads() -> dict[str, Any]:
    return {"running": running_threads(2)}


# The most threads of a process that run or wait for a processor at a time, looked at until stdin is closed.
WATCHER = """
import os, select, sys
folder, most = f"/proc/{sys.argv[1]}/task", 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    states = []
    for task in os.listdir(folder):
        try:
            states.append(open(f"{folder}/{task}/stat").read().rsplit(")", 1)[1].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    most = max(most, states.count("R"))
print(most)
"""


def running_threads(threads: int) -> int:
    made = create_method("bspline", {"parameters": "fast", "changes": {"NumberOfSpatialSamples": 20000}})
    made.prepare("cpu", threads, 0)
    pair = stretched()
    with subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as watcher:
        assert watcher.stdin is not None and watcher.stdout is not None
        watcher.stdout.readline()
        made.register(pair)
        watcher.stdin.close()
        return int(watcher.stdout.read())


def job_cut() -> dict[str, Any]:
    """Half of the bone, which ends at the border of both images."""
    whole = pair_of(Grid(SHAPE), np.broadcast_to([1.5, -1.0, 1.0], (*SHAPE, 3)))
    grid = Grid((20, *SHAPE[1:]))
    scans = [Scan(s.image[:20], None if s.labels is None else s.labels[:20], grid) for s in (whole.fixed, whole.moving)]
    assert (scans[1].labels[-1] > 0).any()
    registration = method(MaximumNumberOfIterations="40").register(Pair("cut", *scans))
    error = np.linalg.norm(registration.displacement_mm - (1.5, -1.0, 1.0), axis=-1)
    return {"error": error[scans[1].labels > 0].mean()}


def job_small() -> dict[str, Any]:
    """5 x 6 x 7 mm, where the grid's points are 8 mm apart, and a bone of a few voxels."""
    grid = Grid((5, 6, 7))
    pair = pair_of(grid, np.zeros((*grid.shape, 3)))
    labels = np.zeros(grid.shape, np.uint16)
    labels[2:4, 2:4, 2:5] = 7
    registration = method().register(Pair("small", pair.fixed, Scan(pair.moving.image, labels, grid)))
    registration.check(grid)
    return {"largest": np.abs(registration.displacement_mm).max()}


def job_near() -> dict[str, Any]:
    """Samples near the bone alone: what lies beyond may be anything."""
    shift = np.array([2.0, -1.5, 1.0])
    grid = Grid(SHAPE)
    pair = pair_of(grid, np.broadcast_to(shift, (*SHAPE, 3)))
    made = method({"near_mm": 2.0}, MaximumNumberOfIterations="40")
    registration = made.register(pair)
    return {"error": np.linalg.norm(registration.displacement_mm - shift, axis=-1)[bone(pair)]}


def left_over() -> list[Path]:
    """What lies in the temporary folder, in which the jobs also run."""
    return list(Path(os.environ["TMPDIR"]).iterdir())


def message_of(act: Callable[[], object]) -> str:
    try:
        act()
    except RuntimeError as error:
        return str(error)
    return "nothing was raised"


JOBS = {name.removeprefix("job_"): act for name, act in list(globals().items()) if name.startswith("job_")}


def serve(folder: Path) -> None:
    """Import itk's elastix once; then, for every job named on stdin, run it in a fork that writes into `folder`."""
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


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], dict[str, Any]]]:
    """The result of a job by name, run at its first use."""
    folder, temporary = tmp_path_factory.mktemp("elastix"), tmp_path_factory.mktemp("temporary")
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
            text=True,
        ) as server,
    ):

        @cache
        def result(name: str) -> dict[str, Any]:
            assert server.stdin is not None and server.stdout is not None
            server.stdin.write(name + "\n")
            server.stdin.flush()
            server.stdout.readline()
            file = folder / f"{name}.pickle"
            assert file.is_file(), f"job {name} left nothing:\n{log.read_text(encoding='utf-8')[-4000:]}"
            return pickle.loads(file.read_bytes())

        yield result


# ------------------------------------------------------------------------------------------------------ the field


def test_field_is_the_transform_at_every_point(done: Callable[[str], dict[str, Any]]) -> None:
    """On an oblique, anisotropic grid, against itk's TransformPoint, within 1e-3 mm."""
    job = done("exact")
    starts = OBLIQUE.to_points_mm(job["index"][:, ::-1])
    # The job's points are along the grid's axes from its first voxel: turned and moved, they are LPS.
    ends = job["goes_to"] @ OBLIQUE.matrix.T + OBLIQUE.origin_mm
    displacement = job["displacement"][tuple(job["index"].T)]
    assert np.abs(displacement).max() > 0.5
    assert np.abs(starts + displacement - ends).max() < 1e-3


def test_field_warps_the_moving_image_to_elastix_result(done: Callable[[str], dict[str, Any]]) -> None:
    """Through SimpleITK in LPS, which shares no code path with how the field was made."""
    import SimpleITK as sitk

    job = done("exact")
    field = to_sitk(job["displacement"].astype(np.float64), OBLIQUE)
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    moving = to_sitk(job["pair"].moving.image, OBLIQUE)
    warped = sitk.GetArrayFromImage(sitk.Resample(moving, moving, transform, sitk.sitkLinear, 0.0))
    inside = (slice(3, -3),) * 3
    assert np.abs(job["result"] - job["pair"].moving.image)[inside].max() > 0.05
    assert np.abs(warped - job["result"])[inside].max() < 1e-3


def test_translation_is_recovered(done: Callable[[str], dict[str, Any]]) -> None:
    """In LPS, on a grid whose first two axes are flipped."""
    assert done("translation")["error"].mean() < 0.5


def test_same_seed_same_field(done: Callable[[str], dict[str, Any]]) -> None:
    assert np.array_equal(done("exact")["displacement"], done("again")["displacement"])


def test_another_seed_another_field(done: Callable[[str], dict[str, Any]]) -> None:
    assert not np.array_equal(done("another_seed")["displacement"], done("again")["displacement"])


def test_samples_near_the_bone_are_enough_for_it(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("near")["error"].mean() < 0.5


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted through Linux's /proc")
@pytest.mark.parametrize(("job", "threads"), [("threads", 1), ("two_threads", 2)])
def test_as_many_threads_run_as_were_given(done: Callable[[str], dict[str, Any]], job: str, threads: int) -> None:
    assert done(job)["running"] == threads


def test_a_vertebra_cut_by_the_border_is_registered(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("cut")["error"] < 0.6


def test_a_volume_smaller_than_the_grid_spacing_is_registered(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("small")["largest"] < 8


# ---------------------------------------------------------------------------------------------------- the penalty


def test_penalty_keeps_bone_orthonormal(done: Callable[[str], dict[str, Any]]) -> None:
    """Bone that is 12 % longer is followed without the penalty and kept with it."""
    free, penalised = done("free")["error"], done("penalised")["error"]
    assert free > 0.1
    assert penalised < 0.4 * free


def test_penalty_lets_a_rotation_pass_on_a_flipped_grid(done: Callable[[str], dict[str, Any]]) -> None:
    """With the grid's direction handed to elastix, its penalty takes flexion for shear and forbids it."""
    job = done("turned")
    assert job["after"] < 0.4 * job["before"]


@pytest.mark.parametrize("job", ["translation", "free", "penalised", "paper", "tuned", "nmi_and_linearity"])
def test_elastix_reads_every_parameter(done: Callable[[str], dict[str, Any]], job: str) -> None:
    assert done(job)["unused_parameters"] == ""
    assert "Final metric value" in done(job)["log_tail"]


# ----------------------------------------------------------------------------------------------------- the guards


def test_lost_rigidity_image_is_found_in_the_log(done: Callable[[str], dict[str, Any]]) -> None:
    assert "did not use the rigidity image" in done("lost_image")["error"]


def test_unwritten_rigidity_image_is_found(done: Callable[[str], dict[str, Any]]) -> None:
    assert "expected a file at" in done("unwritten_image")["error"]


def test_damaged_rigidity_image_is_found(done: Callable[[str], dict[str, Any]]) -> None:
    assert "reads back as" in done("damaged_image")["error"]


def test_elastix_error_names_the_cause_and_leaves_no_files(done: Callable[[str], dict[str, Any]]) -> None:
    job = done("wrong_component")
    assert job["error"].startswith("elastix failed: ")
    assert "AdaptiveStochasticGradientDescend" in job["error"]
    assert not job["left_over"]


def test_samples_that_leave_the_image_are_one_line(done: Callable[[str], dict[str, Any]]) -> None:
    error = done("outside")["error"]
    assert error.startswith("elastix failed: Too many samples map outside moving image buffer")
    assert error.endswith("align them better, or take smaller steps (SP_a)") and "\n" not in error


def test_the_whole_log_of_a_case_is_printed_also_where_elastix_failed(done: Callable[[str], dict[str, Any]]) -> None:
    """Stdout is what a run keeps. From the header with the case's token over the first parameter to the exception."""
    printed = done("outside")["printed"]
    assert printed.startswith("---- elastix on small\n")
    assert "(Metric0Weight 0.1" in printed and "Too many samples map outside" in printed


def test_no_files_are_left(done: Callable[[str], dict[str, Any]]) -> None:
    """Neither in the temporary folder nor where the user stands, where transformix writes by default."""
    assert not done("again")["left_over"]


def test_reason_is_one_line_without_source_and_address() -> None:
    log = "1\t2\nLocation: x\nDescription:  Too many samples\n  map outside\n\nError while\n"
    assert staring._reason(log) == "Too many samples map outside"
    raised = "/a/b.hxx:389:\nITK ERROR: Filter(0x55b9f1): Internal\nerror"
    assert staring._one_line(raised) == "Internal error"


def test_log_without_the_images_name_is_refused() -> None:
    with pytest.raises(RuntimeError, match="cannot be verified"):
        rigidity.check_log("all is well", Path("rigidity.mha"))


def test_empty_moving_label_is_refused() -> None:
    grid = Grid((8, 8, 8))
    image = np.random.default_rng(0).random((8, 8, 8), np.float32)
    pair = Pair("p-1", Scan(image, None, grid), Scan(image, np.zeros((8, 8, 8), np.uint16), grid))
    with pytest.raises(ValueError, match="pair p-1: the moving label map is empty"):
        create_method("staring-fast").register(pair)


@pytest.mark.parametrize("which", ["fixed", "moving"])
def test_image_of_one_value_is_refused(which: str) -> None:
    pair = pair_of(Grid((8, 8, 8)), np.zeros((8, 8, 8, 3)))
    scan = getattr(pair, which)
    flat = Scan(np.full((8, 8, 8), 0.5, np.float32), scan.labels, scan.grid)
    scans = {"fixed": pair.fixed, "moving": pair.moving, which: flat}
    with pytest.raises(ValueError, match=f"the {which} image has one value everywhere, 0.5"):
        create_method("staring-fast").register(Pair("p", **scans))


def test_rigid_is_one_rigid_transform_and_the_right_one(done: Callable[[str], dict[str, Any]]) -> None:
    """Every J is the same rotation; within 0.5 mm of the truth; labels play no part."""
    job = done("rigid")
    points = OBLIQUE.points_mm()
    ends = (points + job["displacement"]).reshape(-1, 3)
    affine, *_ = np.linalg.lstsq(np.c_[points.reshape(-1, 3), np.ones(ends.shape[0])], ends, rcond=None)
    assert np.abs(affine[:3].T @ affine[:3] - np.eye(3)).max() < 1e-4
    assert np.abs(np.c_[points.reshape(-1, 3), np.ones(ends.shape[0])] @ affine - ends).max() < 1e-3
    assert np.linalg.norm(job["displacement"] - job["truth"], axis=-1).mean() < 0.5
    assert job["unused_parameters"] == ""


def test_bspline_follows_a_stretch_that_the_penalty_would_not(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("bspline")["error"] > 3 * done("penalised")["error"]


# --------------------------------------------------------------------------------------------- parameter files


def own_file(folder: Path, *lines: str, without: str = "") -> str:
    """A user's file: fast.txt less the lines that hold `without`, plus `lines`."""
    kept = [line for line in FAST.read_text(encoding="utf-8").splitlines() if not without or without not in line]
    path = folder / "own.txt"
    path.write_text("\n".join([*kept, *lines]))
    return str(path)


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_files_say_what_facts_say(name: str) -> None:
    """FACTS.md: both metrics, weights 0.1 and 0.5, conditions 0.1 and 0.1, linearity off, 8 mm, three resolutions."""
    read = parameter_file.read(parameter_file.locate(name))
    assert read["Metric"] == ("AdvancedMattesMutualInformation", "TransformRigidityPenalty")
    assert (read["Metric0Weight"], read["Metric1Weight"]) == (("0.1",), ("0.5",))
    assert (read["OrthonormalityConditionWeight"], read["PropernessConditionWeight"]) == (("0.1",), ("0.1",))
    assert read["UseLinearityCondition"] == ("false",)
    assert read["FinalGridSpacingInPhysicalUnits"] == ("8.0",)
    assert read["ImagePyramidSchedule"] == tuple("444222111")


def test_tuned_keeps_the_penalty_and_the_schedule() -> None:
    paper, tuned = (parameter_file.read(parameter_file.locate(name)) for name in ("paper", "tuned"))
    kept = ("Metric", "Transform", "NumberOfResolutions", "ImagePyramidSchedule", "HowToCombineTransforms")
    conditions = [name for name in paper if name.startswith("Use") and name.endswith("Condition")]
    assert len(conditions) == 3
    for name in (*kept, *conditions, "OrthonormalityConditionWeight", "PropernessConditionWeight"):
        assert tuned[name] == paper[name], name


def test_comments_quotes_and_paths_are_read(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text('// all\n(Metric "A" "B") // two\n\n  (SP_a 1 2.5)\n(SegmentedImageName "a//b c.mha")\n')
    assert parameter_file.read(file) == {
        "Metric": ("A", "B"),
        "SP_a": ("1", "2.5"),
        "SegmentedImageName": ("a//b c.mha",),
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("(OrthonormalityConditionWeigth 0.2)", "did you mean 'OrthonormalityConditionWeight'"),
        ("(Metric0NumberOfHistogramBin 32)", "would ignore it; did you mean 'NumberOfHistogramBins'"),
        ("(FinalGridSpacing 8.0)", "elastix knows no parameter 'FinalGridSpacing'"),
        ("(DefaultPixelValue 1)", "DefaultPixelValue is given twice"),
        ('(MovingRigidityImageName "bone.mha")', "leave MovingRigidityImageName out"),
        ("(RandomSeed 7)", "leave RandomSeed out; the run's seed is used"),
        ("MaximumStepLength 1", "expected \\(Name value ...\\)"),
        ("(MaximumStepLength)", "expected a value after 'MaximumStepLength'"),
    ],
)
def test_lines_elastix_would_pass_over_are_refused(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        create_method("staring", {"parameters": own_file(tmp_path, line)})


def test_a_users_own_file_is_accepted(tmp_path: Path) -> None:
    made = create_method("staring", {"parameters": own_file(tmp_path, "(Metric0NumberOfFixedHistogramBins 16)")})
    assert made.parameters["Metric0NumberOfFixedHistogramBins"] == ("16",)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at no-such"):
        create_method("staring", {"parameters": "no-such"})


def test_settings_change_the_file() -> None:
    made = create_method("staring-fast", {"metric": "nmi", "rigidity_weight": 2, "oc": 0.3, "pc": 0, "lc": 1})
    assert made.parameters["Metric"] == ("NormalizedMutualInformation", "TransformRigidityPenalty")
    assert made.parameters["Metric1Weight"] == ("2.0",)
    assert made.parameters["OrthonormalityConditionWeight"] == ("0.3",)
    assert made.parameters["UsePropernessCondition"] == ("false",)
    assert made.parameters["UseLinearityCondition"] == made.parameters["CalculateLinearityCondition"] == ("true",)


def test_changes_go_over_the_file_and_are_checked_by_name() -> None:
    made = create_method(
        "staring-fast", {"changes": {"SP_a": [1, 2.5], "UseCyclicTransform": False, "Metric1Weight": None}}
    )
    assert made.parameters["SP_a"] == ("1", "2.5")
    assert made.parameters["UseCyclicTransform"] == ("false",)
    assert "Metric1Weight" not in made.parameters
    with pytest.raises(ValueError, match="changes: elastix knows no parameter 'SP_b'"):
        create_method("staring-fast", {"changes": {"SP_b": 1}})
    with pytest.raises(ValueError, match="changes: leave RandomSeed out"):
        create_method("staring-fast", {"changes": {"RandomSeed": 1}})
    with pytest.raises(ValueError, match="expected a value for SP_a, got none"):
        create_method("staring-fast", {"changes": {"SP_a": []}})


def test_weight_zero_takes_the_penalty_out() -> None:
    made = create_method("staring-fast", {"rigidity_weight": 0})
    assert made.parameters["Metric"] == ("AdvancedMattesMutualInformation",)
    assert not [name for name in made.parameters if "Condition" in name or name == "Metric1Weight"]


def test_a_weight_without_its_penalty_is_refused(tmp_path: Path) -> None:
    path = own_file(tmp_path, '(Metric "AdvancedMattesMutualInformation")', without="(Metric ")
    for setting in ("rigidity_weight", "oc"):
        with pytest.raises(ValueError, match=f"{setting}: expected a file with the metric TransformRigidityPenalty"):
            create_method("staring", {"parameters": path, setting: 1})


def test_rows_by_weights_alone() -> None:
    """staring-oc keeps orthonormality, staring-pc properness; bspline has no penalty and is otherwise the same file."""
    used = {
        row: [name for name in ("Orthonormality", "Properness", "Linearity") if made.parameters[use(name)] == ("true",)]
        for row in ("staring", "staring-oc", "staring-pc")
        if (made := create_method(row))
    }
    assert used == {
        "staring": ["Orthonormality", "Properness"],
        "staring-oc": ["Orthonormality"],
        "staring-pc": ["Properness"],
    }
    paper = parameter_file.read(parameter_file.locate("paper"))
    without = create_method("bspline").parameters
    assert without["Metric"] == paper["Metric"][:1]
    assert all(paper[name] == value for name, value in without.items() if name != "Metric")
    assert {n for n in paper.keys() - without.keys() if "Condition" not in n} == {
        "Metric1Weight",
        "DilateRigidityImages",
    }
    with pytest.raises(ValueError, match="oc"):
        create_method("bspline", {"oc": 0.1})


def use(condition: str) -> str:
    return f"Use{condition}Condition"


def test_bspline_takes_a_users_file_with_and_without_the_penalty(tmp_path: Path) -> None:
    path = own_file(tmp_path)
    assert create_method("bspline", {"parameters": path}).parameters["Metric"] == ("AdvancedMattesMutualInformation",)
    path = own_file(tmp_path, '(Metric "NormalizedMutualInformation")', without="(Metric ")
    assert create_method("bspline", {"parameters": path}).parameters["Metric"] == ("NormalizedMutualInformation",)
    nmi = create_method("rigid", {"metric": "nmi"}).parameters
    assert (nmi["Metric"], nmi["Transform"]) == (("NormalizedMutualInformation",), ("EulerTransform",))


def test_fingerprint_follows_the_parameters() -> None:
    prints = [create_method("staring-fast", s).fingerprint() for s in ({}, {}, {"oc": 0.2}, {"parameters": "paper"})]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_runs_on_the_cpu_alone_in_a_fresh_process() -> None:
    made = create_method("staring")
    assert made.fresh_process
    assert made.unavailable("cpu") is None
    assert "CPU only" in (made.unavailable("cuda") or "")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
