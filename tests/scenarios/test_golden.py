"""One recorded patient that every machine and every release of numpy, scipy and torch must reproduce.

`python tests/scenarios/test_golden.py` records it again after an intended change of the phantom.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.phantom import Phantom, anatomy_stream
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.poses import draw_motion
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Case

GOLDEN = Path(__file__).parent / "golden"
NAME, BLOCK = "phantom-0034", 8


def parameters() -> dict:
    """All drawn parameters of the anatomy, and the motion of its vertebrae."""
    spine = draw_spine(anatomy_stream(NAME))
    centres = np.stack([v.centre_mm for v in spine.vertebrae])
    motion = draw_motion(PortableRng(34, 2), [v.id for v in spine.vertebrae], centres, spine.labelled)
    drawn = {"labelled": spine.labelled, "woman": spine.woman, "age": spine.age_years, "collapsed": spine.collapsed}
    vertebrae = [
        [v.width, v.depth, v.height, v.disc, v.span, v.reach, v.wedge, *v.centre_mm, *v.rotation.ravel(),
         *(n for s in v.spurs for n in (s.degrees, s.end, s.length_mm))]
        for v in spine.vertebrae
    ]  # fmt: skip
    moved = [[*r.ravel(), *t] for r, t in zip(motion.rotations, motion.translations, strict=True)]
    return json.loads(json.dumps({"drawn": drawn, "vertebrae": vertebrae, "motion": moved}, default=float))


def block_means(image: np.ndarray) -> np.ndarray:
    """Means over blocks of 8 voxels a side."""
    shape = [n // BLOCK for n in image.shape]
    cut = image[tuple(slice(n * BLOCK) for n in shape)]
    return cut.reshape(shape[0], BLOCK, shape[1], BLOCK, shape[2], BLOCK).mean(axis=(1, 3, 5))


def summary(case: Case) -> dict[str, np.ndarray]:
    """Both label maps, block means of both images, and every eighth voxel of the displacement."""
    assert case.true_displacement_mm is not None
    scans = {"fixed": case.pair.fixed, "moving": case.pair.moving}
    arrays = {f"{name} labels": np.asarray(scan.labels, np.uint8) for name, scan in scans.items()}
    arrays |= {f"{name} image": block_means(scan.image).astype(np.float32) for name, scan in scans.items()}
    return arrays | {"displacement": case.true_displacement_mm[::BLOCK, ::BLOCK, ::BLOCK]}


@pytest.fixture(scope="module")
def made() -> dict[str, np.ndarray]:
    return summary(Phantom("phantom", spacing_mm=2.0).load(NAME))


@pytest.fixture(scope="module")
def golden() -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{NAME}.npz") as file:
        return dict(file)


def test_parameters_are_reproduced() -> None:
    expected = json.loads((GOLDEN / f"{NAME}.json").read_text(encoding="utf-8"))
    drawn = parameters()
    assert drawn["drawn"] == expected["drawn"]
    for part in ("vertebrae", "motion"):
        for a, b in zip(drawn[part], expected[part], strict=True):
            np.testing.assert_allclose(a, b, atol=1e-9)


@pytest.mark.parametrize("name", ["fixed labels", "moving labels"])
def test_labels_agree_to_one_voxel_in_ten_thousand(
    made: dict[str, np.ndarray], golden: dict[str, np.ndarray], name: str
) -> None:
    a, b = made[name], golden[name]
    assert 2 * ((a == b) & (a > 0)).sum() / ((a > 0).sum() + (b > 0).sum()) >= 0.9999


@pytest.mark.parametrize("name", ["fixed image", "moving image", "displacement"])
def test_images_and_displacement_agree(made: dict[str, np.ndarray], golden: dict[str, np.ndarray], name: str) -> None:
    assert np.abs(made[name] - golden[name]).mean() < 1e-3


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    (GOLDEN / f"{NAME}.json").write_text(json.dumps(parameters(), indent=1) + "\n", encoding="utf-8")
    np.savez_compressed(GOLDEN / f"{NAME}.npz", **summary(Phantom("phantom", spacing_mm=2.0).load(NAME)))
