"""The elastix rows: the displacement is the transform, the penalty acts in bone, and a failure is one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.elastix_pairs import OBLIQUE, pair_of

from methods.base import Grid, Pair, Scan
from methods.elastix import staring
from methods.geometry import to_sitk
from methods.registry import create_method


def test_field_is_the_transform_at_every_point(done: Callable[[str], dict[str, Any]]) -> None:
    """On an oblique, anisotropic grid it agrees with itk's TransformPoint within 1e-3 mm."""
    job = done("exact")
    starts = OBLIQUE.to_points_mm(job["index"][:, ::-1])
    # The job's points lie along the grid's axes from its first voxel; direction and origin make them LPS.
    ends = job["goes_to"] @ OBLIQUE.matrix.T + OBLIQUE.origin_mm
    displacement = job["displacement"][tuple(job["index"].T)]
    assert np.abs(displacement).max() > 0.5
    assert np.abs(starts + displacement - ends).max() < 1e-3


def test_field_warps_the_moving_image_to_elastix_result(done: Callable[[str], dict[str, Any]]) -> None:
    """SimpleITK warps in LPS, by a code path that the computation of the field does not use."""
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
    """The grid's first two axes are flipped; the displacement is in LPS."""
    assert done("translation")["error"].mean() < 0.5


def test_same_seed_same_field(done: Callable[[str], dict[str, Any]]) -> None:
    assert np.array_equal(done("exact")["displacement"], done("again")["displacement"])


def test_another_seed_another_field(done: Callable[[str], dict[str, Any]]) -> None:
    assert not np.array_equal(done("another_seed")["displacement"], done("again")["displacement"])


def test_samples_near_the_bone_suffice_to_register_it(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("near")["error"].mean() < 0.5


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted through Linux's /proc")
@pytest.mark.parametrize(("job", "threads"), [("threads", 1), ("two_threads", 2)])
def test_the_given_number_of_threads_runs(done: Callable[[str], dict[str, Any]], job: str, threads: int) -> None:
    assert done(job)["running"] == threads


def test_a_vertebra_cut_by_the_border_is_registered(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("cut")["error"] < 0.6


def test_a_volume_smaller_than_the_grid_spacing_is_registered(done: Callable[[str], dict[str, Any]]) -> None:
    assert done("small")["largest"] < 8


def test_the_edges_of_a_slab_are_no_evidence(done: Callable[[str], dict[str, Any]]) -> None:
    job = done("slab")
    assert job["masked"] > job["unmasked"] + 0.02


def test_a_slab_of_few_voxels_is_a_doubt_and_its_own_metric_is_noted(done: Callable[[str], dict[str, Any]]) -> None:
    """With voxels of 2 mm mutual information misleads: it rises at positions that lose 0.3 DSC."""
    notes = done("coarse_slab")
    assert "the common field of view is 18 voxels wide" in notes["warning"]
    assert notes["own_metric_end"] > notes["own_metric_start"]


def test_a_registration_that_leaves_the_view_is_an_error_without_limits_and_the_start_with_them(
    done: Callable[[str], dict[str, Any]],
) -> None:
    job = done("outside_of_limits")
    assert not job["displacement"].any()
    assert "the start was kept in place of the registration" in job["warning"]
    assert "Too many samples" in done("outside")["error"]


def test_penalty_keeps_bone_orthonormal(done: Callable[[str], dict[str, Any]]) -> None:
    """Bone that is 12 % longer is stretched without the penalty and keeps its length with it."""
    free, penalised = done("free")["error"], done("penalised")["error"]
    assert free > 0.1
    assert penalised < 0.4 * free


def test_penalty_lets_a_rotation_pass_on_a_flipped_grid(done: Callable[[str], dict[str, Any]]) -> None:
    """If elastix knew the grid's direction, its penalty would treat flexion as shear and hinder it."""
    job = done("flexion")
    assert job["after"] < 0.4 * job["before"]


@pytest.mark.parametrize("job", ["translation", "free", "penalised", "paper", "tuned", "nmi_and_linearity"])
def test_elastix_reads_every_parameter(done: Callable[[str], dict[str, Any]], job: str) -> None:
    assert done(job)["unused_parameters"] == ""
    assert "Final metric value" in done(job)["log_tail"]


def test_an_elastix_error_names_the_cause_and_leaves_no_files(done: Callable[[str], dict[str, Any]]) -> None:
    job = done("wrong_component")
    assert job["error"].startswith("elastix failed: ")
    assert "AdaptiveStochasticGradientDescend" in job["error"]
    assert not job["left_over"]


def test_samples_outside_the_image_give_an_error_of_one_line(done: Callable[[str], dict[str, Any]]) -> None:
    error = done("outside")["error"]
    assert error.startswith("elastix failed: Too many samples map outside moving image buffer")
    assert error.endswith("align them better, or take smaller steps (SP_a)") and "\n" not in error


def test_the_log_is_printed_even_if_elastix_failed(done: Callable[[str], dict[str, Any]]) -> None:
    """A run keeps stdout: the header with the case's token, the parameters and the exception."""
    printed = done("outside")["printed"]
    assert printed.startswith("---- elastix on small\n")
    assert "(Metric0Weight 0.1" in printed and "Too many samples map outside" in printed


def test_a_registration_leaves_no_files(done: Callable[[str], dict[str, Any]]) -> None:
    """Neither the temporary folder nor the working directory, where transformix writes by default, holds a file."""
    assert not done("again")["left_over"]


def test_the_reason_is_one_line_without_source_and_address() -> None:
    log = "1\t2\nLocation: x\nDescription:  Too many samples\n  map outside\n\nError while\n"
    assert staring._reason(log) == "Too many samples map outside"
    raised = "/a/b.hxx:389:\nITK ERROR: Filter(0x55b9f1): Internal\nerror"
    assert staring._one_line(raised) == "Internal error"


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
