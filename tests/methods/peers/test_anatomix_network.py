"""The network of anatomix has the tensors of the published file, and takes images of any size."""

from __future__ import annotations

import pytest
import torch

from methods.peers.anatomix_network import AnatomixNetwork, network_of


def test_the_default_has_the_published_layers() -> None:
    """Numbers of layers as in the authors' sequence: 0, 3, 6 before the first pooling at 9, the last at 65."""
    tensors = AnatomixNetwork().state_dict()
    assert sum(parameter.numel() for parameter in AnatomixNetwork().parameters()) == 5_899_344
    shapes = {name: tuple(tensor.shape[:2]) for name, tensor in tensors.items() if tensor.ndim == 5}
    numbers = [int(name.split(".")[1]) for name in shapes]
    assert numbers[:5] == [0, 3, 6, 10, 13] and shapes["model.0.weight"] == (16, 1)
    assert list(shapes.values())[9:13] == [(256, 128), (256, 256), (128, 384), (128, 128)]
    assert list(shapes.values())[-1] == (16, 16) and numbers[-1] == 65


@pytest.mark.parametrize("size", [(16, 16, 16), (17, 9, 5)])
def test_features_have_the_size_of_the_image(size: tuple[int, int, int]) -> None:
    network = AnatomixNetwork(2, 4, 6).eval()
    with torch.no_grad():
        assert network(torch.rand(1, 1, *size)).shape == (1, 6, *size)


def test_a_network_of_the_tensors_size_is_made() -> None:
    tensors = AnatomixNetwork(3, 4, 6).state_dict()
    network_of(tensors).load_state_dict(tensors)


def test_tensors_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="expected the UNet of anatomix, got a network of 0 convolutions"):
        network_of({"weight": torch.zeros(2, 3)})
