"""Checks of a whole plan: outputs that meet, folders that cannot be written, disks that are too small."""

import contextlib
import errno
import os
import shutil
import stat
import tempfile
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from irestore.batch.inputs import Input, Item
from irestore.batch.remote import url_of
from irestore.errors import UsageError, WriteError
from irestore.images import FORMATS

STALE_SECONDS = 24 * 3600
KEPT = "; inputs are never overwritten: choose other names with --name, or a folder with -o"
SHOWN = 10  # files named in one message; the rest is counted
# The smallest part of its uncompressed size that a photograph is likely to take, by whether the format may lose.
# A plan that even so needs more than the disk has cannot end well.
LEAST_PART = {True: 0.02, False: 0.2}


def check_targets(targets: Iterable[tuple[Input, Path]]) -> None:
    """Check whether every target is a file of its own, and not its own input. Raises UsageError naming the others."""
    clashes, themselves = list[str](), list[str]()
    makers: dict[str, Input] = {}
    for each, target in targets:
        first = makers.setdefault(os.path.abspath(target), each)  # noqa: PTH100
        if first is not each:
            clashes.append(f"{target}: would be made from both {first.path} and {each.path}")
        elif _key(target) == each.key:
            themselves.append(f"{target}: is the input itself")
    _refuse(clashes, "; --name tells them apart, by {inext} (the input's suffix) or {parent} (its folder)")
    _refuse(themselves, KEPT)


def check_inputs_kept(items: Iterable[Item], inputs: Iterable[Input]) -> None:
    """Check whether any item would be written over one of the inputs. Raises UsageError naming those."""
    kept = {each.key: each.path for each in inputs if each.content is None}
    clashes = [
        f"{item.target}: is an input" + ("" if victim == item.target else f" ({victim})")
        for item in items
        if item.target is not None and (victim := kept.get(_key(item.target) or (0, 0))) is not None
    ]
    _refuse(clashes, KEPT)


def check_folders(items: Sequence[Item], *, dry: bool) -> Mapping[Path, str]:
    """Find the folders that cannot be written, each with the reason. Makes those that are missing, unless `dry`.

    Raises UsageError when two outputs differ only in case and their folder does not tell them apart.
    """
    unwritable: dict[Path, str] = {}
    inside: dict[Path, list[tuple[Path, Item]]] = defaultdict(list)
    for item in items:
        if item.target is not None:
            inside[item.target.parent].append((item.target, item))
    clashes: list[str] = []
    for folder, members in inside.items():
        try:
            folds = _look_at_folder(folder) if dry else _try_folder(folder)
        except OSError as error:
            unwritable[folder] = f"{folder}: cannot be written: {error.strerror or error}"
            continue
        makers: dict[str, Item] = {}
        for target, item in members if folds else ():
            first = makers.setdefault(unicodedata.normalize("NFC", target.name).casefold(), item)
            if first is not item:
                clashes.append(f"{target}: would be made from both {first.input.path} and {item.input.path}")
    _refuse(clashes, "; the folder does not tell capitals from small letters: choose other names with --name")
    return unwritable


def check_space(items: Sequence[Item]) -> None:
    """Check whether the outputs may fit on their disks. Raises WriteError when even the smallest guess is too large."""
    needed: dict[Path, int] = defaultdict(int)
    for item in items:
        if item.target is not None and not url_of(item.target):
            needed[item.target.parent] += least_bytes(item)
    disks: dict[int, tuple[Path, int]] = {}
    for folder, size_bytes in needed.items():
        existing = _existing(folder)
        device = existing.stat().st_dev
        first, before = disks.get(device, (existing, 0))
        disks[device] = first, before + size_bytes
    for folder, need in disks.values():
        free = shutil.disk_usage(folder).free
        if need > free:
            raise WriteError(
                f"{folder}: the outputs need at least {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "choose another folder with -o, or fewer pictures"
            )


def least_bytes(item: Item) -> int:
    """Guess the size of the output, more likely too small than too large."""
    height, width = item.chain.size
    samples = height * width * item.frames * (3 + item.info.has_alpha)
    return int(samples * item.info.depth / 8 * LEAST_PART[FORMATS[item.format].lossy])


def _refuse(clashes: Sequence[str], remedy: str) -> None:
    if clashes:
        more = f" (and {len(clashes) - SHOWN} more)" if len(clashes) > SHOWN else ""
        raise UsageError("; ".join(clashes[:SHOWN]) + more + remedy)


def _key(target: Path) -> tuple[int, int] | None:
    """Device and inode of the file that is there now, None if there is none."""
    try:
        status = target.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    return next((each for each in (folder, *folder.parents) if each.exists()), folder)


def _try_folder(folder: Path) -> bool:
    """Make the folder and a file in it, and tell whether names that differ only in case are one. Raises OSError.

    Removes what a killed run has left there, once it is a day old: younger, it may be another run's work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".irestore-*.part"):
        with contextlib.suppress(OSError):  # it has vanished, or is another user's: no reason not to write here
            status = unfinished.lstat()
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime > STALE_SECONDS:
                unfinished.unlink()
    with tempfile.NamedTemporaryFile(prefix=".irestore-", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.swapcase()).exists()


def _look_at_folder(folder: Path) -> bool:
    """As `_try_folder`, as far as that can be known without making a folder or a file."""
    nearest = _existing(folder)
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    with os.scandir(nearest) as entries:
        name = next((entry.name for entry in entries if entry.name.swapcase() != entry.name), None)
    if name is None:
        return False
    try:
        return os.path.samestat((nearest / name).lstat(), (nearest / name.swapcase()).lstat())
    except FileNotFoundError:
        return False
