"""FireANTs in a Python environment of its own: this file runs there, and imports nothing of rigidbench.

It reads the name of a safetensors file from each line of its input, registers the images in the file, writes the
displacement beside it and answers with one line of JSON: `{"file": NAME}` or `{"error": TEXT}`. The file's metadata
have the settings as JSON. `methods.peers.other_python` is the other side.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any

import numpy as np


def register(arrays: dict[str, np.ndarray], settings: dict[str, Any]) -> dict[str, np.ndarray]:
    """Register two images.

    Args:
        arrays: `fixed` and `moving`, float32 (z, y, x), and where a scan did not see everything `fixed_seen` and
            `moving_seen`, 0 or 1.
        settings: the grid (spacing_mm, origin_mm, direction), device, threads and seed, and those of the row.

    Returns:
        `displacement_mm`, float32 (z, y, x, 3), LPS, fixed point p -> p + u(p).
    """
    import SimpleITK as sitk
    import torch
    from fireants.io.image import BatchedImages
    from fireants.registration.greedy import GreedyRegistration

    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    masked = any(name.endswith("_seen") for name in arrays)
    images = [BatchedImages([_image(arrays, name, masked, settings)]) for name in ("fixed", "moving")]
    registration = GreedyRegistration(
        scales=settings["scales"], iterations=settings["iterations"], fixed_images=images[0], moving_images=images[1],
        loss_type=("masked_" if masked else "") + settings["metric"], cc_kernel_size=settings["cc_width"],
        optimizer_lr=settings["step"], smooth_grad_sigma=settings["update_sigma"],
        smooth_warp_sigma=settings["total_sigma"], progress_bar=False, loss_params={},
    )  # fmt: skip
    registration.optimize()
    with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
        file = str(Path(folder) / "warp.nii")
        registration.save_as_ants_transforms([file])
        displacement = sitk.GetArrayFromImage(sitk.ReadImage(file))
    return {"displacement_mm": np.ascontiguousarray(displacement, np.float32)}


def _image(arrays: dict[str, np.ndarray], name: str, masked: bool, settings: dict[str, Any]) -> Any:
    """An image of FireANTs; its last channel is the mask of what was seen, if either scan has one."""
    import SimpleITK as sitk
    from fireants.io.image import Image

    def image_of(array: np.ndarray) -> Any:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(settings["spacing_mm"])
        image.SetOrigin(settings["origin_mm"])
        image.SetDirection(settings["direction"])
        return Image(image, device=settings["device"])

    image = image_of(arrays[name])
    if masked:
        image.concatenate(image_of(arrays.get(f"{name}_seen", np.ones_like(arrays[name]))))
    return image


def serve() -> None:
    """Answer requests until the input ends."""
    from safetensors import safe_open
    from safetensors.numpy import save_file

    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints goes to the log
    for line in sys.stdin:
        file = Path(line.rstrip("\n"))
        try:
            with safe_open(file, "numpy") as content:
                settings = json.loads(content.metadata()["settings"])
                arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118 - no mapping
            result = file.with_name("result.safetensors")
            save_file(register(arrays, settings), result)
            answer = {"file": str(result)}
        except Exception as error:  # noqa: BLE001 - any error of the library becomes the answer
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    serve()
