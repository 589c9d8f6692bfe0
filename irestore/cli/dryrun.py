"""`--dry-run`: the plan in words, with sizes, the memory and the time that it is expected to take."""

import json
import sys
import time
from collections.abc import Callable

from irestore import weights
from irestore.batch.checks import least_bytes
from irestore.batch.plan import Item, Plan
from irestore.batch.report import duration, size_record
from irestore.cli.options import Options
from irestore.errors import one_line

Forecast = Callable[[Item], tuple[int, float]]  # bytes beyond the loaded model, seconds


def show(plan: Plan, entry: weights.Entry, options: Options) -> None:
    """One line a picture on stdout and a total on stderr. Downloads nothing; builds the network to ask for its cost."""
    forecast = forecaster(entry, options) if plan.items and entry.architecture else None
    largest, total_seconds = 0, 0.0
    for item in plan.items:
        memory, seconds = forecast(item) if forecast else (None, None)
        largest, total_seconds = max(largest, memory or 0), total_seconds + (seconds or 0.0)
        print(_record(item, entry, memory, seconds) if options.messages.json else _line(item, entry, memory, seconds))
    if options.messages.quiet:
        return
    told = f"{len(plan.items)} to do with {entry.name} ({weights.state(entry, options.model.model_dir)})"
    if forecast is not None:
        told += f", about {duration(total_seconds)} and {largest / 2**20:.0f} MiB beyond the loaded network"
    disk = sum(least_bytes(item, entry.scale) for item in plan.items)
    print(f"irestore: {one_line(told)}, at least {disk / 1e6:.1f} MB of results", file=sys.stderr)


def forecaster(entry: weights.Entry, options: Options) -> Forecast:
    """Memory and time of an item on the chosen device, from a short run of the network with fresh weights there."""
    import torch

    from irestore import models
    from irestore.runner import cost, restore

    device, settings = options.computing.begin(), options.computing.settings()
    network = models.build(entry.architecture, entry.config).eval().requires_grad_(False).to(device)
    side = 2 * network.window
    sample = torch.full((1, network.in_chans, side, side), 0.5)
    restore(network, sample, settings)
    started = time.monotonic()
    restore(network, sample, settings)
    seconds_a_pixel = (time.monotonic() - started) / side**2

    def forecast(item: Item) -> tuple[int, float]:
        planned = cost(network, item.info.height, item.info.width, settings)
        return planned.bytes, item.pixels * seconds_a_pixel

    return forecast


def _line(item: Item, entry: weights.Entry, memory: int | None, seconds: float | None) -> str:
    info, scale = item.info, entry.scale
    line = f"{item.source.path} -> {item.target or '-'}  {info.width}x{info.height} -> "
    line += f"{info.width * scale}x{info.height * scale}"
    if memory is not None and seconds is not None:
        line += f"  {memory / 2**20:.0f} MiB  {duration(seconds)}"
    return one_line(line)


def _record(item: Item, entry: weights.Entry, memory: int | None, seconds: float | None) -> str:
    height, width = item.info.height, item.info.width
    record = {
        "status": "planned",
        "input": str(item.source.path),
        "output": None if item.target is None else str(item.target),
        "input_size": size_record((height, width)),
        "output_size": size_record((height * entry.scale, width * entry.scale)),
        "model": entry.name,
        "seconds": None if seconds is None else round(seconds, 2),
        "peak_bytes": memory,
    }
    return json.dumps(record)
