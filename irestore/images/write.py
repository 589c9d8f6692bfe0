"""Pictures to files: written whole or not at all."""

import contextlib
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
    """The picture is in `path`, complete and on the disk, or the file there is as it was and an error is raised.

    Returns what the format could not hold, one line each. Raises UsageError (as `check_target`) and WriteError.
    """
    return save_frames([picture], path, options)


def save_frames(
    pictures: Iterable[Picture], path: str | os.PathLike[str], options: SaveOptions = SAVE
) -> tuple[str, ...]:
    """As `save`, for an animation with its timing or a file of several pages.

    TIFF keeps one page in memory at a time, the other formats all frames at 8 bits a sample.
    """
    name = target_format(path, options)
    with whole(Path(path)) as stream:
        return encode_frames(pictures, stream, name, options)


def encode(picture: Picture, name: str, options: SaveOptions = SAVE) -> bytes:
    """The bytes that `save` would write, in format `name` (a key of `FORMATS`); raises UsageError and WriteError."""
    stream = io.BytesIO()
    with _as_write_error("<stdout>"):
        encode_frames([picture], stream, name, options)
    return stream.getvalue()


@contextlib.contextmanager
def whole(path: Path) -> Iterator[BinaryIO]:
    """A stream whose content becomes the file `path` at the end, in one step; after any exception, nothing changed.

    Raises WriteError. A link is followed, an existing file's permissions are kept.
    """
    with _as_write_error(str(path)):
        target = path.resolve()
        if target.is_dir():
            raise WriteError(f"{path}: is a folder; name a file")
        if not target.parent.is_dir():
            raise WriteError(f"{path}: the folder {target.parent} does not exist")
        temporary = target.parent / f".irestore-{os.getpid()}-{secrets.token_hex(8)}.part"
        try:
            with temporary.open("xb") as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            with contextlib.suppress(FileNotFoundError):  # a new file gets the permissions that open() gave
                temporary.chmod(target.stat().st_mode & 0o777)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(target.parent)


@contextlib.contextmanager
def _as_write_error(name: str) -> Iterator[None]:
    try:
        yield
    except WriteError as error:
        message = str(error)
        if message.startswith(f"{name}: "):
            raise
        raise WriteError(f"{name}: {message}") from error
    except OSError as error:
        raise WriteError(f"{name}: cannot be written ({error.strerror or summary(error)})") from error


def _sync_folder(folder: Path) -> None:
    """Make the new name durable too, where folders can be synced (not on Windows, not on some network shares)."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
