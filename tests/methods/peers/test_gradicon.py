"""`unigradicon` and `multigradicon`: scaling and conventions, and a tiny random network where the package is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.shifted_pair import DIRECTION, shifted_pair

from methods.base import Grid, Scan
from methods.checks import missing
from methods.geometry import to_millimetres
from methods.peers.gradicon import PACKAGE, UniGradIcon, in_voxels, network_image
from methods.registry import create_method

OBLIQUE = Grid((48, 56, 44), (1.5, 1.0, 2.0), (12.0, -30.0, 5.0), DIRECTION)
EDGE = 40


def identity(edge: int) -> torch.Tensor:
    """The positions of a cube's voxels in [0, 1], (1, 3, n, n, n)."""
    line = torch.linspace(0, 1, edge)
    return torch.stack(torch.meshgrid(line, line, line, indexing="ij"))[None]


def test_positions_in_the_cube_become_lps_millimetres() -> None:
    """The cube's 40 voxels have the length of 48, 56 and 44 voxels of the grid."""
    voxels = torch.tensor([1.0, -2.0, 1.5])
    shift = voxels * EDGE / torch.tensor(OBLIQUE.shape) / (EDGE - 1)
    displacement = in_voxels(identity(EDGE) + shift.view(1, 3, 1, 1, 1), identity(EDGE), OBLIQUE.shape)
    expected = OBLIQUE.matrix @ np.array([1.5 * 1.5, -2.0 * 1.0, 1.0 * 2.0])
    found = to_millimetres(displacement, OBLIQUE).reshape(-1, 3)
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-3)


def test_scans_are_scaled_as_in_the_training_of_the_network() -> None:
    grid = Grid((10, 10, 10))
    image = np.linspace(0, 1, 1000, dtype=np.float32).reshape(grid.shape)
    ct, mr = (network_image(Scan(image, None, grid, modality=m), 32) for m in ("ct", "mr"))
    assert ct.shape == (1, 1, 32, 32, 32)
    assert ct.max() == 1 and float(ct.flatten().eq(1).float().mean()) == pytest.approx(0.28, abs=0.02), "above 1000 HU"
    assert mr.min() == 0 and mr.max() == 1 and mr.mean() == pytest.approx(0.505, abs=0.01)


def test_what_a_scan_did_not_see_is_0_and_no_part_of_its_range() -> None:
    grid = Grid((8, 8, 8))
    image = np.linspace(0.2, 0.4, 512, dtype=np.float32).reshape(grid.shape)
    inside = np.zeros(grid.shape, bool)
    inside[4:] = True
    scan = Scan(np.where(inside, image, 0.9).astype(np.float32), None, grid, inside, "mr")
    given = network_image(scan, 8 * 4)[0, 0]
    assert given[:12].eq(0).all() and given[20:].max() == 1
    other = replace(scan, image=np.where(inside, image, 0.1).astype(np.float32))
    torch.testing.assert_close(network_image(other, 32)[0, 0], given)


@pytest.mark.parametrize("name", ["unigradicon", "multigradicon"])
def test_missing_weights_and_package_are_named_in_one_line(name: str) -> None:
    reason = create_method(name).unavailable("cpu")
    assert reason is not None and "\n" not in reason
    assert f"download Step_2_final.trch (uncbiag/uniGradICON, release {name}_weights)" in reason
    assert missing(PACKAGE) is None or "not installed; pip install 'rigidbench[unigradicon]'" in reason


def test_the_fingerprint_depends_on_the_weights(tmp_path: Path) -> None:
    prints = {create_method("multigradicon").fingerprint()}
    for content in (b"a", b"b"):
        (tmp_path / content.decode()).write_bytes(content)
        prints.add(create_method("multigradicon", {"weights": tmp_path / content.decode()}).fingerprint())
    assert len(prints) == 3


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., UniGradIcon]:
    """A prepared row with a random network of few channels."""
    if reason := missing(PACKAGE):
        pytest.skip(reason)
    import unigradicon
    from icon_registration import networks

    def tiny(dimension: int, input_channels: int = 1) -> torch.nn.Module:
        return networks.UNet2(3, [[2 * input_channels, 4, 4, 4], [4, 4, 4]], dimension)

    monkeypatch.setattr(networks, "tallUNet2", tiny)
    torch.manual_seed(0)
    network = unigradicon.make_network([1, 1, EDGE, EDGE, EDGE], include_last_step=True)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    torch.save(network.regis_net.state_dict(), tmp_path / "tiny.trch")

    def prepared(**settings: object) -> UniGradIcon:
        method = create_method("multigradicon", {"weights": tmp_path / "tiny.trch", "edge": EDGE, **settings})
        assert method.unavailable("cpu") is None
        method.prepare("cpu", 1, 0)
        return method

    return prepared


def test_the_displacement_is_that_of_the_packages_own_transform(row: Callable[..., UniGradIcon]) -> None:
    """The package makes an ITK transform of the two images; it differs at the border alone, where ITK extrapolates."""
    import itk
    from icon_registration.itk_wrapper import register_pair

    method, pair = row(), shifted_pair(OBLIQUE, (1.0, -2.0, 1.5))
    registration = method.register(pair)
    registration.check(pair.grid)
    images = []
    for scan in (pair.moving, pair.fixed):
        image = itk.image_from_array((scan.image * 1.5).clip(0, 1))
        image.SetSpacing(OBLIQUE.spacing_mm)
        image.SetOrigin(OBLIQUE.origin_mm)
        image.SetDirection(itk.matrix_from_array(OBLIQUE.matrix))
        images.append(image)
    transform, _ = register_pair(method._network, *images)
    field = itk.transform_to_displacement_field_filter(transform, reference_image=images[1], use_reference_image=True)
    inner = (slice(4, -4),) * 3
    expected = itk.array_from_image(field)[inner]
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(registration.displacement_mm[inner], expected, atol=1e-3)


def test_optimising_a_pair_changes_its_field_alone_and_is_repeatable(row: Callable[..., UniGradIcon]) -> None:
    pair, method = shifted_pair(OBLIQUE, (1.0, -2.0, 1.5)), row(iterations=1, learning_rate=1e-3)
    before = {name: tensor.clone() for name, tensor in method._network.state_dict().items()}
    first, second = (method.register(pair).displacement_mm for _ in range(2))
    assert np.array_equal(first, second) and not np.array_equal(first, row().register(pair).displacement_mm)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method._network.state_dict().items())
