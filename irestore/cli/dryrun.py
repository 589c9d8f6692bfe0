"""`--dry-run`: the plan in words, with sizes, the memory and the time that it is expected to take."""

import json
import time
from collections.abc import Callable, Mapping

from irestore import weights
from irestore.batch.chain import Step, stages
from irestore.batch.checks import least_bytes
from irestore.batch.inputs import Item
from irestore.batch.plan import Plan
from irestore.batch.report import Outcome
from irestore.cli.options import Options
from irestore.errors import duration, file_size, one_line, say


def show(plan: Plan, entries: Mapping[Step, weights.Entry], options: Options) -> None:
    """One line a picture on stdout and a total on stderr. Downloads nothing; builds the networks to ask for their cost.

    `entries` are those that the plan needs.
    """
    known = plan.items and all(entry.architecture for entry in entries.values())
    forecast = forecaster(entries, options) if known else lambda item: (None, None)
    largest, total_seconds = 0, 0.0
    for item in plan.items:
        memory, seconds = forecast(item)
        largest, total_seconds = max(largest, memory or 0), total_seconds + (seconds or 0.0)
        chain = item.chain
        if options.messages.json:
            rounded = None if seconds is None else round(seconds, 2)
            sizes = chain.source, chain.size, item.model or None
            print(json.dumps(Outcome("planned", item.input.path, item.target, "", *sizes, rounded, memory).record()))
            continue
        (height, width), (tall, wide) = chain.source, chain.size
        line = f"{item.input.path} -> {item.target or '-'}  {width}x{height} -> {wide}x{tall}"
        if len(chain.steps) != 1 or chain.size != chain.restored:
            line += f" ({chain})"
        if memory is not None and seconds is not None:
            line += f"  {memory / 2**20:.0f} MiB  {duration(seconds)}"
        print(one_line(line))
    if options.messages.quiet:
        return
    models = (f"{entry.name} ({weights.state(entry, options.model.model_dir)})" for entry in entries.values())
    told = f"{len(plan.items)} to do{' with ' if entries else ''}{' and '.join(models)}"
    if largest:
        told += f", about {duration(total_seconds)} and {largest / 2**20:.0f} MiB beyond the loaded network"
    if plan.items:
        told += f", at least {file_size(sum(map(least_bytes, plan.items)))} of results"
    say(told)


def forecaster(
    entries: Mapping[Step, weights.Entry], options: Options
) -> Callable[[Item], tuple[int | None, float | None]]:
    """Bytes beyond the loaded models and seconds of an item, from short runs of the networks with fresh weights."""
    import torch

    from irestore import models
    from irestore.planning import cost
    from irestore.runner import restore

    device, settings = options.computing.begin()[0], options.computing.settings()
    measured = {}
    for step, entry in entries.items():
        network = models.build(entry.architecture, entry.config).eval().requires_grad_(False).to(device)
        side = 2 * network.window
        sample = torch.full((1, network.in_chans, side, side), 0.5)
        restore(network, sample, settings)
        started = time.monotonic()
        restore(network, sample, settings)
        measured[step] = network, (time.monotonic() - started) / side**2

    def forecast(item: Item) -> tuple[int, float]:
        memory, seconds = 0, 0.0
        for step, height, width in stages(item.chain.steps, *item.chain.source):
            network, seconds_a_pixel = measured[step]
            memory = max(memory, cost(network, height, width, settings).bytes)
            seconds += height * width * item.frames * seconds_a_pixel
        return memory, seconds

    return forecast
