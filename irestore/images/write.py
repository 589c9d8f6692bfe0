"""Pictures to files: written whole or not at all."""

import contextlib
import errno
import io
import os
import secrets
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from irestore.errors import WriteError
from irestore.images.encoders import encode_frames
from irestore.images.formats import SAVE, SaveOptions, target_format
from irestore.images.picture import Picture
from irestore.images.pillow_errors import summary


def save(picture: Picture, path: str | os.PathLike[str], options: SaveOptions = SAVE) -> tuple[str, ...]:
    """Write a picture to the file `path`, complete and on the disk; after an error the file there is as it was.

    Returns what the format could not hold, one line each. Raises UsageError (as `check_target`) and WriteError, whose
    cause is a FileExistsError where a file of that name is there and `options.overwrite` is false.
    """
    return save_frames([picture], path, options)


def save_frames(
    pictures: Iterable[Picture], path: str | os.PathLike[str], options: SaveOptions = SAVE
) -> tuple[str, ...]:
    """As `save`, for an animation with its timing or a file of several pages.

    TIFF keeps one page in memory at a time, the other formats all frames at 8 bits a sample.
    """
    name = target_format(path, options)
    with whole_file(Path(path), options.overwrite) as stream:
        return encode_frames(pictures, stream, name, options)


def encode(picture: Picture, name: str, options: SaveOptions = SAVE, notes: list[str] | None = None) -> bytes:
    """The bytes that `save` would write, in format `name` (a key of `FORMATS`); raises UsageError and WriteError.

    What the format could not hold is added to `notes`, one line each.
    """
    stream = io.BytesIO()
    with _as_write_error("standard output"):
        told = encode_frames([picture], stream, name, options)
    if notes is not None:
        notes.extend(told)
    return stream.getvalue()


@contextlib.contextmanager
def whole_file(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file `path` at the end, in one step; after any exception, nothing changed.

    Raises WriteError. A link is replaced itself, not the file that it names; an existing file's permissions are kept.
    """
    with _as_write_error(str(path)):
        if path.is_dir():
            raise WriteError("is a folder; name a file")
        if not path.parent.is_dir():
            raise WriteError(f"the folder {path.parent} does not exist")
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


@contextlib.contextmanager
def _as_write_error(name: str) -> Iterator[None]:
    try:
        yield
    except WriteError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise WriteError(f"{name}: {error}") from error
    except OSError as error:
        raise WriteError(f"{name}: cannot be written ({error.strerror or summary(error)})") from error
