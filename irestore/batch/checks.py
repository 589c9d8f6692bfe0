"""Checks of a whole plan: outputs that meet, folders that cannot be written, disks that are too small."""

import errno
import os
import shutil
import tempfile
import time
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from irestore import images
from irestore.batch.inputs import Source
from irestore.errors import UsageError, WriteError

if TYPE_CHECKING:
    from irestore.batch.plan import Item

STALE_SECONDS = 24 * 3600
SHOWN = 10  # files named in one message; the rest is counted
# The smallest share of its uncompressed size that a photograph is likely to take, by whether the format may lose.
# A plan that even so needs more than the disk has cannot end well.
LEAST_SHARE = {True: 0.02, False: 0.2}


def check_targets(targets: Iterable[tuple[Source, Path]]) -> None:
    """Nothing, if every target is a file of its own and not its own source. Raises UsageError naming the others."""
    clashes: list[str] = []
    makers: dict[str, Source] = {}
    for source, target in targets:
        first = makers.setdefault(_place(target), source)
        if first is not source:
            clashes.append(f"{target}: would be made from both {first.path} and {source.path}")
        elif _key(target) == source.key:
            clashes.append(f"{target}: is the input itself")
    _refuse(clashes, "; --name tells them apart, by {inext} (the input's suffix) or {parent} (its folder)")


def check_inputs_kept(items: Iterable["Item"], inputs: Iterable[Source]) -> None:
    """Nothing, if no item is written over one of the inputs. Raises UsageError naming those that are."""
    kept = {source.key: source.path for source in inputs if source.content is None}
    clashes = [
        f"{item.target}: is an input" + ("" if victim == item.target else f" ({victim})")
        for item in items
        if item.target is not None and (victim := kept.get(_key(item.target) or (0, 0))) is not None
    ]
    _refuse(clashes, "; inputs are never overwritten: choose other names with --name, or a folder with -o")


def check_folders(items: Sequence["Item"], *, dry: bool) -> Mapping[Path, str]:
    """The folders that cannot be written, each with the reason. Makes those that are missing, unless `dry`.

    Raises UsageError when two outputs differ only in case and their folder does not tell them apart.
    """
    unwritable: dict[Path, str] = {}
    inside: dict[Path, list[Item]] = defaultdict(list)
    for item in items:
        if item.target is not None:
            inside[item.target.parent].append(item)
    clashes: list[str] = []
    for folder, members in inside.items():
        try:
            folds = _try_folder(folder) if not dry else _look_at_folder(folder)
        except OSError as error:
            unwritable[folder] = f"{folder}: cannot be written: {error.strerror or error}"
            continue
        if folds:
            clashes += _same_but_for_case(members)
    _refuse(clashes, "; the folder does not tell capitals from small letters: choose other names with --name")
    return unwritable


def check_space(items: Sequence["Item"], scale: int) -> None:
    """Nothing, if the outputs may fit on their disks. Raises WriteError when even the smallest guess is too large."""
    needed: dict[int, int] = defaultdict(int)
    folders: dict[int, Path] = {}
    devices: dict[Path, int] = {}
    for item in items:
        if item.target is None:
            continue
        folder = item.target.parent
        if folder not in devices:
            existing = _existing(folder)
            devices[folder] = existing.stat().st_dev
            folders.setdefault(devices[folder], existing)
        needed[devices[folder]] += least_bytes(item, scale)
    for device, need in needed.items():
        free = shutil.disk_usage(folders[device]).free
        if need > free:
            raise WriteError(
                f"{folders[device]}: the outputs need at least {need / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
                "choose another folder with -o, or fewer pictures"
            )


def least_bytes(item: "Item", scale: int) -> int:
    """A guess at the size of the output that is more likely too small than too large."""
    info = item.info
    samples = item.pixels * scale**2 * (3 + info.has_alpha)
    return int(samples * info.depth / 8 * LEAST_SHARE[images.FORMATS[item.format].lossy])


def _refuse(clashes: Sequence[str], remedy: str) -> None:
    if clashes:
        more = f" (and {len(clashes) - SHOWN} more)" if len(clashes) > SHOWN else ""
        raise UsageError("; ".join(clashes[:SHOWN]) + more + remedy)


def _place(target: Path) -> str:
    return os.path.normpath(os.path.abspath(target))  # noqa: PTH100


def _key(target: Path) -> tuple[int, int] | None:
    """Device and inode of the file that is there now, None if there is none."""
    try:
        status = target.stat()
    except (OSError, ValueError):
        return None
    return (status.st_dev, status.st_ino)


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _try_folder(folder: Path) -> bool:
    """Make the folder and a file in it; whether names there that differ only in case are one. Raises OSError.

    Removes what a killed run has left there, once it is a day old: younger, it may be another run's work.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for unfinished in folder.glob(".irestore-*.part"):
        if time.time() - unfinished.stat().st_mtime > STALE_SECONDS:
            unfinished.unlink(missing_ok=True)
    with tempfile.NamedTemporaryFile(prefix=".irestore-", dir=folder) as file:
        path = Path(file.name)
        return path.with_name(path.name.swapcase()).exists()


def _look_at_folder(folder: Path) -> bool:
    """As `_try_folder`, without touching anything: what can be said without a file is said."""
    nearest = _existing(folder)
    if not nearest.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return _folds_case(nearest)


def _folds_case(folder: Path) -> bool:
    """Whether the first name in the folder that has letters names the same file with its case swapped."""
    with os.scandir(folder) as entries:
        entry = next((entry for entry in entries if entry.name.swapcase() != entry.name), None)
    if entry is None:
        return False
    try:
        return os.path.samestat(entry.stat(follow_symlinks=False), (folder / entry.name.swapcase()).lstat())
    except FileNotFoundError:
        return False


def _same_but_for_case(members: Sequence["Item"]) -> list[str]:
    makers: dict[str, Item] = {}
    clashes = []
    for item in members:
        assert item.target is not None
        first = makers.setdefault(unicodedata.normalize("NFC", item.target.name).casefold(), item)
        if first is not item:
            clashes.append(f"{item.target}: would be made from both {first.source.path} and {item.source.path}")
    return clashes
