"""What a run takes beside its network: python -m benchmarks.start [--side 1000] [--runs 3] [--json FILE]

share     a square picture enlarged four times by compact-x4: the part of the whole process that is not the network
busy      one of 256x256 pixels beside 4 busy processes, against the same without them, on two processors, by turns
dry       --dry-run of 1,000 pictures, and of one

Medians. The machine should do nothing else; for one thread: OMP_NUM_THREADS=1 taskset -c 1.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.batch import pictures, run, seconds, show

BUSY = 4
MODEL = ("sr", "-x4", "-m", "compact-x4")
# The command, which prints at its end the seconds that it has spent in networks.
TIMED = """
import sys, time
from irestore.cli import job, main
read, spent = job.weights.read, []
def timed(*arguments):
    network = read(*arguments)
    forward = network.forward
    def measured(field):
        began = time.monotonic()
        result = forward(field)
        spent.append(time.monotonic() - began)
        return result
    network.forward = measured
    return network
job.weights.read = timed
main(sys.argv[1:])
print(sum(spent))
"""


def photograph(path: Path, side: int) -> Path:
    """A square picture of soft shapes with a little noise, which compresses about as photographs do."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (side // 25 + 1, side // 25 + 1, 3), np.uint8))
    soft = np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    Image.fromarray((soft + generator.normal(0, 2, soft.shape)).clip(0, 255).astype(np.uint8)).save(path)
    return path


def share(folder: Path, side: int, runs: int) -> dict[str, float]:
    """Seconds of the whole process and in its network, and what is left of the first as a part of it."""
    source, rows = photograph(folder / "in.png", side), []
    command = [sys.executable, "-c", TIMED, *MODEL, "-q", "--overwrite", str(source), "-o", str(folder / "out.png")]
    for _ in range(runs):
        began = time.monotonic()
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        rows.append((time.monotonic() - began, float(told)))
    whole, network = (statistics.median(each) for each in zip(*rows, strict=True))
    return {"whole_seconds": whole, "network_seconds": network, "other_percent": 100 * (1 - network / whole)}


@contextmanager
def busy_processes() -> Iterator[None]:
    """Some processes that compute without end."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def busy(folder: Path, runs: int) -> dict[str, float]:
    """Seconds alone and beside others, and their ratio."""
    source = photograph(folder / "small.png", 256)
    arguments = (*MODEL, "-q", "--overwrite", source, "-o", folder / "small_x4.png")
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:2])
    try:
        rows = []
        for _ in range(runs):
            alone = seconds(lambda: run(*arguments))
            with busy_processes():
                rows.append((alone, seconds(lambda: run(*arguments))))
    finally:
        os.sched_setaffinity(0, allowed)
    alone, beside = (statistics.median(each) for each in zip(*rows, strict=True))
    return {"alone_seconds": alone, "beside_seconds": beside, "ratio": beside / alone}


def dry(folder: Path, runs: int) -> dict[str, float]:
    """Seconds of --dry-run for many pictures and for one, and the difference."""
    source = pictures(folder / "many", 1000)
    one, many = next(source.iterdir()), ("-r", source)
    rows = [
        (seconds(lambda: run(*MODEL, "-n", "-q", one)), seconds(lambda: run(*MODEL, "-n", "-q", *many)))
        for _ in range(runs)
    ]
    single, thousand = (statistics.median(each) for each in zip(*rows, strict=True))
    return {"one_seconds": single, "thousand_seconds": thousand, "difference": thousand - single}


def main() -> None:
    """Runs all three and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {"share": share(folder, options.side, options.runs), "busy": busy(folder, options.runs)}
        rows["dry"] = dry(folder, options.runs)
    show(rows, options.json)


if __name__ == "__main__":
    main()
