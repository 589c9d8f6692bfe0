"""Files that are written whole or not at all: pictures, pages, weights, manifests. Imports nothing heavy."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def whole_file(path: Path, *, overwrite: bool = True, make_folder: bool = False) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file `path` at the end, in one step; after any exception, nothing changed.

    Raises OSError: FileExistsError where `overwrite` is false and a file is there. A link is replaced itself, not the
    file that it names; an existing file's permissions are kept.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".irestore-{os.getpid()}-{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        if overwrite:
            if path.is_file() and not path.is_symlink():  # a new file has the permissions that open() gave
                temporary.chmod(path.stat().st_mode & 0o777)
            temporary.replace(path)
        else:
            _name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # make the name durable too; not on Windows, nor on some network shares
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _name(temporary: Path, path: Path) -> None:
    """Give a finished file its name. Raises FileExistsError where another file has it."""
    try:
        if os.name == "nt":
            temporary.rename(path)  # which on Windows never replaces a file
        else:
            path.hardlink_to(temporary)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links, such as FAT: nothing there looks and renames in one step
        if os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        temporary.replace(path)
