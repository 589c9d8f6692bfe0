"""Ratios of times, measured in turn (A B A B ...), medians: python -m benchmarks.speed [--json FILE] [--runs N]

tile      a 384x384 picture through the bundled x4 model on the CPU, --tile auto against --tile off
start     `irestore --help` against `python -c pass`, whole processes
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def in_turn(a: Callable[[], object], b: Callable[[], object], runs: int) -> dict[str, float]:
    """Medians in seconds of both and of the ratios a / b pair by pair, after one run of each that is not counted."""
    a(), b()
    times: list[tuple[float, float]] = []
    for _ in range(runs):
        start = time.perf_counter()
        a()
        middle = time.perf_counter()
        b()
        times.append((middle - start, time.perf_counter() - middle))
    return {
        "a_seconds": round(statistics.median(t for t, _ in times), 3),
        "b_seconds": round(statistics.median(t for _, t in times), 3),
        "ratio": round(statistics.median(x / y for x, y in times), 3),
    }


def tile(runs: int) -> dict[str, float]:
    """--tile auto (a) against --tile off (b)."""
    import torch

    from irestore import weights
    from irestore.planning import Settings
    from irestore.runner import restore

    entry = next(entry for entry in weights.entries() if entry.bundled and entry.scale == 4)
    model = weights.load(entry)
    image = torch.rand(1, 3, 384, 384, generator=torch.Generator().manual_seed(0))
    auto, off = (
        (lambda: restore(model, image, Settings(tile="auto"))),
        (lambda: restore(model, image, Settings(tile="off"))),
    )
    return in_turn(auto, off, runs)


def start(runs: int) -> dict[str, float]:
    """`irestore --help` (a) against `python -c pass` (b)."""

    def process(*arguments: str) -> Callable[[], object]:
        return lambda: subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    return in_turn(process("-m", "irestore", "--help"), process("-c", "pass"), runs)


def main() -> None:
    """Runs both and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    rows = {"tile": tile(options.runs), "start": start(3 * options.runs)}
    for name, row in rows.items():
        print(f"{name:6}", "  ".join(f"{key} {value}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
