"""What a run will do, known and checked before anything is computed and before torch is imported."""

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from irestore import images
from irestore.batch.chain import MOST, Size, Step, chain_of
from irestore.batch.checks import check_folders, check_inputs_kept, check_space, check_targets
from irestore.batch.inputs import Elsewhere, Input, Item, Refused, examine
from irestore.batch.naming import STDOUT, Naming, Seen, check_template, default_template, name_safe, names_picture
from irestore.batch.remote import in_threads, source, url_of
from irestore.batch.report import Outcome
from irestore.errors import ImageError, UsageError

EXISTS = "the output exists"
MADE_BEFORE = "irestore made it"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asked for, as far as files are concerned."""

    tasks: tuple[str, ...]  # done to each picture, one after the other
    models: Mapping[Step, str]  # the names of those that may be used
    size: Size
    output: str | None = None  # a folder, a file, `-`; None: beside each input
    template: str | None = None
    overwrite: bool = False
    redo: bool = False  # make results again that another model made
    include_restored: bool = False
    load: images.LoadOptions = field(default_factory=images.LoadOptions)
    save: images.SaveOptions = field(default_factory=images.SaveOptions)


@dataclass(frozen=True)
class Plan:
    """Pictures to be made, in order, and the outcomes of those about which there is nothing left to do."""

    items: tuple[Item, ...]
    settled: tuple[Outcome, ...]

    @property
    def work(self) -> int:
        """Pixels that networks are given."""
        return sum(item.work for item in self.items)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What networks are needed for, each once."""
        return tuple(dict.fromkeys(step for item in self.items for step in item.chain.steps))


def plan(request: Request, found: Iterable[Input | Refused | Elsewhere], *, dry: bool = False) -> Plan:
    """Plan what to make of what was found. A picture that cannot be made is settled as failed, by name.

    Raises UsageError, naming the files, when two outputs are one file, when an output is an input, or when the naming
    makes no sense; WriteError when the outputs cannot fit on the disk. Makes the output folders, unless `dry`.
    """
    found = list(found)
    inputs = [each for each in found if isinstance(each, Input)]
    naming = _naming(request, inputs, several=len(found) > 1)
    mine = [each for each in found if not isinstance(each, Elsewhere)]
    over = in_threads if any(url_of(each.path) for each in mine) else map
    planned = list(zip(mine, over(partial(_planned, request, naming), mine), strict=True))
    items = [result for _, result in planned if isinstance(result, Item)]
    settled = [result for _, result in planned if isinstance(result, Outcome)]
    check_targets((each, result.target) for each, result in planned if isinstance(each, Input) and result.target)
    others = _of_other_shards(found, items)
    outcomes = [*settled, *(_planned(request, naming, each) for each in others)]
    own = {each.input for each in outcomes if isinstance(each, Outcome) and each.reason == MADE_BEFORE}
    inputs += [each for each in others if isinstance(each, Input)]
    check_inputs_kept(items, [each for each in inputs if each.path not in own])
    unwritable = check_folders(items, dry=dry)
    possible: list[Item] = []
    for item in items:
        if item.target is not None and item.target.parent in unwritable:
            settled.append(Outcome("failed", item.input.path, item.target, unwritable[item.target.parent]))
        else:
            possible.append(item)
    check_space(possible)
    return Plan(tuple(possible), tuple(settled))


def _of_other_shards(found: Iterable[Input | Refused | Elsewhere], items: Iterable[Item]) -> list[Input | Refused]:
    """The inputs of other shards that lie where this one would write; no others are looked at."""
    theirs = {os.path.abspath(each.path) for each in found if isinstance(each, Elsewhere)}  # noqa: PTH100 follows no link
    targets = (item.target for item in items if theirs and item.target is not None)
    return [examine(target) for target in targets if os.path.abspath(target) in theirs]  # noqa: PTH100


