"""Batches: how busy the network is kept, what overlapping and one process gain, how planning and memory grow.

    python -m benchmarks.batch [--pictures 200] [--rounds 3] [--planned 10000] [--weights FILE] [--json FILE]

By default the first bundled x4 model computes, or a compact one with random weights where none is bundled. The machine
should do nothing else. "alone" is a loop of runs with one picture each, of which `--singles` are timed.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

IRESTORE = str(Path(sysconfig.get_path("scripts")) / "irestore")
SIZES = ((48, 64), (64, 64), (96, 64), (80, 112), (128, 96))  # height, width of the small pictures
COMPACT = {"upscale": 4, "embed_dim": 40, "depths": [2, 2], "num_heads": [4, 4], "window_size": 16, "num_feat": 40}
COMPACT |= {"squeeze_factor": 10, "upsampler": "pixelshuffledirect", "global_skip": True}

# The same reading, computing and writing as in a run, one after the other: what `irestore` would be without overlap.
IN_TURN = """
import sys, time
from pathlib import Path
import torch
from irestore import weights
from irestore.batch import files
from irestore.batch.chain import Size, Step
from irestore.batch.inputs import find
from irestore.batch.plan import Request, plan
from irestore.batch.restorer import Restorer
from irestore.planning import Settings
entry = weights.from_file(sys.argv[1])
model = weights.read(entry, Path(sys.argv[1]))
step = Step("sr", entry.scale)
request = Request(tasks=("sr",), models={step: "x"}, size=Size(factor=entry.scale), output=sys.argv[3])
items = plan(request, find([sys.argv[2]], recursive=True)).items
restorer = Restorer({step: model}, Settings())
options = files.RunOptions()
began = time.monotonic()
for item in items:
    (picture,) = files.read_item(item, options)
    files.write_item(restorer([picture], lambda _: None), item, options)
