"""Which damaged picture belongs to which clean one: by name, never by chance."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from irestore.batch.inputs import SUFFIXES
from irestore.errors import UsageError

# What sets add to the names of one side: 0801x4, img_001_SRF_4_LR, norain-001.
DECORATION = frozenset(
    ("lr", "hr", "gt", "srf", "blur", "sharp", "rain", "norain", "rainy", "noisy", "clean", "input", "target")
)
SHOWN = 3  # names in a message


def pictures(folder: Path) -> list[Path]:
    """The pictures in a folder, not below it, in natural order (2 before 10). Raises UsageError if there are none."""
    if not os.path.isdir(folder):  # noqa: PTH112 Path raises for a name that is too long
        raise UsageError(f"{folder}: {'is a file, not a folder' if os.path.exists(folder) else 'no such folder'}")  # noqa: PTH110
    found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")]
    if not found:
        raise UsageError(f"{folder}: there is no picture in this folder")
    return sorted(found, key=lambda path: natural(path.name))


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts the numbers in names as numbers, before letters."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def pairs(clean: Path, damaged: Path) -> list[tuple[Path, Path]]:
    """(clean, damaged) for every clean picture, in natural order of the clean names.

    They belong together when their stems are equal or, if those differ, when they are equal without what is known to
    be added to them (0801 and 0801x4, norain-001 and rain-001). Raises UsageError that names what has no partner.
    """
    sides = [pictures(clean), pictures(damaged)]
    for key in (_stem, _bare):
        left, right = (_by(key, paths) for paths in sides)
        if left is not None and right is not None and left.keys() == right.keys():
            return [(path, right[name]) for name, path in left.items()]
    raise UsageError(_unmatched(clean, damaged, *sides))


def _stem(path: Path) -> str:
    return path.stem


def _bare(path: Path) -> str:
    """The stem in lower case without decoration."""
    stem = re.sub(r"x[2348]$", "", path.stem.lower())
    parts = re.split(r"[ _.-]+", stem)
    if "srf" in parts:  # the number behind it is the scale
        del parts[parts.index("srf") : parts.index("srf") + 2]
    return "_".join(part for part in parts if part not in DECORATION)


def _by(key: Callable[[Path], str], paths: list[Path]) -> Mapping[str, Path] | None:
    """The paths by their keys; None where two have the same."""
    found = {key(path): path for path in paths}
    return found if len(found) == len(paths) else None


def _unmatched(clean: Path, damaged: Path, left: list[Path], right: list[Path]) -> str:
    names = [{_bare(path) for path in side} for side in (left, right)]
    alone = [[path.name for path in left if _bare(path) not in names[1]]]
    alone += [[path.name for path in right if _bare(path) not in names[0]]]
    for folder, other, missing in ((clean, damaged, alone[0]), (damaged, clean, alone[1])):
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            return f"{folder}: {', '.join(missing[:SHOWN])}{more} without a picture of that name in {other}"
    return f"{clean}, {damaged}: several pictures of one name; give each clean picture one damaged one"
