"""What people are told of a run before its end: how it is computed and why, and what would be faster."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from irestore import images, weights
from irestore.batch.chain import Step, stages
from irestore.batch.plan import EXISTS, MADE_BEFORE, Plan
from irestore.batch.report import Report
from irestore.cli.options import Options
from irestore.errors import duration
from irestore.tasks import TASKS

if TYPE_CHECKING:
    from irestore.models.network import Network

STORAGE = {"device": "in memory", "host": "in host memory", "scratch": "in a scratch file"}


def report_plan(
    planned: Plan, tasks: Sequence[str], entries: Mapping[Step, weights.Entry], options: Options, report: Report
) -> None:
    """Report what was settled by the plan already, and what people may not expect of the rest."""
    files, manifests = options.files, options.model.manifest
    for outcome in planned.settled:
        report.add(outcome)
    reasons = [outcome.reason for outcome in planned.settled]
    if made := reasons.count(MADE_BEFORE):
        report.note(f"{made} skipped: made by irestore itself; --include-restored takes such pictures too")
    if kept := sum(reason.startswith(EXISTS) for reason in reasons):
        report.note(f"{kept} skipped: the result exists already; --overwrite makes it again")
    for reason, count in Counter(reasons).items():
        if reason.startswith(f"{EXISTS}, "):
            report.note(
                f"{count} of those {reason.removeprefix(EXISTS + ', ')}; --redo replaces what another model made"
            )
    if options.pictures.format == "auto" and not images.format_of(files.output or ""):
        for (source, format), count in Counter((item.info.format, item.format) for item in planned.items).items():
            if source != format:
                report.note(f"{_pictures(count)} of format {source} will be {format}; -f chooses another format")
    clean = {step for step, entry in entries.items() if entry.sources == "clean"}
    jpegs = sum(item.info.lossy and not clean.isdisjoint(item.chain.steps) for item in planned.items)
    if jpegs and not {"dejpeg", "restore"} & set(tasks):
        names = " or ".join(sorted(entries[step].name for step in clean))
        every = (each for step in clean for each in weights.candidates(step.task, step.scale, None, manifests))
        fitting = [entry.name for entry in every if entry.sources == "lossy"]
        remedy = f"-m {fitting[0]} is" if fitting else "--first dejpeg mostly gives a better result"
        report.note(f"{_pictures(jpegs)} compressed with loss: {names} is not made for that, {remedy}")
    several = [item.chain for item in planned.items if sum(step.scale > 1 for step in item.chain.steps) > 1]
    if several:
        report.note(
            f"several networks for {_pictures(len(several))}, because one does not enlarge so much: {several[0]}"
        )
    large = sum(item.chain.restored == item.chain.source for item in planned.items)
    if large and TASKS[options.task].enlarges:
        report.note(f"{_pictures(large)} not enlarged, only reduced: large enough already")
    if not planned.items and not planned.settled:
        of_shard = f" of shard {files.shard}" if files.shard.count > 1 else ""
        report.note(f"no pictures{of_shard} found in {', '.join(files.inputs) or files.files_from}")


def circumstances(plan: Plan, networks: "Mapping[Step, Network]", devices: str, options: Options) -> Iterator[str]:
    """For each network a line: the model, devices, precision and tile, and why. Imports torch."""
    import torch

    from irestore.planning import cost

    computing, settings = options.computing, options.computing.settings()
    largest = max(plan.items, key=lambda item: item.info.pixels).chain
    sizes = {step: (height, width) for step, height, width in stages(largest.steps, *largest.source)}
    for step, network in networks.items():
        device = devices
        if computing.device == "auto":
            device += " (PyTorch sees no GPU)" if device == "cpu" else " (auto: a GPU before the CPU)"
        here = options.workers is None
        if here and network.device.type == "cpu":
            device += f", threads: {torch.get_num_threads()}"
        precision = "fp32 (auto: the exact one)" if settings.precision == "auto" else settings.precision
        millions = sum(each.numel() for each in network.parameters()) / 1e6
        line = f"{network.name} ({millions:.1f} M parameters) on {device}; {precision}"
        if step.lossy:
            line += "; for pictures compressed with loss, unless -m names a model"
        if here and step in sizes:
            (height, width), plan_of = sizes[step], cost(network, *sizes[step], settings)
            tile = "no tiles" if plan_of.tile is None else "tiles of {1}x{0}".format(*plan_of.tile)
            why = " (auto: the fastest that fits)" if settings.tile == "auto" else ""
            line += f"; {tile}{why} for {width}x{height}, about {plan_of.bytes / 2**20:.0f} MiB, "
            line += f"feature maps {STORAGE[plan_of.storage]}"
        yield line


def hint(seconds: float, entries: Mapping[Step, weights.Entry], device: str, options: Options) -> str:
    """What to say of a run that will take that long."""
    from irestore.devices import KNOWS_BF16

    told = f"this will take about {duration(seconds)} with {', '.join(e.name for e in entries.values())} on {device}"
    for step, entry in entries.items():
        fast, *_ = weights.candidates(step.task, step.scale, "fast", options.model.manifest)
        if entry.cpu_seconds and fast.cpu_seconds and fast.cpu_seconds < entry.cpu_seconds and len(entries) == 1:
            told += f"; -m {fast.name}: about {duration(seconds * fast.cpu_seconds / entry.cpu_seconds)}"
    if device == "cpu" and KNOWS_BF16 and options.computing.precision in ("auto", "fp32"):
        told += "; --precision bf16 is faster and within 1 of 255"
    if options.computing.ensemble:
        told += f"; without --ensemble: about {duration(seconds / 8)}"
    return f"{told}; Ctrl-C keeps what is done"


def _pictures(count: int) -> str:
    """The count with its noun: 1 picture, 2 pictures."""
    return f"{count} picture{'' if count == 1 else 's'}"
