"""The network of anatomix, which reads its published weights: a UNet whose layers are numbered in one sequence.

Code of the authors: https://github.com/neel-dey/anatomix (anatomix/model/network.py)

References:
    N. Dey et al., Learning general-purpose biomedical volume representations using randomized synthesis, ICLR 2025.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class AnatomixNetwork(nn.Module):
    """The features of one image.

    Each level has two convolutions with batch normalisation and ReLU. The encoder halves the size between levels; the
    decoder doubles it and appends its features to those of the encoder. One more convolution gives the result.

    Args:
        levels: how often the size is halved, at least 1.
        width: channels of the finest level.
        features: channels of the result.
    """

    def __init__(self, levels: int = 4, width: int = 16, features: int = 16) -> None:
        super().__init__()
        self.multiple = 2**levels
        layers: list[nn.Module] = []
        leaving, joining = [], []  # numbers of the layers after which the encoder's features leave, and join again

        def convolve(before: int, after: int) -> None:
            layers.extend((_convolution(before, after), nn.BatchNorm3d(after), nn.ReLU(inplace=True)))

        widths = [width * 2**level for level in range(levels + 1)]
        convolve(1, width)
        for level in range(levels):
            convolve(widths[max(level - 1, 0)], widths[level])
            convolve(widths[level], widths[level])
            leaving.append(len(layers) - 1)
            layers.append(nn.MaxPool3d(2))
        convolve(widths[-2], widths[-1])
        convolve(widths[-1], widths[-1])
        for level in reversed(range(levels)):
            joining.append(len(layers))
            layers.append(nn.Upsample(scale_factor=2, mode="nearest"))
            convolve(widths[level + 1] + widths[level], widths[level])
            convolve(widths[level], widths[level])
        layers.append(_convolution(width, features))
        self.model = nn.Sequential(*layers)
        self._leaving, self._joining = frozenset(leaving), frozenset(joining)

    def forward(self, image: Tensor) -> Tensor:
        """The features of an image of any size.

        Args:
            image: (1, 1, D, H, W), in [0, 1].

        Returns:
            (1, features, D, H, W).
        """
        sizes = image.shape[2:]
        # Reflection at the coarsest level needs two voxels.
        z, y, x = (max(2 * self.multiple, n + -n % self.multiple) - n for n in sizes)
        value = F.pad(image, [0, x, 0, y, 0, z], mode="replicate")
        left: list[Tensor] = []
        for number, layer in enumerate(self.model):
            value = layer(value)
            if number in self._joining:
                value = torch.cat([left.pop(), value], dim=1)
            if number in self._leaving:
                left.append(value)
        return value[..., : sizes[0], : sizes[1], : sizes[2]]


def _convolution(before: int, after: int) -> nn.Conv3d:
    return nn.Conv3d(before, after, 3, padding="same", padding_mode="reflect", bias=False)


def network_of(tensors: Mapping[str, Tensor]) -> AnatomixNetwork:
    """The network of the size that tensors have, without their values.

    Args:
        tensors: by name, as in the file of the weights.

    Raises:
        ValueError: the tensors are of no such network.
    """
    kernels = [tensor for name, tensor in tensors.items() if name.endswith(".weight") and tensor.ndim == 5]
    levels, rest = divmod(len(kernels) - 4, 4)
    if rest or levels < 1:
        raise ValueError(f"weights: expected the UNet of anatomix, got a network of {len(kernels)} convolutions")
    return AnatomixNetwork(levels, len(kernels[0]), len(kernels[-1]))
