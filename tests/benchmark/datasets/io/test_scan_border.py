"""Vertebrae cut by the border of a scan."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.io.scan_border import cut_vertebrae


def scan() -> tuple[np.ndarray, np.ndarray]:
    labels = np.zeros((30, 12, 12), np.uint16)
    labels[0:8, 3:9, 3:9], labels[10:18, 3:9, 3:9], labels[20:28, 3:9, 3:9] = 22, 21, 20
    return labels, np.random.default_rng(0).random(labels.shape)


def test_a_label_in_the_last_slice_is_cut() -> None:
    assert cut_vertebrae(*scan()) == {22}


def test_a_label_beside_padding_is_cut() -> None:
    labels, image = scan()
    image[28:] = -1000
    assert cut_vertebrae(labels, image) == {22, 20}


def test_whole_vertebrae_are_not_cut() -> None:
    labels, image = scan()
    assert cut_vertebrae(np.pad(labels, 2), np.pad(image, 2, mode="reflect")) == frozenset()
