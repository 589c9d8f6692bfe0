"""Golden files: weights, inputs and outputs of a network, upstream's own or (tests/data) those of tests/reference.py.

A golden NAME is one file NAME.safetensors or several NAME-0000k-of-0000n.safetensors. Tensors: `w.<key of the state
dict>`, `in.<i>` (B, C, H, W) in 0..1, `out.<i>`. The metadata `irestore_golden` is JSON with `arch`, `config`, `cases`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from irestore import models
from irestore.models.network import Network

OWN = Path(__file__).with_name("data")
ARCHITECTURE = {
    "heart": "heart",
    "hat_iln_official": "hat-iln",
    "hat_iln_trainner": "hat-iln",
    "dat_iln_trainner": "dat-iln",
}


def folder() -> Path | None:
    """The folder of upstream's goldens: IRESTORE_GOLDENS, else the sibling shared/goldens, else None."""
    named = os.environ.get("IRESTORE_GOLDENS")
    if named:
        assert Path(named).is_dir(), f"IRESTORE_GOLDENS={named} is not a folder"
        return Path(named)
    place = Path(__file__).resolve().parents[2] / "shared" / "goldens"
    return place if place.is_dir() else None


@dataclass
class Golden:
    meta: dict[str, Any]
    weights: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        return ARCHITECTURE[self.meta["arch"]]

    @property
    def dialect(self) -> str | None:
        return {"hat_iln_official": "official", "dat_iln_trainner": "trainner-dat"}.get(self.meta["arch"])

    @property
    def config(self) -> dict[str, Any]:
        return {**({"stdnorm": False} if self.dialect == "official" else {}), **self.meta["config"]}

    def model(self) -> Network:
        model = models.build(self.architecture, self.config)
        model.load_state_dict(models.rename(self.dialect, self.weights), strict=True)
        return model.eval()


@cache
def read(paths: tuple[Path, ...]) -> Golden:
    golden = Golden(metadata(paths[0]))
    for path in paths:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 (not a dict)
                kind, _, rest = key.partition(".")
                if kind == "w":
                    golden.weights[rest] = file.get_tensor(key)
                else:
                    {"in": golden.inputs, "out": golden.outputs}[kind][int(rest)] = file.get_tensor(key)
    return golden


def metadata(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        meta: dict[str, Any] = json.loads(file.metadata()["irestore_golden"])
    return meta


def names(place: Path) -> dict[str, tuple[Path, ...]]:
    """The files of each golden in order."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(place.glob("*.safetensors")):
        name = re.sub(r"-\d{5}-of-\d{5}$", "", path.stem)
        found[name] = (*found.get(name, ()), path)
    return found
