"""The catalogue of built-in datasets. The registry imports it when it is first searched."""

from __future__ import annotations

from methods.registry import DATASETS

DATASETS.add("phantom", "benchmark.datasets.phantom:Phantom", summary="procedural spines, 117/25/25 patients, no files")
DATASETS.add("folders", "benchmark.datasets.folders:Folders", summary="the paper's patient folders: folders:DIR")
DATASETS.add("learn2reg", "benchmark.datasets.learn2reg:Learn2Reg", summary="a Learn2Reg dataset.json: learn2reg:DIR")
DATASETS.add(
    "simulated", "benchmark.datasets.simulated:Simulated", summary="pairs from your own CT and labels (settings)"
)
