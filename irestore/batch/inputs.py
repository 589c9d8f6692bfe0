"""Arguments, folders and lists -> the pictures they name, in order, each once."""

import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from irestore.errors import UsageError

STDIN = "-"
HERE = PurePath()
MISSING = "no such file"
NO_FILE = os.stat_result((0,) * 10)
# What a folder is searched for: the usual names of pictures that irestore reads. A file that is named is always tried.
SUFFIXES = frozenset(
    f".{name}"
    for name in (
        "png", "apng", "jpg", "jpeg", "jpe", "jfif", "mpo", "webp", "tif", "tiff", "bmp", "dib", "gif", "avif", "jp2",
        "j2k", "jpx", "ppm", "pgm", "pbm", "pnm", "ico", "icns", "pcx", "sgi", "qoi", "psd", "dds", "tga", "heic",
        "heif", "hif", "jxl",
    )
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """A picture to restore; `below` is its folder relative to the folder argument it was met in."""

    path: Path
    status: os.stat_result
    below: PurePath = HERE
    alone: bool = False  # the one file that the user named, so it is meant, whatever it is
    content: bytes | None = None  # of standard input, whose path is `-`

    @property
    def key(self) -> tuple[int, int]:
        """Equal for two names of one file."""
        return (self.status.st_dev, self.status.st_ino)

    def stream(self) -> Path | BinaryIO:
        """What `irestore.images` reads the picture from."""
        return self.path if self.content is None else io.BytesIO(self.content)

    def changed(self) -> bool:
        """Whether the file is not any more what it was when it was found. Raises OSError when it has gone."""
        if self.content is not None:
            return False
        now = self.path.stat()
        return (now.st_size, now.st_mtime_ns) != (self.status.st_size, self.status.st_mtime_ns)


@dataclass(frozen=True)
class Refused:
    """An input that cannot be a picture, and why."""

    path: Path
    reason: str


def find(arguments: Iterable[str | Path], *, recursive: bool, listed: bool = False) -> Iterator[Source | Refused]:
    """Every picture named, in the order of the arguments; those of a folder sorted by name, folders after files.

    With `recursive`, folders are searched to the bottom for names with a picture's suffix that do not begin with a dot;
    without it they are refused. One path is given once, however often it was named. `listed`: a list named some.
    """
    arguments = list(arguments)
    alone = len(arguments) == 1 and not listed
    seen: set[str] = set()
    for number, argument in enumerate(arguments):
        last = len(arguments) > 1 and not listed and number == len(arguments) - 1
        for found in _expand(argument, recursive, alone):
            if last and isinstance(found, Refused) and found.reason == f"{argument}: {MISSING}":
                found = Refused(found.path, f"{found.reason}; if it is to be the result, write -o {argument}")
            absolute = os.path.abspath(found.path)  # noqa: PTH100 (Path.absolute keeps "a/../b")
            if absolute not in seen:
                seen.add(absolute)
                yield found


def _expand(argument: str | Path, recursive: bool, alone: bool) -> Iterator[Source | Refused]:
    path = Path(argument)
    if argument == STDIN:
        yield Source(path, NO_FILE, alone=alone, content=sys.stdin.buffer.read())
        return
    found = examine(path)
    if isinstance(found, Refused) or not stat.S_ISDIR(found.status.st_mode):
        yield found if isinstance(found, Refused) else Source(path, found.status, alone=alone)
    elif not recursive:
        yield Refused(path, f"{path}: is a folder; -r restores the pictures in it")
    else:
        yield from _walk(path)


def _walk(top: Path) -> Iterator[Source | Refused]:
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(top, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = PurePath(os.path.relpath(folder, top))
        for name in sorted(names):
            if name.startswith(".") or os.path.splitext(name)[1].lower() not in SUFFIXES:  # noqa: PTH122 a hot loop
                continue
            found = examine(Path(folder, name))
            yield found if isinstance(found, Refused) else Source(found.path, found.status, below)
    for error in unreadable:
        yield Refused(Path(error.filename), f"{error.filename}: folder cannot be read: {error.strerror}")


def examine(path: Path) -> Source | Refused:
    """The file or folder of that name, or why it is neither."""
    try:
        status = path.stat()
    except FileNotFoundError:
        broken = path.is_symlink()
        return Refused(path, f"{path}: {'is a broken link' if broken else MISSING}")
    except (OSError, ValueError) as error:
        return Refused(path, f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return Source(path, status)
    return Refused(path, f"{path}: is not a regular file; to restore what a pipe delivers, redirect it and name it -")


def read_list(name: str) -> list[str]:
    """The paths in a list file (`-`: standard input), NUL-separated if it holds a NUL, else one a line.

    Raises UsageError when the list cannot be read.
    """
    try:
        data = sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"--files-from {name}: cannot be read: {error.strerror}") from error
    separator = b"\0" if b"\0" in data else b"\n"
    lines = (line if separator == b"\0" else line.removesuffix(b"\r") for line in data.split(separator))
    return [os.fsdecode(line) for line in lines if line]
