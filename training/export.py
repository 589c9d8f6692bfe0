"""A run's weights as a bundled file: python -m training.export RUN --out irestore/bundled/compact-x4.safetensors

Prints the model's table for weights.toml. The config is the run's own copy unless --config names another one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from irestore import models
from irestore.weights.files import fill, packed, unpacked
from irestore.weights.own import METADATA
from training.card import card
from training.learning import forward

PRECISIONS: dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]] = {
    "fp16": lambda weights: {name: value.half() for name, value in weights.items()},
    "fp32": dict,
    "int8": packed,
}
MEASURED = ("quality", "cpu_seconds")  # keys of an entry
SAID = ("architecture", "config", "task", "scale")  # by the run's file, and kept


def export(run: Path, out: Path, precision: str, release: dict[str, Any]) -> dict[str, Any]:
    """Writes `out` and gives the table of the manifest for it.

    Raises ValueError where the run's file does not say what it is, WeightsError where the tensors do not fit exactly.
    """
    source = run / "weights.safetensors"
    with safe_open(source, framework="pt") as file:
        said = json.loads((file.metadata() or {}).get(METADATA, "{}"))
    if missing := [key for key in SAID if key not in said]:
        raise ValueError(f"{source}: its metadata {METADATA!r} lacks {', '.join(missing)}")
    kept = {name: value.contiguous() for name, value in load_file(source).items()}
    weights = PRECISIONS[precision](kept)
    model = models.build(said["architecture"], said["config"])
    fill(model, unpacked(weights, out.name), out.name)
    told = {key: said[key] for key in SAID} | {key: release[key] for key in ("licence", "training_data")}
    save_file(weights, out, metadata={METADATA: json.dumps(told, sort_keys=True)})
    return {
        "name": release["name"],
        "task": said["task"],
        "scale": said["scale"],
        "description": release["description"],
        **({"sources": release["sources"]} if "sources" in release else {}),
        "bundled": True,
        "file": out.name,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
        "size_bytes": out.stat().st_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "licence": release["licence"],
        "source": "trained for irestore, see training/",
        "training_data": release["training_data"],
        "architecture": said["architecture"],
        "config": said["config"],
    }


@torch.no_grad()
def rounding(run: Path, out: Path) -> float:
    """How far the exported network is from the run's own on a picture of noise: the largest difference, 0..1."""
    results = []
    for path in (run / "weights.safetensors", out):
        with safe_open(path, framework="pt") as file:
            said = json.loads(file.metadata()[METADATA])
        model = models.build(said["architecture"], said["config"])
        fill(model, unpacked(load_file(path), path.name), path.name)
        side = 2 * model.window
        image = torch.rand(1, model.in_chans, side, side, generator=torch.Generator().manual_seed(0))
        results.append(forward(model, image))
    return float((results[0] - results[1]).abs().max())


def put(entry: dict[str, Any], manifest: Path) -> None:
    """Writes the entry into a manifest, in the place of the one of its name, else at the end.

    What was measured of that one stays, until it is measured again.
    """
    tables = re.split(r"(?m)^(?=\[\[model\]\]$)", manifest.read_text(encoding="utf-8"))
    own = [i for i, table in enumerate(tables) if re.search(rf'(?m)^name = "{re.escape(entry["name"])}"$', table)]
    before = tomllib.loads(tables[own[0]])["model"][0] if own else {}
    text = as_toml(entry | {key: before[key] for key in MEASURED if key in before and key not in entry}) + "\n"
    if own:
        tables[own[0]] = text + ("\n" if own[0] < len(tables) - 1 else "")
    else:
        tables[-1] = tables[-1].rstrip("\n") + "\n\n" + text
    manifest.write_text("".join(tables), encoding="utf-8")


def as_toml(entry: dict[str, Any]) -> str:
    """The entry as a [[model]] table."""
    lines = [f"{key} = {_toml(value)}" for key, value in entry.items() if key != "config"]
    config = [f"{key} = {_toml(value)}" for key, value in entry["config"].items()]
    return "\n".join(["[[model]]", *lines, "[model.config]", *config])


def _toml(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 10_000:
        return f"{value:_}"
    return json.dumps(value, ensure_ascii=False)  # strings, numbers, booleans and lists are the same in TOML


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a training run")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--config", type=Path, help="the run's config, where its folder has no copy")
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of the file, for that of the config; it is computed in float32"
    )
    parser.add_argument("--card", type=Path, help="also write a model card, in Markdown")
    parser.add_argument("--manifest", type=Path, help="also put the table into this file, such as weights.toml")
    options = parser.parse_args(arguments)
    config = tomllib.loads((options.config or options.run / "config.toml").read_text(encoding="utf-8"))
    precision = options.precision or config["release"].get("precision", "fp16")
    entry = export(options.run, options.out, precision, config["release"])
    print(as_toml(entry))
    print(f"# rounding to {precision} moves the result by at most {rounding(options.run, options.out):.1e}")
    if options.manifest:
        put(entry, options.manifest)
    if options.card:
        options.card.write_text(card(entry, config, options.run / "log.jsonl"), encoding="utf-8")


if __name__ == "__main__":
    main()
