"""Which model restores: what the options name, or the default for the task and the device."""

import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from irestore import weights
from irestore.cli.options import DEFAULT_SCALE, Computing, Model
from irestore.errors import UsageError, file_size, say
from irestore.tasks import TASKS
from irestore.weights import hub


def candidates(model: Model, computing: Computing, task: str, scale: int | None) -> tuple[weights.Entry, ...]:
    """The models that may be used, best first; `scale` is that of --scale.

    On a CPU the bundled one comes first whatever the pictures are, so that a command that is run again takes the same.
    Raises UsageError, and UnknownModelError where there is none.
    """
    if None not in (model.weights, model.model):
        raise UsageError("--model and --weights both name a model; give one of them")
    name, known = model.weights or model.model, weights.entries(model.manifest)
    if name is not None and (model.weights or weights.is_own(name, known)):
        config = weights.parse_config(model.config)
        return (weights.describe_own(name, architecture=model.architecture, config=config),)
    if model.architecture is not None or model.config:
        raise UsageError("--architecture and --config describe a file; give that to --weights or -m too")
    wanted = scale or DEFAULT_SCALE if TASKS[task].enlarges else 1
    if TASKS[task].enlarges and scale is None and model.named:
        named = weights.find(model.named, known)
        wanted = named.scale if named.task == task else wanted
    found = weights.candidates(task, wanted, name, model.manifest)
    needs_choice = len(found) > 1 and not found[0].bundled
    return weights.bundled_first(found) if needs_choice and computing.on_cpu() else found


def check_fits(entry: weights.Entry, task: str, scale: int | None) -> weights.Entry:
    """The entry itself. Raises UsageError where the file of `--weights` does something else than was asked."""
    if entry.task not in ("", task):
        raise UsageError(f"{entry.name}: is made for {entry.task}; use: irestore {entry.task}")
    asked = {scale} if scale else {2, 3, 4} if TASKS[task].enlarges else {1}
    if entry.scale not in asked:
        raise UsageError(f"{entry.name}: enlarges {entry.scale} times, {task} needs {' or '.join(map(str, asked))}")
    return entry


def explain(wanted: Sequence[weights.Entry], *, quiet: bool) -> None:
    """Say which model a CPU takes, where that is not the best."""
    first = wanted[0]
    best = next((entry for entry in wanted if not entry.bundled), first)
    if not quiet and best is not first and first.bundled and best.cpu_seconds and first.cpu_seconds:
        times = f"about {best.cpu_seconds / first.cpu_seconds:.0f} times as long"
        say(f"{first.name} is used on a CPU, where {best.name} takes {times}; -m best takes that one")


def obtain(model: Model, wanted: Sequence[weights.Entry], *, quiet: bool = False) -> weights.Found:
    """The model to use and its verified file. Says what is downloaded, and, even if `quiet`, that another model takes
    the place of the first choice. Raises ModelError.
    """
    first = wanted[0]
    if quiet:
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    elif weights.will_download(first, offline=model.offline, model_dir=model.model_dir):
        place = f"{urlsplit(hub.endpoint()).netloc} ({first.repo})"
        say(f"{first.name} is not on this machine: downloading {size_of(first)} from {place}, once; -m fast needs none")
    found = weights.obtain(wanted, offline=model.offline, model_dir=model.model_dir)
    if found.warning is not None:
        say(f"warning: {found.warning}; to insist: -m {first.name}")
    return found


def size_of(entry: weights.Entry) -> str:
    """`67 MB`, `~67 MB` where it is an estimate, `?` where nothing is known."""
    return f"{'' if entry.size_bytes else '~'}{file_size(entry.about_bytes)}" if entry.about_bytes else "?"
