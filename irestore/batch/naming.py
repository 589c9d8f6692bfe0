"""Where an output goes and what it is called."""

import os
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from irestore.batch.chain import Size
from irestore.batch.inputs import SUFFIXES
from irestore.errors import UsageError
from irestore.images import default_format, format_of
from irestore.tasks import TASKS

STDOUT = "-"
FIELDS = ("stem", "inext", "parent", "ext", "task", "model", "scale")
WIDEST = 255  # no file name is longer


class Seen(NamedTuple):
    """What names may depend on that is known only once the input is read."""

    suffix: str  # where the input's own does not tell: `.heic`, `.bmp`, none at all, `.gif`, which may be an animation
    model: str


@dataclass(frozen=True)
class Naming:
    """The rule that gives every input its target: in `folder`, or, if that is None, beside the input."""

    template: str
    values: Mapping[str, str]  # of task, scale
    folder: Path | None = None
    file: Path | None = None  # the one target, whatever the input
    suffix: str | None = None  # of --format; None: the input's own, where that format can be written
    to_stdout: bool = False

    def target(self, path: Path, below: PurePath, seen: Seen | None = None) -> Path | None:
        """The target of an input. None: standard output, or it depends on what is in the input, which is not `seen`."""
        if self.file is not None or self.to_stdout:
            return self.file
        if seen is None and "{model" in self.template:
            return None
        own = format_of(path)
        if self.suffix is not None:
            suffix = path.suffix if own == format_of(f"x{self.suffix}") else self.suffix
        elif own is not None and own == default_format(own):
            suffix = path.suffix
        elif seen is not None:
            suffix = seen.suffix
        else:
            return None
        parent = os.path.basename(os.path.dirname(os.path.abspath(path)))  # noqa: PTH100, PTH119, PTH120 a hot loop
        own_values = {"stem": path.stem, "inext": path.suffix.removeprefix("."), "parent": parent, "ext": suffix}
        name = self.template.format(model=name_safe(seen.model) if seen else "", **own_values, **self.values)
        return (path.parent if self.folder is None else self.folder / below) / name


def names_picture(path: str) -> bool:
    """Whether the suffix is that of pictures that can be read or written."""
    return PurePath(path).suffix.lower() in SUFFIXES or format_of(path) is not None


def default_template(tasks: Sequence[str], size: Size) -> str:
    """The default of --name, as in `photo_x4.png`, `photo_denoise.png`, `photo_dejpeg_w3840.png`."""
    *first, last = tasks
    told = last if not TASKS[last].enlarges else "{scale}" if size.factor is None else "x{scale}"
    return "_".join(["{stem}", *first, told]) + "{ext}"


def name_safe(name: str) -> str:
    """The model's name with _ for characters that a file name or a tag cannot hold, as one's own file may have."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", name)


def check_template(template: str) -> None:
    """Check whether the template can name files. Raises UsageError that says what is wrong with it."""
    try:
        fields = [(name, spec) for _, name, spec, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--name {template}: {error}; write a brace as {{{{ or }}}}") from error
    for name, spec in fields:
        if name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise UsageError(f"--name {template}: there is no field {{{name}}}; use {known}")
        if any(len(number) > 3 or int(number) > WIDEST for number in re.findall(r"\d+", spec or "")):
            raise UsageError(
                f"--name {template}: {{{name}:{spec}}} is wider than the {WIDEST} characters of a file name"
            )
    try:
        template.format(**dict.fromkeys(FIELDS, "x"))
    except (ValueError, AttributeError, IndexError, KeyError) as error:
        raise UsageError(f"--name {template}: {error}") from error
    if any(character in template for character in "/\\\0") or template in ("", ".", ".."):
        raise UsageError(f"--name {template}: must make a file name; use -o to choose the folder")
