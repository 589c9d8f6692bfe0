"""Reading of golden files: upstream's own weights, inputs and outputs (the format is told in test_goldens.py)."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from irestore import models
from irestore.models.trunk import Trunk

ARCHITECTURE = {"heart": "heart", "hat_iln_official": "hat-iln", "hat_iln_trainner": "hat-iln"}


def folder() -> Path | None:
    """The folder of goldens: IRESTORE_GOLDENS, else the sibling shared/goldens; None where neither is there."""
    named = os.environ.get("IRESTORE_GOLDENS")
    place = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "goldens"
    return place if place.is_dir() else None


@dataclass
class Golden:
    name: str
    meta: dict[str, Any]
    weights: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)

    @classmethod
    def read(cls, paths: list[Path]) -> Golden:
        golden = None
        for path in paths:
            with safe_open(path, framework="pt") as file:
                golden = golden or cls(path.stem.split("-0")[0], json.loads(file.metadata()["irestore_golden"]))
                for key in file.keys():  # noqa: SIM118 (not a dict)
                    kind, _, rest = key.partition(".")
                    if kind == "w":
                        golden.weights[rest] = file.get_tensor(key)
                    else:
                        (golden.inputs if kind == "in" else golden.outputs)[int(rest)] = file.get_tensor(key)
        assert golden is not None
        return golden

    @property
    def supported(self) -> bool:
        return self.meta["arch"] in ARCHITECTURE

    @property
    def dialect(self) -> str | None:
        return "official" if self.meta["arch"].endswith("official") else None

    @property
    def config(self) -> dict[str, Any]:
        return {**({"stdnorm": False} if self.dialect else {}), **self.meta["config"]}

    def model(self) -> Trunk:
        model = models.build(ARCHITECTURE[self.meta["arch"]], self.config)
        model.load_state_dict(models.rename(self.dialect, self.weights), strict=True)
        return model.eval()


def groups(place: Path) -> dict[str, list[Path]]:
    """Golden name -> its files in order."""
    found: dict[str, list[Path]] = {}
    for path in sorted(place.glob("*.safetensors")):
        found.setdefault(path.stem.split("-0")[0], []).append(path)
    return found
