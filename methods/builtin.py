"""The catalogue of built-in methods. The registry imports it when it is first searched.

A row's factory and settings are in the fingerprint of its own cells, so that a new row makes no other row stale. This
module must not import torch: shell completion lists the names.
"""

from __future__ import annotations

from methods.deformable.variants import ROWS
from methods.registry import METHODS
from methods.voxelmorph.variants import VARIANTS

METHODS.add("initial", "methods.initial:Initial", summary="no registration: the pair as it was pre-aligned")
METHODS.add(
    "staring",
    "methods.elastix.staring:Staring",
    {"parameters": "paper"},
    "elastix B-spline, MI and Staring's rigidity penalty: the authors' parameter file",
)
METHODS.add(
    "staring-tuned",
    "methods.elastix.staring:Staring",
    {"parameters": "tuned", "near_mm": 20.0},
    "the same penalty with settings chosen on validation phantoms, several times as fast",
)
METHODS.add(
    "staring-fast",
    "methods.elastix.staring:Staring",
    {"parameters": "fast"},
    "the same penalty with few samples and iterations, for the quick run",
)
METHODS.add(
    "staring-oc",
    "methods.elastix.staring:Staring",
    {"parameters": "paper", "pc": 0.0},
    "staring with orthonormality alone: local rigidity as Loeckx 2004",
)
METHODS.add(
    "staring-pc",
    "methods.elastix.staring:Staring",
    {"parameters": "paper", "oc": 0.0},
    "staring with properness alone: incompressibility as Rohlfing 2003",
)
METHODS.add(
    "bspline",
    "methods.elastix.staring:Unpenalised",
    {"parameters": "paper"},
    "staring without the penalty: elastix B-spline and MI",
)
METHODS.add(
    "rigid",
    "methods.bones.rigid:Rigid",
    summary="one rigid transform of the whole image, found in the moving labels of all vertebrae together",
)
METHODS.add(
    "sitk-bspline",
    "methods.sitk_bspline:SitkBSpline",
    summary="SimpleITK B-spline, Mattes MI: another library's free-form deformation",
)
for _name, _penalties in VARIANTS.items():
    METHODS.add(
        _name,
        "methods.voxelmorph.method:VoxelMorph",
        {"penalties": dict(_penalties)},
        "the paper's diffeomorphic VoxelMorph: "
        + (f"trained with {' and '.join(_penalties)}" if _penalties else "the baseline"),
    )
for _name, _settings in ROWS.items():
    METHODS.add(
        _name,
        "methods.deformable.method:Deformable",
        dict(_settings),
        "B-splines optimised for each pair: "
        + (f"penalised by {' and '.join(_settings['penalties'])}" if _settings["penalties"] else "no penalty")
        + (f", from the field of {_settings['start']}" if "start" in _settings else ""),
    )
METHODS.add(
    "polyrigid",
    "methods.bones.polyrigid:Polyrigid",
    summary="a rigid transform per vertebra, found in its moving label, fused into a diffeomorphism (Arsigny)",
)
METHODS.add(
    "edt-interpolation",
    "methods.bones.edt_interpolation:EdtInterpolation",
    summary="the same rigid transforms, blended by distance (Little)",
)
METHODS.add(
    "smoothed",
    "methods.smoothed:Smoothed",
    # tests/checks/tuning/smoothed.py prints both values for the weights of the start. For other weights the row warns.
    {"start": "voxelmorph", "sigma_mm": 6.0, "chosen_for": "eb5a01596a8f"},
    "the field of voxelmorph after a Gaussian: what smoothing alone does for rigidity",
)
METHODS.add(
    "ants-syn",
    "methods.peers.ants_syn:AntsSyn",
    summary="ANTs' symmetric normalisation (antspyx), an optional peer",
)
METHODS.add(
    "greedy",
    "methods.peers.greedy:Greedy",
    summary="greedy diffeomorphic registration (picsl-greedy), an optional peer",
)
METHODS.add(
    "convexadam",
    "methods.peers.convexadam:ConvexAdam",
    summary="coupled convex optimisation on MIND, then Adam (convexAdam), an optional peer",
)
METHODS.add(
    "unigradicon",
    "methods.peers.gradicon:UniGradIcon",
    summary="network for many organs (uniGradICON), an optional peer: unigradicon:WEIGHTS",
)
METHODS.add(
    "multigradicon",
    "methods.peers.gradicon:MultiGradIcon",
    summary="the same network trained across modalities (multiGradICON), an optional peer: multigradicon:WEIGHTS",
)
METHODS.add(
    "anatomix-convexadam",
    "methods.peers.anatomix:AnatomixConvexAdam",
    summary="convexadam on features of the network anatomix, an optional peer: anatomix-convexadam:WEIGHTS",
)
METHODS.add(
    "fireants",
    "methods.peers.fireants:FireAnts",
    summary="FireANTs, an optional peer in a Python environment of its own: fireants:PYTHON",
)
METHODS.add(
    "oracle-polyrigid",
    "methods.bones.oracle:OraclePolyrigid",
    summary="the best rigid transform per vertebra, found from the FIXED labels: a ceiling in brackets, no method",
    oracle=True,
)
METHODS.add(
    "precomputed",
    "methods.precomputed:Precomputed",
    summary="fields made elsewhere, one file per case: precomputed:DIR; its time is that of reading",
)
