"""Makes the goldens in this folder from tests/reference.py: python tests/data/make.py"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))

import reference  # noqa: E402
from networks import HAT, HEART, network, pictures  # noqa: E402

SIZES = [(1, 8, 8), (1, 9, 14), (1, 2, 3), (2, 12, 8)]
SMALL = {"embed_dim": 8, "num_heads": [2]}
GOLDENS = {
    "heart_x2_w4": ("heart", "heart", {**HEART, **SMALL, "depths": [3], "compress_ratio": 2}),
    "hat_official_x2_w4": ("hat_iln_official", "hat-iln", {**HAT, **SMALL, "depths": [2], "stdnorm": True}),
}


def make(name: str, arch: str, architecture: str, config: dict[str, object]) -> None:
    weights = dict(network(architecture, dtype=torch.float32, **config).state_dict())
    if arch == "hat_iln_official":
        spelling = {"weight": "gamma", "bias": "beta"}
        for key in [key for key in weights if key.rpartition(".")[0].endswith(("norm", "norm1", "norm2"))]:
            stem, _, end = key.rpartition(".")
            weights[f"{stem}.{spelling[end]}"] = weights.pop(key)
    tensors = {f"w.{key}": value for key, value in weights.items()}
    cases = []
    for i, (batch, height, width) in enumerate(SIZES):
        kind, image = list(pictures(height, width, batch=batch))[2 * (i % 2)]
        tensors[f"in.{i}"] = image.float()
        tensors[f"out.{i}"] = reference.restore(architecture, weights, config, image.float()).float()
        cases.append({"i": i, "input": kind, "shape": list(image.shape)})
    meta = {
        "arch": arch,
        "config": config,
        "made_by": "tests/data/make.py",
        "cases": cases,
    }
    save_file(tensors, FOLDER / f"{name}.safetensors", metadata={"irestore_golden": json.dumps(meta)})


for name, (arch, architecture, config) in GOLDENS.items():
    make(name, arch, architecture, config)
