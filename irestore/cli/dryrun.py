"""`--dry-run`: the plan in words, with sizes, the memory and the time that it is expected to take."""

import json
import sys
import time
from collections.abc import Callable

from irestore import weights
from irestore.batch.checks import least_bytes
from irestore.batch.inputs import Item
from irestore.batch.plan import Plan
from irestore.batch.report import Outcome, duration
from irestore.cli.options import Options
from irestore.errors import one_line


def show(plan: Plan, entry: weights.Entry, options: Options) -> None:
    """One line a picture on stdout and a total on stderr. Downloads nothing; builds the network to ask for its cost."""
    forecast = forecaster(entry, options) if plan.items and entry.architecture else lambda item: (None, None)
    largest, total_seconds = 0, 0.0
    for item in plan.items:
        memory, seconds = forecast(item)
        largest, total_seconds = max(largest, memory or 0), total_seconds + (seconds or 0.0)
        height, width = item.info.height, item.info.width
        size, larger = (height, width), (height * entry.scale, width * entry.scale)
        if options.messages.json:
            rounded = None if seconds is None else round(seconds, 2)
            planned = Outcome("planned", item.input.path, item.target, "", size, larger, entry.name, rounded, memory)
            print(json.dumps(planned.record()))
            continue
        line = f"{item.input.path} -> {item.target or '-'}  {width}x{height} -> {larger[1]}x{larger[0]}"
        if memory is not None and seconds is not None:
            line += f"  {memory / 2**20:.0f} MiB  {duration(seconds)}"
        print(one_line(line))
    if options.messages.quiet:
        return
    told = f"{len(plan.items)} to do with {entry.name} ({weights.state(entry, options.model.model_dir)})"
    if largest:
        told += f", about {duration(total_seconds)} and {largest / 2**20:.0f} MiB beyond the loaded network"
    disk = sum(least_bytes(item, entry.scale) for item in plan.items)
    print(f"irestore: {one_line(told)}, at least {disk / 1e6:.1f} MB of results", file=sys.stderr)


def forecaster(entry: weights.Entry, options: Options) -> Callable[[Item], tuple[int | None, float | None]]:
    """Bytes beyond the loaded model and seconds of an item, from a short run of the network with fresh weights."""
    import torch

    from irestore import models
    from irestore.runner import cost, restore

    device, settings = options.computing.begin()[0], options.computing.settings()
    network = models.build(entry.architecture, entry.config).eval().requires_grad_(False).to(device)
    side = 2 * network.window
    sample = torch.full((1, network.in_chans, side, side), 0.5)
    restore(network, sample, settings)
    started = time.monotonic()
    restore(network, sample, settings)
    seconds_a_pixel = (time.monotonic() - started) / side**2

    def forecast(item: Item) -> tuple[int, float]:
        return cost(network, item.info.height, item.info.width, settings).bytes, item.pixels * seconds_a_pixel

    return forecast
