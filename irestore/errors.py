"""Errors that irestore raises on purpose, one line each: the thing, the cause, the remedy; and words for messages."""

import re
import sys
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

STANDS_FOR_URLS = "irestore-urls-"  # begins the name of a temporary folder, as `irestore.batch.remote` makes it


def named(text: object) -> str:
    """The text with URLs in place of the files that stand for them."""
    told = str(text)
    return _stand_ins().sub(r"\1://", told) if STANDS_FOR_URLS in told else told


@cache
def _stand_ins() -> re.Pattern[str]:
    """The beginnings of their paths: in this process's temporary folder, or in another's without spaces in its path."""
    folder = rf"{re.escape(tempfile.gettempdir())}[/\\]|(?:[A-Za-z]:)?[/\\][^\s'\"]*"
    return re.compile(rf"(?:{folder}){STANDS_FOR_URLS}\w+[/\\]([\w+.-]+)[/\\]")


def one_line(text: object) -> str:
    """The text as people are told it: what would break a line or change a terminal is written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in named(text))


def say(text: object) -> None:
    """Print one line for people, on stderr."""
    print(f"irestore: {one_line(text)}", file=sys.stderr)


def file_size(size_bytes: int) -> str:
    """`43 kB`, `2.5 MB`, `67 MB`."""
    if size_bytes < 1e6:
        return f"{size_bytes / 1e3:.0f} kB"
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes < 9.95e6 else f"{size_bytes / 1e6:.0f} MB"


def duration(seconds: float) -> str:
    """Seconds as people say them: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def install_command(extra: str) -> str:
    """How to add an extra to irestore where it is installed: by pip, or into the environment that uv or pipx made."""
    if Path(sys.prefix, "uv-receipt.toml").is_file():
        return f"uv tool install 'irestore[{extra}]'"
    if "pipx" not in Path(sys.prefix).parts:
        return f"pip install 'irestore[{extra}]'"
    from importlib.metadata import requires  # not at the top: `--help` would wait for it

    marked = (each.partition(";") for each in requires("irestore") or ())
    return "pipx inject irestore " + " ".join(f"'{name.strip()}'" for name, _, mark in marked if f"'{extra}'" in mark)


class IrestoreError(Exception):
    """Any failure that irestore foresees; `str(error)` is fit to be shown to a user."""

    exit_code = 1


class UsageError(IrestoreError):
    """An option or argument makes no sense."""

    exit_code = 2


class IncompleteError(UsageError):
    """Options are missing; `options` are those to add, as on the command line, where they end the message."""

    def __init__(self, message: str, options: Sequence[str]) -> None:
        super().__init__(message)
        self.options = options


class ModelError(IrestoreError):
    """The model cannot be had or used."""

    exit_code = 3


class UnknownModelError(ModelError):
    """The manifest has no model of that name, task or scale."""


class ManifestError(ModelError):
    """A manifest is malformed or unsafe."""


class DownloadError(ModelError):
    """The weights are not on this machine and could not be fetched."""


class UnreachableError(DownloadError):
    """The weights are not on this machine and the Hub cannot be reached, or must not be (offline)."""


class WeightsError(ModelError):
    """A weights file is not what it should be."""


class ImageError(IrestoreError):
    """A picture cannot be read or written."""


class ReadError(ImageError):
    """A picture cannot be read."""


class WriteError(ImageError):
    """A picture cannot be written."""


class RestoreError(IrestoreError):
    """The computation failed."""


class OutOfMemoryError(RestoreError):
    """Not even the smallest tile fits into memory."""


class NonFiniteError(RestoreError):
    """The network gave NaN or infinity."""
