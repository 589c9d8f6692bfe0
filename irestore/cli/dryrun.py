"""`--dry-run`: the plan in words, with sizes, the memory and the time that it is expected to take."""

import json
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from irestore import weights
from irestore.batch.checks import least_bytes
from irestore.batch.inputs import Item
from irestore.batch.plan import Plan
from irestore.batch.report import duration, one_line, size_record
from irestore.cli.options import Options

if TYPE_CHECKING:
    from irestore.models.network import Network

Forecast = Callable[[Item], tuple[int, float]]  # bytes beyond the loaded model, seconds


def show(plan: Plan, entry: weights.Entry, options: Options) -> None:
    """One line a picture on stdout and a total on stderr. Downloads nothing; builds the network to ask for its cost."""
    forecast = forecaster(entry, options) if plan.items and entry.architecture else None
    largest, total_seconds = 0, 0.0
    for item in plan.items:
        memory, seconds = forecast(item) if forecast else (None, None)
        largest, total_seconds = max(largest, memory or 0), total_seconds + (seconds or 0.0)
        _show_item(item, entry, memory, seconds, as_json=options.json)
    if options.quiet:
        return
    told = f"{len(plan.items)} to do with {entry.name} ({weights.state(entry, options.model_dir)})"
    if forecast is not None and plan.items:
        told += f", about {duration(total_seconds)} and {largest / 2**20:.0f} MiB beyond the loaded network"
    disk = sum(least_bytes(item, entry.scale) for item in plan.items)
    print(f"irestore: {told}, at least {disk / 1e6:.1f} MB of results", file=sys.stderr)


def forecaster(entry: weights.Entry, options: Options) -> Forecast:
    """Memory and time of an item on the chosen device, from a short run of the network with fresh weights there."""
    import torch

    from irestore import devices, models
    from irestore.runner import Settings, cost, restore

    if options.threads is not None:
        torch.set_num_threads(options.threads)
    device = devices.pick("cuda" if options.device == "cuda:all" else options.device)
    model: Network = models.build(entry.architecture, entry.config).eval().requires_grad_(False).to(device)
    settings = Settings(tile=options.tile, precision=options.precision, max_memory=options.max_memory)
    side = 2 * model.window
    sample = torch.full((1, model.in_chans, side, side), 0.5)
    restore(model, sample, settings)
    started = time.monotonic()
    restore(model, sample, settings)
    seconds_a_pixel = (time.monotonic() - started) / side**2

    def forecast(item: Item) -> tuple[int, float]:
        planned = cost(model, item.info.height, item.info.width, settings)
        return planned.bytes, item.pixels * seconds_a_pixel

    return forecast


def _show_item(item: Item, entry: weights.Entry, memory: int | None, seconds: float | None, *, as_json: bool) -> None:
    info, scale = item.info, entry.scale
    if as_json:
        record = {
            "status": "planned",
            "input": str(item.input.path),
            "output": None if item.target is None else str(item.target),
            "input_size": size_record((info.height, info.width)),
            "output_size": size_record((info.height * scale, info.width * scale)),
            "model": entry.name,
            "seconds": None if seconds is None else round(seconds, 2),
            "peak_bytes": memory,
        }
        print(json.dumps(record))
        return
    sizes = f"{info.width}x{info.height} -> {info.width * scale}x{info.height * scale}"
    line = f"{item.input.path} -> {item.target or '-'}  {sizes}"
    if memory is not None and seconds is not None:
        line += f"  {memory / 2**20:.0f} MiB  {duration(seconds)}"
    print(one_line(line))
