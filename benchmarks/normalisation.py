"""Normalisations compared: python -m benchmarks.normalisation [RUN...]

RUN is the folder of a run of training/configs/norm.toml with --norm (see training/). What their logs say goes into
benchmarks/normalisation.json; from that, also without RUN, benchmarks/normalisation.md and its drawings are written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from math import exp
from pathlib import Path
from statistics import fmean
from typing import Any

from irestore.plot import Panel, svg

HERE = Path(__file__).parent
KINDS = ("step", "seconds", "psnr_y", "magnitude", "largest", "entropy")
NAMES = {"i-ln": "i-LN", "i-ln without rescaling": "i-LN without rescaling", "layernorm": "LayerNorm", "none": "none"}
Line = dict[str, Any]  # of a log

HEAD = """# i-LN against other normalisations

Written by `python -m benchmarks.normalisation`.

{verdict}

![PSNR against steps](normalisation_psnr.svg)

![largest magnitude and lowest entropy against steps](normalisation_features.svg)

{table}
The network is that of `compact-x4` (1.26 million parameters, 10 blocks), trained four times from the same seed on the
same crops, each {minutes:.0f} minutes of one CPU core, by AdamW at 1e-3 in bfloat16
([norm.toml](../training/configs/norm.toml)). Only the normalisation differs: i-LN, over all pixels and channels, the
branch multiplied by the deviation again; the same without that; LayerNorm, of each pixel's channels; none, but a scale
and a shift of each channel. All is of the averaged weights on {held_out} held-out pictures. One seed: differences of a
few hundredths of a dB mean nothing.

Magnitude is |x| of the features after a block: the greatest, and the mean, each of the block where it is largest.
Entropy is that of the shares x² / Σ x² that the channels of a pixel have, in nats, the mean over the pixels; the most
is log 48 = 3.87 in the six outer blocks and log 96 = 4.56 in the four at the bottom. `irestore inspect` shows the same
of any model. These definitions are ours: the paper's formulas were not at hand.
"""
VERDICT = """The paper ([arXiv 2504.06629](https://arxiv.org/abs/2504.06629)) says that LayerNorm drives features
apart by orders of magnitude and lets the entropy of their channels collapse, and that i-LN cures both and restores
better.

* **Seen here too**: with LayerNorm the greatest feature is {largest:.1f} times, the mean one {magnitude:.1f} times as
  large as with i-LN. The entropy of the worst block falls to {layernorm:.2f} nats, as if {left:.1f} channels of 96 were
  left; with i-LN it ends at {iln:.2f}. i-LN is better by {same_steps:.2f} dB after as many steps, by
  {same_time:.2f} dB after as much time.
* **What does it here is the rescaling**: i-LN without it is like LayerNorm in every column. Without any
  normalisation the network hardly learns: {none:.1f} dB are missing.
* **Not seen here**: a divergence. Magnitudes with LayerNorm are larger from the start and do not grow, let alone to the
  million that the paper reports; but its smallest network, HAT-mini, has 36 blocks and trains for 300,000 steps, not
  {steps:,}."""


def read(run: Path) -> tuple[str, Line]:
    """A run's normalisation, and its log: what it had, and a list for each kind over the validations."""
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = [line for line in lines if "progress" in line]
    return lines[0]["norm"], {"held_out": lines[0]["held_out"]} | {
        kind: [line[kind] for line in seen] for kind in KINDS
    }


def curves(logs: dict[str, Line], kind: str, of_blocks: Callable[[Any], float]) -> dict[str, list[tuple[float, float]]]:
    """What to draw of a kind against steps."""
    return {
        NAMES[norm]: [(step, of_blocks(value)) for step, value in zip(log["step"], log[kind], strict=True)]
        for norm, log in logs.items()
    }


def table(logs: dict[str, Line]) -> str:
    """A row for each normalisation, at its end; PSNR also after as many steps as the slowest made."""
    last = min(log["step"][-1] for log in logs.values())
    rows = [
        ["", "steps", "PSNR-Y, dB", f"after {last:,} steps", "largest magnitude", "mean magnitude", "lowest entropy",
         "mean entropy"],
        ["---", *["---:"] * 7],
    ]  # fmt: skip
    own = {norm: (max(log["largest"][-1]), max(log["magnitude"][-1])) for norm, log in logs.items()}
    for norm, log in logs.items():
        before = max(i for i, step in enumerate(log["step"]) if step <= last)
        factors = [a / b for a, b in zip(own[norm], own["i-ln"], strict=True)]
        sizes = [f"{a:.2g}, {b:.1f} times" if b != 1 else f"{a:.2g}" for a, b in zip(own[norm], factors, strict=True)]
        entropies = [f"{of(log['entropy'][-1]):.2f}" for of in (min, fmean)]
        scores = [f"{log['step'][-1]:,}", f"{log['psnr_y'][-1]:.2f}", f"{log['psnr_y'][before]:.2f}"]
        rows.append([NAMES[norm], *scores, *sizes, *entropies])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def verdict(logs: dict[str, Line]) -> str:
    """What the figures say of LayerNorm and i-LN."""
    other, own = logs["layernorm"], logs["i-ln"]
    steps = other["step"][-1]
    near = max(i for i, step in enumerate(own["step"]) if step <= steps)
    lowest = {norm: min(logs[norm]["entropy"][-1]) for norm in logs}
    return VERDICT.format(
        largest=max(other["largest"][-1]) / max(own["largest"][-1]),
        magnitude=max(other["magnitude"][-1]) / max(own["magnitude"][-1]),
        layernorm=lowest["layernorm"],
        left=exp(lowest["layernorm"]),
        iln=lowest["i-ln"],
        same_steps=own["psnr_y"][near] - other["psnr_y"][-1],
        same_time=own["psnr_y"][-1] - other["psnr_y"][-1],
        none=own["psnr_y"][-1] - logs["none"]["psnr_y"][-1],
        steps=steps,
    )


def main() -> None:
    """Reads, draws and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="*", metavar="RUN")
    options = parser.parse_args()
    kept = HERE / "normalisation.json"
    if options.runs:
        found = dict(map(read, options.runs))
        told = [f"{json.dumps(norm)}: {json.dumps(found[norm])}" for norm in NAMES if norm in found]
        kept.write_text("{\n" + ",\n".join(told) + "\n}\n")
    logs: dict[str, Line] = json.loads(kept.read_text())
    panels = [
        Panel("PSNR-Y of held-out pictures, dB", "steps", curves(logs, "psnr_y", float)),
        Panel("largest magnitude of features, over all blocks", "steps", curves(logs, "largest", max), log=True),
        Panel("channel entropy, nats: the block that has the lowest", "steps", curves(logs, "entropy", min)),
    ]
    for name, drawn in (("psnr", panels[:1]), ("features", panels[1:])):
        (HERE / f"normalisation_{name}.svg").write_text(svg(drawn))
    first = logs["i-ln"]
    text = HEAD.format(
        verdict=verdict(logs), table=table(logs), minutes=first["seconds"][-1] / 60, held_out=first["held_out"]
    )
    (HERE / "normalisation.md").write_text(text)


if __name__ == "__main__":
    main()
