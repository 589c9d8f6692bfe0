"""Where an output goes and what it is called."""

import os
import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from irestore.errors import UsageError
from irestore.images import format_of

STDOUT = "-"
FIELDS = ("stem", "inext", "parent", "ext", "task", "model", "scale")


@dataclass(frozen=True)
class Naming:
    """The rule that gives every source its target: in `folder`, or, if that is None, beside the source."""

    template: str
    values: Mapping[str, str]  # of task, model, scale
    folder: Path | None = None
    file: Path | None = None  # the one target, whatever the source
    suffix: str | None = None  # of --format; None: the source's own, where that format can be written
    to_stdout: bool = False

    def target(self, source: Path, below: PurePath, default_suffix: str | None) -> Path | None:
        """The target of a source. None: standard output, or it depends on what is in the source, see `default_suffix`.

        `default_suffix` is used where the source's own suffix says nothing: `.heic`, none at all, or `.gif`, which may
        be a still picture or an animation.
        """
        if self.file is not None or self.to_stdout:
            return self.file
        own = format_of(source)
        if self.suffix is not None:
            suffix = source.suffix if own == format_of(f"x{self.suffix}") else self.suffix
        elif own not in (None, "gif"):
            suffix = source.suffix
        elif default_suffix is not None:
            suffix = default_suffix
        else:
            return None
        own_values = {"stem": source.stem, "inext": source.suffix.removeprefix("."), "parent": _parent(source)}
        name = self.template.format(ext=suffix, **own_values, **self.values)
        return (source.parent if self.folder is None else self.folder / below) / name


def _parent(source: Path) -> str:
    return os.path.basename(os.path.dirname(os.path.abspath(source)))  # noqa: PTH100, PTH119, PTH120 a hot loop


def default_template(scale: int) -> str:
    """`photo_x4.png` for a larger picture, `photo_denoise.png` for one of the same size."""
    return "{stem}_x{scale}{ext}" if scale > 1 else "{stem}_{task}{ext}"


def check_template(template: str) -> str:
    """The template itself. Raises UsageError naming what is wrong with it."""
    try:
        fields = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise UsageError(f"--name {template}: {error}; write a brace as {{{{ or }}}}") from error
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise UsageError(f"--name {template}: no such field as {{{unknown[0]}}}; there are {known}")
    try:
        template.format(**dict.fromkeys(FIELDS, "x"))
    except (ValueError, AttributeError, IndexError, KeyError) as error:
        raise UsageError(f"--name {template}: {error}") from error
    if "/" in template or "\\" in template or template in ("", ".", ".."):
        raise UsageError(f"--name {template}: must make a file name; folders are -o's")
    return template
