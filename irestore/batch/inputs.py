"""Arguments, folders and lists -> the pictures they name, in order, each once."""

import io
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO

from irestore.batch import remote
from irestore.batch.chain import Chain
from irestore.batch.shards import WHOLE, Shard
from irestore.errors import UsageError
from irestore.images import Info

STDIN = "-"
HERE = PurePath()
MISSING = "no such file"
LIST_BYTES = 2**28  # of --files-from; some millions of paths
STDIN_BYTES = 2**32
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
class Input:
    """A picture to restore; `below` is its folder relative to the folder argument it was met in."""

    path: Path
    status: os.stat_result
    below: PurePath = HERE
    alone: bool = False  # the one file that the user named, so it is meant, whatever it is
    content: bytes | None = None  # of standard input, whose path is `-`

    @property
    def key(self) -> tuple[int, int]:
        """Device and inode, which are equal for two names of one file."""
        return (self.status.st_dev, self.status.st_ino)

    def stream(self) -> Path | BinaryIO:
        """What `irestore.images` reads the picture from."""
        return remote.source(self.path) if self.content is None else io.BytesIO(self.content)

    def changed(self) -> bool:
        """Whether the file has changed since it was found. Raises OSError where it is gone."""
        if self.content is not None or remote.url_of(self.path):
            return False
        now, then = self.path.stat(), self.status
        return (now.st_mode, now.st_size, now.st_mtime_ns) != (then.st_mode, then.st_size, then.st_mtime_ns)


@dataclass(frozen=True)
class Refused:
    """An input that cannot be a picture, and why."""

    path: Path
    reason: str


@dataclass(frozen=True)
class Elsewhere:
    """A picture, or what was named as one, of another shard; it was not looked at."""

    path: Path


@dataclass(frozen=True)
class Item:
    """One picture to be made. `target` None is standard output; `format` is a key of `FORMATS`."""

    input: Input
    target: Path | None
    format: str
    info: Info
    frames: int  # to be restored
    chain: Chain
    model: str  # the names of the networks in the chain, joined by +
    replaces: bool = False  # a result of another model, whatever `SaveOptions.overwrite` says

    @property
    def pixels(self) -> int:
        """Pixels to be read, over all frames."""
        return self.info.pixels * self.frames

    @property
    def work(self) -> int:
        """Pixels that networks are given, over all frames."""
        return self.chain.pixels * self.frames


def find(
    arguments: Iterable[str | Path], *, recursive: bool, listed: bool = False, shard: Shard = WHOLE
) -> Iterator[Input | Refused | Elsewhere]:
    """Find every picture named, in the order of the arguments; in a folder sorted by name, its folders after its files.

    With `recursive`, folders are searched to the bottom for names with a picture's suffix that do not begin with a dot;
    without it they are refused. One path is given once, however often it was named. `listed`: a list named some.
    What is not of the shard is given as Elsewhere.
    """
    arguments = list(arguments)
    several = len(arguments) > 1
    seen: set[str] = set()
    for number, argument in enumerate(arguments, 1):
        last = several and not listed and number == len(arguments)
        for found in _expand(argument, recursive, shard, alone=not several and not listed):
            if last and isinstance(found, Refused) and found.reason == f"{argument}: {MISSING}":
                found = Refused(found.path, f"{found.reason}; if it is to be the result, write -o {argument}")
            absolute = os.path.abspath(found.path)  # noqa: PTH100 (Path.absolute keeps "a/../b")
            if absolute not in seen:
                seen.add(absolute)
                yield found


def _expand(argument: str | Path, recursive: bool, shard: Shard, alone: bool) -> Iterator[Input | Refused | Elsewhere]:
    path = Path(argument)
    if argument == STDIN:
        content = sys.stdin.buffer.read(STDIN_BYTES + 1)
        if len(content) > STDIN_BYTES:
            raise UsageError(f"standard input: has more than {STDIN_BYTES >> 30} GiB; no picture is that large")
        yield Input(path, os.stat_result((0,) * 10), alone=alone, content=content)
        return
    found = examine(path, alone=alone)
    if isinstance(found, Input) and stat.S_ISDIR(found.status.st_mode):
        if recursive:
            yield from _walk(path, shard)
            return
        found = Refused(path, f"{path}: is a folder; -r restores the pictures in it")
    yield found if shard.has(path) else Elsewhere(path)


def _walk(top: Path, shard: Shard) -> Iterator[Input | Refused | Elsewhere]:
    unreadable: list[OSError] = []
    for folder, folders, names in os.walk(top, onerror=unreadable.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = PurePath(os.path.relpath(folder, top))
        for name in sorted(names):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES:  # noqa: PTH122 a hot loop
                path = Path(folder, name)
                yield examine(path, below) if shard.has(below / name) else Elsewhere(path)
    for error in unreadable:
        if shard.has(PurePath(os.path.relpath(error.filename, top))):
            yield Refused(Path(error.filename), f"{error.filename}: folder cannot be read: {error.strerror}")


def examine(path: Path, below: PurePath = HERE, *, alone: bool = False) -> Input | Refused:
    """The file or folder of that name, or why it is neither."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return Refused(path, f"{path}: {'is a broken link' if path.is_symlink() else MISSING}")
    except (OSError, ValueError) as error:
        return Refused(path, f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}")
    if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
        return Input(path, status, below, alone)
    return Refused(path, f"{path}: is not a regular file; to restore what a pipe delivers, redirect it and name it -")


def read_list(name: str) -> list[str]:
    """Read the paths in a list file (`-`: standard input), NUL-separated if it holds a NUL, else one a line.

    Raises UsageError when the list cannot be read, or does not end.
    """
    try:
        if name == STDIN:
            data = sys.stdin.buffer.read(LIST_BYTES + 1)
        else:
            with Path(name).open("rb") as file:
                data = file.read(LIST_BYTES + 1)
    except (OSError, ValueError) as error:
        raise UsageError(f"--files-from {name}: cannot be read: {getattr(error, 'strerror', error)}") from error
    if len(data) > LIST_BYTES:
        raise UsageError(f"--files-from {name}: is larger than {LIST_BYTES >> 20} MiB; split the list")
    separator = b"\0" if b"\0" in data else b"\n"
    lines = (line if separator == b"\0" else line.removesuffix(b"\r") for line in data.split(separator))
    return [os.fsdecode(line) for line in lines if line]
