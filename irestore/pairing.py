"""Which damaged picture belongs to which clean one: by name, never by chance."""

from __future__ import annotations

import errno
import re
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
    try:
        found = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.name[0] != "."]
    except OSError as error:
        reasons = {errno.ENOENT: "no such folder", errno.ENOTDIR: "is a file, not a folder"}
        raise UsageError(f"{folder}: {reasons.get(error.errno or 0, error.strerror)}") from error
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
    for key in (lambda path: path.stem), _bare:
        left, right = ({key(path): path for path in side} for side in sides)
        if left.keys() == right.keys() and len(left) == len(sides[0]) and len(right) == len(sides[1]):
            return [(path, right[name]) for name, path in left.items()]
    names = [{_bare(path) for path in side} for side in sides]
    for number, (folder, other) in enumerate([(clean, damaged), (damaged, clean)]):
        missing = [path.name for path in sides[number] if _bare(path) not in names[1 - number]]
        if missing:
            more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
            raise UsageError(f"{folder}: {', '.join(missing[:SHOWN])}{more} without a picture of that name in {other}")
    raise UsageError(f"{clean}, {damaged}: several pictures of one name; give each clean picture one damaged one")


def _bare(path: Path) -> str:
    """The stem in lower case without decoration."""
    stem = re.sub(r"x[2348]$", "", path.stem.lower())
    parts = re.split(r"[ _.-]+", stem)
    if "srf" in parts:  # the number behind it is the scale
        del parts[parts.index("srf") : parts.index("srf") + 2]
    return "_".join(part for part in parts if part not in DECORATION)
