"""What a run will do, known and checked before anything is computed and before torch is imported."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from irestore import images
from irestore.batch.checks import check_folders, check_inputs_kept, check_space, check_targets
from irestore.batch.inputs import Elsewhere, Input, Item, Refused, examine
from irestore.batch.naming import STDOUT, Naming, check_template, default_template
from irestore.batch.report import Outcome
from irestore.errors import ImageError, UsageError

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
    load: images.LoadOptions = field(default_factory=images.LoadOptions)
    save: images.SaveOptions = field(default_factory=images.SaveOptions)


@dataclass(frozen=True)
class Plan:
    """Pictures to be made, in order, and the outcomes of those about which there is nothing left to do."""

    items: tuple[Item, ...]
    settled: tuple[Outcome, ...]

    @property
    def pixels(self) -> int:
        """Pixels to be read."""
        return sum(item.pixels for item in self.items)


def plan(request: Request, found: Iterable[Input | Refused | Elsewhere], *, dry: bool = False) -> Plan:
    """Plan what to make of what was found. A picture that cannot be made is settled as failed, by name.

    Raises UsageError, naming the files, when two outputs are one file, when an output is an input, or when the naming
    makes no sense; WriteError when the outputs cannot fit on the disk. Makes the output folders, unless `dry`.
    """
    found = list(found)
    inputs = [each for each in found if isinstance(each, Input)]
    naming = _naming(request, inputs, several=len(found) > 1)
    planned = [(each, _planned(request, naming, each)) for each in found if not isinstance(each, Elsewhere)]
    items = [result for _, result in planned if isinstance(result, Item)]
    settled = [result for _, result in planned if isinstance(result, Outcome)]
    check_targets((each, result.target) for each, result in planned if isinstance(each, Input) and result.target)
    # Of other shards only what lies in the place of a result is looked at.
    elsewhere = {os.path.abspath(each.path) for each in found if isinstance(each, Elsewhere)}  # noqa: PTH100 as above
    met = [examine(i.target) for i in items if elsewhere and i.target and os.path.abspath(i.target) in elsewhere]  # noqa: PTH100
    inputs += [each for each in met if isinstance(each, Input)]
    known = [*settled, *(_planned(request, naming, each) for each in met)]
    own = {each.input for each in known if isinstance(each, Outcome) and each.reason == MADE_BEFORE}
    check_inputs_kept(items, [each for each in inputs if each.path not in own])
    unwritable = check_folders(items, dry=dry)
    possible: list[Item] = []
    for item in items:
        if item.target is not None and item.target.parent in unwritable:
            settled.append(Outcome("failed", item.input.path, item.target, unwritable[item.target.parent]))
        else:
            possible.append(item)
    check_space(possible, request.scale)
    return Plan(tuple(possible), tuple(settled))


def _naming(request: Request, inputs: Sequence[Input], *, several: bool) -> Naming:
    """The rule that names the outputs. Raises UsageError for one that cannot work with these inputs."""
    template = request.template or default_template(request.scale)
    check_template(template)
    values = {"task": request.task, "model": request.model, "scale": str(request.scale)}
    suffix = None if request.save.format == "auto" else images.FORMATS[request.save.format].suffixes[0]
    output = request.output
    if output is None:
        return Naming(template, values, suffix=suffix)
    if output == STDOUT:
        if several:
            raise UsageError("-o -: standard output takes one picture; name one input, or give a folder")
        return Naming(template, values, to_stdout=True)
    one_file = inputs and all(each.alone for each in inputs) and not several
    if not one_file or output.endswith(("/", os.sep)) or os.path.isdir(output):  # noqa: PTH112 Path raises for long names
        if any(each.content is not None for each in inputs):
            raise UsageError(f"-o {output}: what is read from standard input has no name; give the output one")
        return Naming(template, values, folder=Path(output), suffix=suffix)
    if request.save.format == "auto" and images.format_of(output) is None and not Path(output).suffix:
        raise UsageError(f"-o {output}: a file needs a suffix, as in {output}.png; for a folder write {output}/")
    images.check_target(_format(Path(output), request.save, ""), 1, 1, False, request.save)
    return Naming(template, values, file=Path(output))


def _planned(request: Request, naming: Naming, found: Input | Refused) -> Item | Outcome:
    """The item for what was found, or its outcome where nothing is left to do. Raises UsageError for a bad name."""
    path = found.path
    if isinstance(found, Refused):
        return Outcome("failed", path, None, found.reason)
    target = naming.target(path, found.below, None)
    if target is not None and not request.overwrite and os.path.lexists(target):
        return Outcome("skipped", path, target, EXISTS)
    try:
        info = images.probe(found.stream(), request.load)
    except ImageError as error:
        return Outcome("failed", path, target, str(error))
    if not (found.alone or request.include_restored) and _made_before(info, request.task):
        return Outcome("skipped", path, None, MADE_BEFORE)
    frames = info.frames if request.load.frames == "all" else 1
    default = images.default_format(info.format, frames)
    if target is None:
        target = naming.target(path, found.below, images.FORMATS[default].suffixes[0])
        if target is not None and not request.overwrite and os.path.lexists(target):
            return Outcome("skipped", path, target, EXISTS)
    item = Item(found, target, _format(target, request.save, default), info, frames)
    reason = _impossible(request, item)
    return item if reason is None else Outcome("failed", path, target, f"{path}: {reason}")


def _impossible(request: Request, item: Item) -> str | None:
    """Why the picture cannot be made, None if it can."""
    info, scale = item.info, request.scale
    if info.frames > 1 and request.load.frames == "error":
        return f"has {info.frames} frames or pages; --frames first takes the first, --frames all takes all"
    if item.frames > 1 and item.target is None:
        return f"has {item.frames} frames, standard output takes one; give a file to -o"
    if item.frames > 1 and not images.FORMATS[item.format].frames:
        return f"{item.format} holds one frame, this has {item.frames}; choose --frames first, or gif, webp, png"
    try:
        images.check_target(item.format, info.width * scale, info.height * scale, False, request.save)
    except UsageError as error:
        return str(error)
    return None


def _format(target: Path | None, save: images.SaveOptions, default: str) -> str:
    """The format to write. Raises UsageError where the target's suffix names none, or another than `--format` does."""
    if target is None:
        return default if save.format == "auto" else save.format
    named = images.format_of(target)
    if save.format != "auto" and named not in (None, save.format):
        raise UsageError(f"{target}: its suffix says {named}, --format says {save.format}; make them agree")
    return images.target_format(target, save)


def _made_before(info: images.Info, task: str) -> bool:
    """Whether irestore wrote this picture as the result of the same task."""
    return info.provenance is not None and f"task={task}" in info.provenance.split()