print(time.monotonic() - began)
"""
PLANNING = """
import time
began = time.perf_counter()
import sys
from irestore.batch.chain import Size, Step
from irestore.batch.inputs import find
from irestore.batch.plan import Request, plan
request = Request(tasks=("sr",), models={Step("sr", 4): "x"}, size=Size(factor=4), output=sys.argv[2])
made = plan(request, find([sys.argv[1]], recursive=True))
print(time.perf_counter() - began, len(made.items), "torch" in sys.modules)
"""


def pictures(folder: Path, count: int) -> Path:
    """A folder of that many small pictures, of five sizes, with some structure to compress."""
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(count):
        height, width = SIZES[number % len(SIZES)]
        slope = np.linspace(0, 200, height)[:, None, None] + np.linspace(0, 30, width)[:, None]
        noise = generator.normal(0, 8, (height, width, 3))
        Image.fromarray((slope + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{number:05}.png")
    return folder


def random_weights(path: Path) -> Path:
    """A compact HEART with random weights, as a file that says what it is."""
    import torch
    from safetensors.torch import save_file

    from irestore import models

    torch.manual_seed(0)
    said = json.dumps({"architecture": "heart", "config": COMPACT, "task": "sr"})
    save_file(models.build("heart", COMPACT).state_dict(), path, metadata={"irestore": said})
    return path


def bundled() -> Path | None:
    """The file of the first bundled x4 model, if it says by itself what it is."""
    from irestore import weights

    for entry in weights.entries():
        if entry.bundled and (entry.task, entry.scale) == ("sr", 4):
            path = weights.locate(entry)
            with contextlib.suppress(Exception):
                weights.from_file(path)
                return path
    return None


def run(*arguments: object) -> str:
    """What the command said on stderr. Ends the benchmark if it failed."""
    done = subprocess.run([IRESTORE, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stderr


def seconds(call: Callable[[], object]) -> float:
    """The time that a call takes."""
    began = time.monotonic()
    call()
    return time.monotonic() - began


def overlap(folder: Path, source: Path, weights: Path, rounds: int, singles: int) -> dict[str, float]:
    """Wall times, medians of interleaved rounds: one run, the same in turn, a loop of runs with one picture each."""
    names = sorted(source.iterdir())
    times: dict[str, list[float]] = {"run": [], "run_with_start": [], "in_turn": [], "alone": []}
    busy = []
    for number in range(rounds):
        began = time.monotonic()
        said = run("sr", "--weights", weights, "-r", source, "-o", folder / f"run{number}", "-v")
        times["run_with_start"].append(time.monotonic() - began)
        took, computing = summary(said)
        busy.append(computing)
        in_turn = [sys.executable, "-c", IN_TURN, str(weights), str(source), str(folder / f"turn{number}")]
        times["in_turn"].append(float(subprocess.run(in_turn, check=True, capture_output=True, text=True).stdout))
        times["run"].append(took)
        chosen = names[number :: max(1, len(names) // singles)][:singles]
        alone = [
            seconds(lambda n=name: run("sr", "--weights", weights, n, "-o", f"{folder}/alone/")) for name in chosen
        ]  # type: ignore[misc]
        times["alone"].append(statistics.mean(alone) * len(names))
    row = {name: statistics.median(values) for name, values in times.items()}
    row["busy_percent"] = statistics.median(busy)
    row["in_turn_to_run"] = row["in_turn"] / row["run"]
    row["alone_to_run"] = row["alone"] / row["run_with_start"]
    return row


def summary(said: str) -> tuple[float, int]:
    """Seconds without the start, and the percentage of them spent computing, as a run with -v tells them."""
    told = re.search(r" failed in (.*) \(.*, computing (\d+)% of the time\)", said)
    assert told, said
    return parse(told[1]), int(told[2])


def parse(told: str) -> float:
    """Seconds of a duration as the summary tells it."""
    units = {"s": 1, "min": 60, "h": 3600}
    return sum(float(value) * units[unit] for value, unit in re.findall(r"([\d.]+) (h|min|s)", told))


def planning(folder: Path, count: int) -> dict[str, float]:
    """Seconds to plan so many different files, imports included, in a process of its own; the best of three."""
    source = pictures(folder / "planned", count)
    command = [sys.executable, "-c", PLANNING, str(source), str(folder / "planned_out")]
    told = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split() for _ in range(3)]
    assert all(int(each[1]) == count and each[2] == "False" for each in told)
    return {"files": count, "seconds": min(float(each[0]) for each in told)}


def memory(folder: Path, weights: Path, counts: Sequence[int]) -> dict[str, float]:
    """Peak resident MiB of a run, by the number of files; the files are small ones of the same five sizes."""
    row: dict[str, float] = {}
    for count in counts:
        source = pictures(folder / f"memory{count}", count)
        command = [
            IRESTORE,
            "sr",
            "--weights",
            str(weights),
            "-r",
            str(source),
            "-o",
            str(folder / f"m{count}"),
            "--json",
            "-q",
        ]
        records = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        row[f"mib_{count}"] = max(json.loads(line)["peak_bytes"] for line in records) / 2**20
    first, last = (row[f"mib_{count}"] for count in (counts[0], counts[-1]))
    return row | {"growth_percent": 100 * (last / first - 1)}


def show(table: dict[str, dict[str, float]], path: Path | None) -> None:
    """Prints the measurements, a line for each part, and writes them as JSON."""
    for part, row in table.items():
        print(f"{part:10}", "  ".join(f"{key} {value:.4g}" for key, value in row.items()))
    if path:
        path.write_text(json.dumps(table, indent=1) + "\n")


def main() -> None:
    """Runs all parts and prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--singles", type=int, default=5, help="runs with one picture that are timed in each round")
    parser.add_argument("--planned", type=int, default=10_000)
    parser.add_argument("--memory", type=int, nargs="+", default=[50, 500], help="numbers of files to compare")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    table = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        weights = options.weights or bundled() or random_weights(folder / "compact.safetensors")
        print(
            f"{weights.name}, {os.environ.get('OMP_NUM_THREADS', os.cpu_count())} threads, {options.pictures} pictures"
        )
        source = pictures(folder / "in", options.pictures)
        table["planning"] = planning(folder, options.planned)
        table["overlap"] = overlap(folder, source, weights.absolute(), options.rounds, options.singles)
        table["memory"] = memory(folder, weights.absolute(), options.memory)
    show(table, options.json)


if __name__ == "__main__":
    main()
