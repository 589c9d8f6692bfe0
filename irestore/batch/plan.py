"""What a run will do, known and checked before anything is computed and before torch is imported."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irestore.batch.checks import check_folders, check_inputs_kept, check_space, check_targets
from irestore.batch.inputs import Refused, Source
from irestore.batch.naming import STDOUT, Naming, check_template, default_template
from irestore.batch.report import Outcome
from irestore.errors import ImageError, UsageError
from irestore.images import (
    FORMATS,
    Info,
    LoadOptions,
    SaveOptions,
    check_target,
    default_format,
    format_of,
    probe,
    target_format,
)

EXISTS = "the output exists"
MADE_BEFORE = "irestore made it"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, as far as files are concerned."""

    task: str
    scale: int
    model: str
    output: str | None = None  # a folder, a file, `-`; None: beside each input
    template: str | None = None
    overwrite: bool = False
    include_restored: bool = False
    load: LoadOptions = field(default_factory=LoadOptions)
    save: SaveOptions = field(default_factory=SaveOptions)


@dataclass(frozen=True)
class Item:
    """One picture to be made. `target` None is standard output; `format` is a key of `FORMATS`."""

    source: Source
    target: Path | None
    format: str
    info: Info
    frames: int  # to be restored

    @property
    def pixels(self) -> int:
        """Pixels to be read, over all frames."""
        return self.info.pixels * self.frames


@dataclass(frozen=True)
class Plan:
    """Pictures to be made, in order, and those about which there is nothing left to do."""

    items: tuple[Item, ...]
    settled: tuple[Outcome, ...]

    @property
    def pixels(self) -> int:
        """Pixels to be read."""
        return sum(item.pixels for item in self.items)


def plan(request: Request, found: Iterable[Source | Refused], *, dry: bool = False) -> Plan:
    """The plan for what was found. A picture that cannot be made is settled as failed, by name; the rest is planned.

    Raises UsageError, naming the files, when two outputs are one file, when an output is an input, or when the naming
    makes no sense; WriteError when the outputs cannot fit on the disk. Makes the output folders, unless `dry`.
    """
    found = list(found)
    sources = [each for each in found if isinstance(each, Source)]
    naming = naming_for(request, sources, several=len(found) > 1)
    items: list[Item] = []
    settled: list[Outcome] = []
    for each in found:
        result = _settle(request, naming, each)
        (items if isinstance(result, Item) else settled).append(result)  # type: ignore[arg-type]
    own = {outcome.source for outcome in settled if outcome.reason == MADE_BEFORE}
    by_path = {source.path: source for source in sources}
    pairs = [(by_path[each.source], each.target) for each in settled if each.target and each.source in by_path]
    check_targets(pairs + [(item.source, item.target) for item in items if item.target])
    check_inputs_kept(items, [source for source in sources if source.path not in own])
    unwritable = check_folders(items, dry=dry)
    possible: list[Item] = []
    for item in items:
        if item.target is not None and item.target.parent in unwritable:
            settled.append(_failed(item.source.path, item.target, unwritable[item.target.parent]))
        else:
            possible.append(item)
    check_space(possible, request.scale)
    return Plan(tuple(possible), tuple(settled))


def naming_for(request: Request, sources: Sequence[Source], *, several: bool) -> Naming:
    """The rule that names the outputs. Raises UsageError for one that cannot work with these inputs."""
    template = check_template(request.template or default_template(request.scale))
    values = {"task": request.task, "model": request.model, "scale": str(request.scale)}
    suffix = None if request.save.format == "auto" else FORMATS[request.save.format].suffixes[0]
    output = request.output
    stdin = any(source.content is not None for source in sources)
    if output is None:
        return Naming(template, values, suffix=suffix)
    if output == STDOUT:
        if several:
            raise UsageError("-o -: standard output takes one picture; name one input, or give a folder")
        return Naming(template, values, to_stdout=True)
    if (
        several
        or not (sources and all(source.alone for source in sources))
        or output.endswith(("/", os.sep))
        or os.path.isdir(output)  # noqa: PTH112 Path raises for a name that is too long
    ):
        if stdin:
            raise UsageError(f"-o {output}: what is read from standard input has no name; give the output one")
        return Naming(template, values, folder=Path(output), suffix=suffix)
    if request.save.format == "auto" and format_of(output) is None and not Path(output).suffix:
        raise UsageError(f"-o {output}: a file needs a suffix, as in {output}.png; for a folder write {output}/")
    check_target(format_for(Path(output), request.save, ""), 1, 1, False, request.save)
    return Naming(template, values, file=Path(output))


def _settle(request: Request, naming: Naming, found: Source | Refused) -> Item | Outcome:
    """The item for what was found, or its outcome where nothing is left to do. Raises UsageError for a bad name."""
    path = found.path
    if isinstance(found, Refused):
        return _failed(path, None, found.reason)
    target = naming.target(path, found.below, None)
    if target is not None and not request.overwrite and os.path.lexists(target):
        return Outcome("skipped", path, target, EXISTS)
    try:
        info = probe(found.stream(), request.load)
    except ImageError as error:
        return _failed(path, target, str(error))
    if not (found.alone or request.include_restored) and made_before(info, request.task):
        return Outcome("skipped", path, None, MADE_BEFORE)
    frames = info.frames if request.load.frames == "all" else 1
    default = default_format(info.format, frames)
    if target is None:
        target = naming.target(path, found.below, FORMATS[default].suffixes[0])
        if target is not None and not request.overwrite and os.path.lexists(target):
            return Outcome("skipped", path, target, EXISTS)
    item = Item(found, target, format_for(target, request.save, default), info, frames)
    reason = _impossible(request, item)
    return item if reason is None else _failed(path, target, f"{path}: {reason}")


def _impossible(request: Request, item: Item) -> str | None:
    """Why the picture cannot be made, None if it can."""
    info, scale = item.info, request.scale
    if info.frames > 1 and request.load.frames == "error":
        return f"has {info.frames} frames or pages; --frames first takes the first, --frames all takes all"
    if item.frames > 1 and item.target is None:
        return f"has {item.frames} frames, standard output takes one; give a file to -o"
    if item.frames > 1 and not FORMATS[item.format].frames:
        return f"{item.format} holds one frame, this has {item.frames}; choose --frames first, or gif, webp, png"
    try:
        check_target(item.format, info.width * scale, info.height * scale, False, request.save)
    except UsageError as error:
        return str(error)
    return None


def _failed(path: Path, target: Path | None, reason: str) -> Outcome:
    return Outcome("failed", path, target, reason)


def format_for(target: Path | None, save: SaveOptions, default: str) -> str:
    """The format to write. Raises UsageError where the target's suffix names none, or another than `--format` does."""
    if target is None:
        return default if save.format == "auto" else save.format
    named = format_of(target)
    if save.format != "auto" and named not in (None, save.format):
        raise UsageError(f"{target}: its suffix says {named}, --format says {save.format}; make them agree")
    return target_format(target, save)


def made_before(info: Info, task: str) -> bool:
    """Whether irestore wrote this picture as the result of the same task."""
    return info.provenance is not None and f"task={task}" in info.provenance.split()
