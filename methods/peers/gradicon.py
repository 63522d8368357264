"""`unigradicon` and `multigradicon`: networks trained on many organs (unigradicon), with weights that one brings.

The network maps positions of the fixed to positions of the moving image, both in [0, 1] between the first and the last
voxel of a cube of `edge` voxels, to which both images are stretched. Settings were not tuned, since no weights were at
hand: they are the package's own, without its optimisation for each pair.
Code: https://github.com/uncbiag/uniGradICON

References:
    L. Tian et al., uniGradICON: A foundation model for medical image registration, MICCAI 2024.
    B. Demir et al., multiGradICON: A foundation model for multimodal medical image registration, WBIR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from methods.base import Method, Pair, Registration, Scan, Settings, UserPath
from methods.checks import extra, missing, reasons, refuse_flat, version_of
from methods.geometry import to_millimetres
from methods.weights import Published, checksum, load_into, missing_weights

PACKAGE = "unigradicon"
# The networks were trained on CT in [-1000, 1000] HU; a scan of this benchmark has [-1000, 2000] HU in [0, 1].
CT_STRETCH = 1.5
MR_QUANTILE = 0.99  # and on MR between the least value and this quantile


class GradIconSettings(Settings):
    """Settings of `unigradicon` and `multigradicon`.

    Attributes:
        weights: the published file, or one of the same network.
        edge: voxels along each edge of the cube that the network sees, at least 32; 175 for the published weights.
        iterations: of the optimisation of the weights for each pair; 0 for none.
        similarity: of that optimisation: `lncc`, `lncc2` (its square, for two contrasts) or `mind`.
        learning_rate: of that optimisation, above 0.
    """

    weights: UserPath | None = None
    edge: int = Field(175, ge=32)
    iterations: int = Field(0, ge=0)
    similarity: Literal["lncc", "lncc2", "mind"] = "lncc2"
    learning_rate: float = Field(2e-5, gt=0)


class UniGradIcon(Method):
    """uniGradICON."""

    devices = ("cpu", "cuda")
    argument = "weights"
    Settings = GradIconSettings
    settings: GradIconSettings
    published: ClassVar[Published] = Published(
        "uncbiag/uniGradICON", "Step_2_final.trch", "release unigradicon_weights"
    )

    def unavailable(self, device: str) -> str | None:
        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device"
        return reasons(missing_weights(self.settings.weights, self.published), missing(PACKAGE, extra(PACKAGE)))

    def fingerprint(self) -> str:
        weights = self.settings.weights
        return f"{PACKAGE} {version_of(PACKAGE)} {checksum(weights) if weights else None}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Load the network.

        Raises:
            ValueError: the file of the weights is not of this network.
        """
        from icon_registration import config
        from unigradicon import make_network, make_sim

        assert self.settings.weights is not None  # `unavailable` has a reason then
        config.device = torch.device(device)  # the package's own choice is a GPU where there is one
        shape = [1, 1, *[self.settings.edge] * 3]
        self._network = make_network(shape, include_last_step=True, loss_fn=make_sim(self.settings.similarity))
        load_into(self._network.regis_net, self.settings.weights, self.published)
        self._network.to(device).eval()
        self._device, self._seed = device, seed

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere.
        """
        refuse_flat(pair)
        moving, fixed = (network_image(s, self.settings.edge).to(self._device) for s in (pair.moving, pair.fixed))
        identity = self._network.identity_map
        transform = self._transform(moving, fixed)
        with torch.no_grad():
            positions = transform(identity)
        displacement = in_voxels(positions, identity, pair.grid.shape)
        return Registration(to_millimetres(displacement, pair.grid), {PACKAGE: version_of(PACKAGE) or ""})

    def _transform(self, moving: Tensor, fixed: Tensor) -> Any:
        """The function from positions of the fixed to positions of the moving image."""
        from icon_registration.itk_wrapper import finetune_execute

        s = self.settings
        if s.iterations:
            torch.manual_seed(self._seed)  # the package draws points, for each pair the same
            finetune_execute(self._network, moving, fixed, s.iterations, s.learning_rate)  # restores the weights
            return self._network.phi_AB
        self._network.identity_map.isIdentity = True  # the package adds fields there without interpolation
        with torch.no_grad():
            return self._network.regis_net(moving, fixed)


class MultiGradIcon(UniGradIcon):
    """multiGradICON: the same network, trained on pairs of different modalities."""

    published = Published("uncbiag/uniGradICON", "Step_2_final.trch", "release multigradicon_weights")


def network_image(scan: Scan, edge: int) -> Tensor:
    """A scan as the network's input, scaled as in its training; 0 where the scan did not see.

    Args:
        scan: image and modality; a CBCT counts as CT.
        edge: voxels along each edge of the result.

    Returns:
        float32 (1, 1, edge, edge, edge), in [0, 1].
    """
    image = scan.image
    if scan.modality == "mr":
        seen = image if scan.inside is None else image[scan.inside]
        low, high = float(seen.min()), float(np.quantile(seen, MR_QUANTILE))
        scaled = (image - low) / max(high - low, 1e-6)
    else:
        scaled = image * CT_STRETCH
    scaled = scaled.clip(0, 1)
    if scan.inside is not None:
        scaled = np.where(scan.inside, scaled, 0)
    tensor = torch.from_numpy(np.ascontiguousarray(scaled, np.float32))[None, None]
    return F.interpolate(tensor, size=(edge,) * 3, mode="trilinear", align_corners=False)


def in_voxels(positions: Tensor, identity: Tensor, shape: Sequence[int]) -> Tensor:
    """A map of the network as a displacement of the pair's grid.

    Args:
        positions: (1, 3, n, n, n), where each point of the cube goes, in [0, 1], order z, y, x.
        identity: (1, 3, n, n, n), the points themselves.
        shape: of the grid, (z, y, x).

    Returns:
        (1, 3, D, H, W), voxels of the grid, components z, y, x.
    """
    n = identity.shape[2:]
    # The images were stretched with the borders of the outer voxels in place, so that n voxels have the length of N.
    scale = positions.new_tensor([(k - 1) * size / k for k, size in zip(n, shape, strict=True)]).view(1, 3, 1, 1, 1)
    return F.interpolate((positions - identity) * scale, size=tuple(shape), mode="trilinear", align_corners=False)
