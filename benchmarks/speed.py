"""Ratios of times on a CPU, measured in turn (A B A B ...): python -m benchmarks.speed [--json FILE] [--md FILE]

reference  a whole picture by irestore against the plain whole-image networks of the tests, both in float32
half       bfloat16 against float32, and how far the two results are apart
tiles      --tile auto against the best of off and of fixed tiles
start      `irestore --help` against `python -c pass`, whole processes

Published networks have random weights: their values are not those of a restored picture, their times are.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.device import plain_float32, reference
from irestore import models, weights
from irestore.models.deduce import PUBLISHED
from irestore.models.network import Network
from irestore.planning import Settings
from irestore.runner import restore

Row = dict[str, Any]
TILES = (64, 128)
CPU = torch.device("cpu")


def network(name: str) -> tuple[Network, dict[str, Any]]:
    """A bundled network, or a published one, x4, with random weights; and its config."""
    for entry in weights.entries():
        if entry.name == name:
            return weights.load(entry), dict(entry.config)
    architecture, config = next(
        (kind, {**config, "upscale": 4}) for known, kind, _, config in PUBLISHED if known == name
    )
    torch.manual_seed(0)
    return models.build(architecture, config).eval(), config


def picture(side: int) -> torch.Tensor:
    """A slope with noise."""
    return 0.2 + torch.linspace(0, 0.6, side) + 0.1 * torch.rand(1, 3, side, side, generator=torch.manual_seed(0))


def in_turn(calls: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each, run after run, after one run of each that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(runs + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if run:
                times[name].append(time.perf_counter() - began)
    return times


def compared(a: Callable[[], object], b: Callable[[], object], runs: int) -> Row:
    """Median seconds of both, and the median of the ratios a / b pair by pair."""
    times = in_turn({"a": a, "b": b}, runs)
    ratios = [x / y for x, y in zip(times["a"], times["b"], strict=True)]
    seconds = {f"{name}_seconds": round(statistics.median(each), 3) for name, each in times.items()}
    return {**seconds, "ratio": round(statistics.median(ratios), 2)}


def by_reference(runs: int) -> Iterator[Row]:
    """a: irestore, b: the tests' reference."""
    for name, side in (("HEART", 256), ("compact-x4", 256), ("HAT-mini i-LN", 128)):
        made, config = network(name)
        image, state = picture(side), made.state_dict()
        architecture = next(key for key, kind in models.ARCHITECTURES.items() if type(made) is kind)

        def plain(config: Row = config, image: Any = image, state: Any = state, kind: str = architecture) -> None:
            with plain_float32(CPU):
                reference.restore(kind, state, config, image)

        yield {"network": name, "side": side, **compared(lambda m=made, i=image: restore(m, i), plain, runs)}


def by_half(runs: int) -> Iterator[Row]:
    """a: bf16, b: fp32."""
    for name, side in (("HEART", 128), ("compact-x4", 256), ("compact-restore", 256)):
        made, image = network(name)[0], picture(side)
        half, full = (
            lambda p=precision, m=made, i=image: restore(m, i, Settings(precision=p)) for precision in ("bf16", "fp32")
        )
        error = (half() - full()).double().square().mean().item()
        yield {"network": name, "side": side, **compared(half, full, runs), "psnr": round(-10 * math.log10(error), 1)}


def by_tiles(runs: int) -> Iterator[Row]:
    """a: auto, b: the fastest of the others."""
    for name, sides in (("HEART", (128,)), ("HAT-mini i-LN", (128, 256)), ("compact-x4", (128, 256, 512))):
        made = network(name)[0]
        for side in sides:
            image = picture(side)
            calls: dict[str, Callable[[], object]] = {
                str(tile): lambda t=tile, m=made, i=image: restore(m, i, Settings(tile=t))
                for tile in ("auto", "off", *(tile for tile in TILES if tile < side))
            }
            seconds = {way: statistics.median(times) for way, times in in_turn(calls, runs).items()}
            auto = seconds.pop("auto")
            best = min(seconds, key=lambda way: seconds[way])
            row: Row = {"network": name, "side": side, "best": best, "a_seconds": round(auto, 3)}
            yield {**row, "b_seconds": round(seconds[best], 3), "ratio": round(auto / seconds[best], 2)}


def by_start(runs: int) -> Iterator[Row]:
    """a: `irestore --help`, b: `python -c pass`."""

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    yield compared(process("-m", "irestore", "--help"), process("-c", "pass"), 3 * runs)


SECTIONS: dict[str, Callable[[int], Iterator[Row]]] = {
    "reference": by_reference,
    "half": by_half,
    "tiles": by_tiles,
    "start": by_start,
}


def page(found: Row) -> str:
    """The measurements as Markdown."""
    lines = ["# Speed on a CPU", "", f"`python -m benchmarks.speed`, medians, a and b in turn; {found['machine']}."]
    for name in SECTIONS:
        rows = found[name]
        lines += ["", f"## {name}", "", (SECTIONS[name].__doc__ or "").strip(), ""]
        lines += ["| " + " | ".join(rows[0]) + " |", "|---" * len(rows[0]) + "|"]
        lines += ["| " + " | ".join(map(str, row.values())) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--md", type=Path)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    capability = torch.backends.cpu.get_cpu_capability()
    machine = (
        f"{torch.get_num_threads()} threads of a {platform.machine()} CPU with {capability}, torch {torch.__version__}"
    )
    found: Row = {"machine": machine}
    for name, section in SECTIONS.items():
        found[name] = []
        for row in section(options.runs):
            found[name].append(row)
            print(name, row, flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.md:
        options.md.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()
