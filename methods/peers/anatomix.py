"""`anatomix-convexadam`: convexAdam on the features of the network anatomix in place of MIND, with weights that one
brings.

convexAdam takes no features: its function that computes MIND is replaced while it optimises. Settings were not tuned,
since no weights were at hand: `smoothness` and `feature_scale` are those of the authors, the others of `convexadam`.
Where a scan saw nothing, the network sees the nearest seen values, as MIND does in `convexadam`.
Code of the authors: https://github.com/neel-dey/anatomix
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from methods.base import UserPath
from methods.checks import extra, reasons
from methods.peers.anatomix_network import network_of
from methods.peers.convexadam import ConvexAdam, ConvexAdamSettings
from methods.weights import Published, checksum, load_into, load_tensors, missing_weights

PUBLISHED = Published("neel-dey/anatomix", "anatomix.pth", "folder model-weights")


class AnatomixSettings(ConvexAdamSettings):
    """Settings of `anatomix-convexadam`: those of `convexadam`, and the features'.

    Attributes:
        weights: the published file: `anatomix.pth`, or one of the same network.
        feature_scale: factor of the features, which have other magnitudes than MIND, above 0.
        with_mind: whether MIND-SSC is compared too, as in the authors' code.
    """

    weights: UserPath | None = None
    smoothness: float = Field(0.75, gt=0)
    feature_scale: float = Field(0.1, gt=0)
    with_mind: bool = False


class AnatomixConvexAdam(ConvexAdam):
    """ConvexAdam with features of anatomix."""

    argument = "weights"
    Settings = AnatomixSettings
    settings: AnatomixSettings
    installed_by = extra("anatomix")

    def unavailable(self, device: str) -> str | None:
        return reasons(missing_weights(self.settings.weights, PUBLISHED), super().unavailable(device))

    def fingerprint(self) -> str:
        weights = self.settings.weights
        return f"{super().fingerprint()} {checksum(weights) if weights else None}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Load the network.

        Raises:
            ValueError: the file of the weights is not of such a network.
        """
        super().prepare(device, threads, seed)
        assert self.settings.weights is not None  # `unavailable` has a reason then
        self._network = network_of(load_tensors(self.settings.weights))
        load_into(self._network, self.settings.weights, PUBLISHED)
        self._network.to(device).eval()

    def optimise(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """As `convexadam`, but on features of the network."""
        from convexAdam import convex_adam_MIND

        with _replaced(convex_adam_MIND, "extract_features", self._features):
            return super().optimise(fixed, moving)

    def _features(self, img_fixed: Tensor, img_moving: Tensor, **mind: Any) -> tuple[Tensor, Tensor]:
        """The features (1, C, D, H, W) of both images, under the names of arguments that convexAdam uses."""
        from convexAdam.convex_adam_utils import MINDSSC

        both = []
        for image in (img_fixed, img_moving):
            low, high = image.min(), image.max()
            given = image.to(self.device)[None, None].float()
            with torch.no_grad():
                features = self.settings.feature_scale * self._network((given - low) / (high - low))
            if self.settings.with_mind:
                described = MINDSSC(given, self.settings.mind_radius, self.settings.mind_dilation, device=self.device)
                features = torch.cat([described, features], dim=1)
            both.append(features.to(mind["dtype"]))
        return both[0], both[1]


@contextmanager
def _replaced(module: Any, name: str, function: Any) -> Iterator[None]:
    """Replace a function of another library in the block."""
    before = getattr(module, name)
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, before)