def _naming(request: Request, inputs: Sequence[Input], *, several: bool) -> Naming:
    """The rule that names the outputs. Raises UsageError for one that cannot work with these inputs."""
    template = request.template or default_template(request.tasks, request.size)
    check_template(template)
    values = {"task": "_".join(request.tasks), "scale": request.size.label}
    suffix = None if request.save.format == "auto" else images.FORMATS[request.save.format].suffixes[0]
    output = request.output
    if output is None:
        return Naming(template, values, suffix=suffix)
    if output == STDOUT:
        if several:
            raise UsageError("-o -: standard output takes one picture; name one input, or give a folder")
        return Naming(template, values, to_stdout=True)
    if not names_picture(output) or output.endswith(("/", os.sep)) or os.path.isdir(output):  # noqa: PTH112 Path raises for long names
        if any(each.content is not None for each in inputs):
            raise UsageError(f"-o {output}: what is read from standard input has no name; give the output one")
        return Naming(template, values, folder=Path(output), suffix=suffix)
    if several or not all(each.alone for each in inputs):
        raise UsageError(f"-o {output}: is the name of one picture, and there are several inputs; give a folder")
    images.check_target(_format(Path(output), request.save, ""), 1, 1, False, request.save)
    return Naming(template, values, file=Path(output))


def _planned(request: Request, naming: Naming, found: Input | Refused) -> Item | Outcome:
    """The item for what was found, or its outcome where nothing is left to do. Raises UsageError for a bad name."""
    path = found.path
    if isinstance(found, Refused):
        return Outcome("failed", path, None, found.reason)
    target = naming.target(path, found.below)
    if not request.redo and (kept := _kept(request, path, target, request.models.values())):
        return kept
    try:
        info = images.probe(found.stream(), request.load)
    except ImageError as error:
        return Outcome("failed", path, target, str(error))
    if not (found.alone or request.include_restored) and _made_before(info, request.tasks):
        return Outcome("skipped", path, None, MADE_BEFORE)
    frames = info.frames if request.load.frames == "all" else 1
    default = images.default_format(info.format, frames)
    chain = chain_of(request.tasks, request.models, request.size, info.height, info.width, lossy=info.lossy)
    models = [request.models[step] for step in chain.steps]
    model = "+".join(models)
    if target is None:
        target = naming.target(path, found.below, Seen(images.FORMATS[default].suffixes[0], model))
    # Made by one of those that may be used is enough, but to make it again: then it is this picture's that count.
    if kept := _kept(request, path, target, models if request.redo else request.models.values()):
        return kept
    replaces = request.redo and target is not None and os.path.lexists(target)
    item = Item(found, target, _format(target, request.save, default), info, frames, chain, model, replaces)
    reason = _impossible(request, item)
    return item if reason is None else Outcome("failed", path, target, f"{path}: {reason}")


def _kept(request: Request, path: Path, target: Path | None, models: Iterable[str]) -> Outcome | None:
    """The outcome for a result that is there and stays, with what made it; None where it is to be made.

    `models` are those that may have made it.
    """
    if target is None or request.overwrite or not os.path.lexists(target):
        return None
    tag = ""
    if target.is_file():  # and no pipe, which would never end
        with contextlib.suppress(ImageError):
            made = source(target) if request.redo else target  # which of URLs takes a request each
            tag = images.probe(made, request.load).provenance or ""
    makers = [word.removeprefix("model=") for word in tag.split() if word.startswith("model=")]
    made_by = "+".join(makers) or None
    if set(makers) <= {name_safe(name) for name in models}:
        return Outcome("skipped", path, target, EXISTS, model=made_by)
    return None if request.redo else Outcome("skipped", path, target, f"{EXISTS}, made by {made_by}", model=made_by)


def _impossible(request: Request, item: Item) -> str | None:
    """Why the picture cannot be made, None if it can."""
    info, (height, width) = item.info, item.chain.size
    factor = request.size.factor_of(info.height, info.width)
    if factor > MOST:
        return f"would have to grow {factor:.3g} times for the size wanted; {MOST} times is the most"
    if info.frames > 1 and request.load.frames == "error":
        return f"has {info.frames} frames or pages; --frames first takes the first, --frames all takes all"
    if item.frames > 1 and item.target is None:
        return f"has {item.frames} frames, standard output takes one; give a file to -o"
    if item.frames > 1 and not images.FORMATS[item.format].frames:
        return f"{item.format} holds one frame, this has {item.frames}; choose --frames first, or gif, webp, png"
    try:
        images.check_target(item.format, width, height, False, request.save)
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


def _made_before(info: images.Info, tasks: Sequence[str]) -> bool:
    """Whether irestore wrote this picture as the result of one of these tasks."""
    return info.provenance is not None and not {f"task={task}" for task in tasks}.isdisjoint(info.provenance.split())
