"""Whether a file has the content that the manifest promises, remembered so that 67 MB are not hashed at every start."""

import contextlib
import hashlib
import json
import os
from pathlib import Path

from irestore.weights.places import cache_folder


def matches(path: Path, sha256: str | None, *, again: bool = False) -> bool:
    """Whether the file's content has that sha256 (None: nothing is promised, so yes). Raises OSError.

    A file whose path, size and time of change are those of the last time is not read again, unless `again`.
    """
    if sha256 is None:
        return True
    state = path.stat()
    stamp = {"path": str(path.resolve()), "size": state.st_size, "mtime_ns": state.st_mtime_ns, "sha256": sha256}
    note = stamp_of(path)
    if not again and _read(note) == stamp:
        return True
    if digest(path) != sha256:
        with contextlib.suppress(FileNotFoundError):
            note.unlink()
        return False
    _write(note, stamp)
    return True


def digest(path: Path) -> str:
    """The file's sha256 in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp_of(path: Path) -> Path:
    """Where it is remembered that this file was verified."""
    key = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:32]
    return cache_folder() / "verified" / f"{key}.json"


def _read(note: Path) -> object:
    try:
        return json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _write(note: Path, stamp: dict[str, object]) -> None:
    with contextlib.suppress(OSError):  # on a read-only home every start hashes anew, which is slower and as right
        note.parent.mkdir(parents=True, exist_ok=True)
        note.write_text(json.dumps(stamp), encoding="utf-8")  # half a note reads as none
