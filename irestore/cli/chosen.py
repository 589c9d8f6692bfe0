"""What the options mean: which model, how files are read and written, what is noted in the results."""

import hashlib
import re
from pathlib import Path
from typing import Literal, cast

import irestore
from irestore import images, weights
from irestore.cli.options import DEFAULT_SCALE, Options
from irestore.errors import UsageError

HUB = "hf:"  # how a reference to a file on the Hub begins


def candidates(task: str, options: Options) -> tuple[weights.Entry, ...]:
    """The models that may be used, best first. Raises UsageError, and UnknownModelError where there is none."""
    own = options.weights
    if own is None and options.model is not None and options.model.startswith(HUB):
        own = options.model
    if own is None:
        if options.architecture is not None or options.config:
            raise UsageError("--architecture and --config describe the file of --weights, which is not given")
        return weights.candidates(task, _scale(task, options), options.model, options.manifest)
    if None not in (options.weights, options.model):
        raise UsageError("--model and --weights both name a model; give one of them")
    describe = weights.from_hub if own.startswith(HUB) else weights.from_file
    return (describe(own, architecture=options.architecture, config=weights.parse_config(options.config)),)


def _scale(task: str, options: Options) -> int:
    """As asked, else what the model named is made for, else the default."""
    if task != "sr":
        return 1
    if options.scale is None and options.model is not None:
        named = weights.find(options.model, weights.entries(options.manifest))
        return named.scale if named.task == task else DEFAULT_SCALE
    return int(options.scale or DEFAULT_SCALE)


def check_fits(entry: weights.Entry, task: str, options: Options) -> weights.Entry:
    """The entry itself. Raises UsageError where the file of `--weights` does something else than was asked."""
    if entry.task not in ("", task):
        raise UsageError(f"{entry.name}: is made for {entry.task}; use: irestore {entry.task}")
    asked = {int(options.scale)} if options.scale else {1} if task != "sr" else {2, 3, 4}
    if entry.scale not in asked:
        raise UsageError(f"{entry.name}: enlarges {entry.scale} times, {task} needs {' or '.join(map(str, asked))}")
    return entry


def load_options(options: Options) -> images.LoadOptions:
    """How the options have pictures read."""
    return images.LoadOptions(max_pixels=options.max_pixels, frames=options.frames)


def save_options(options: Options) -> images.SaveOptions:
    """How the options have pictures written. Raises UsageError for what the chosen format cannot do."""
    depth: Literal["auto", 8, 16] = "auto" if options.depth == "auto" else cast(Literal[8, 16], int(options.depth))
    save = images.SaveOptions(
        format=options.format,
        depth=depth,
        quality=options.quality,
        lossless=options.lossless,
        background=options.background,
        metadata=options.metadata,
    )
    # A size that every format can hold: what is left to refuse is the options themselves.
    images.check_target("tiff" if save.format == "auto" else save.format, 1, 1, False, save)
    return save


def provenance(task: str, entry: weights.Entry, path: Path) -> str:
    """The tag of results: program, model, weights and task, by which a later run knows its own."""
    sha256 = entry.sha256
    if sha256 is None:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return f"{images.provenance(irestore.__version__, tag_safe(entry.name), sha256)} task={task}"


def tag_safe(name: str) -> str:
    """The model's name without what a file name or a tag could not hold: the name of one's own file can be anything."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)
