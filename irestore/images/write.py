"""Pictures to files: written whole or not at all."""

import contextlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from irestore.errors import WriteError
from irestore.images.encoders import encode_frames
from irestore.images.formats import SAVE, SaveOptions, target_format
from irestore.images.picture import Picture
from irestore.images.pillow_errors import summary
from irestore.whole_file import whole_file as written_whole


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


def save_to(stream: BinaryIO, picture: Picture, name: str, options: SaveOptions = SAVE) -> tuple[str, ...]:
    """As `save`, in format `name` (a key of `FORMATS`), into an empty stream that can seek."""
    with _as_write_error("standard output"):
        return encode_frames([picture], stream, name, options)


def encode(picture: Picture, name: str, options: SaveOptions = SAVE) -> bytes:
    """The bytes that `save` would write, in format `name` (a key of `FORMATS`); raises UsageError and WriteError."""
    stream = io.BytesIO()
    save_to(stream, picture, name, options)
    return stream.getvalue()


@contextlib.contextmanager
def whole_file(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """As `irestore.whole_file.whole_file`, but raises WriteError."""
    with _as_write_error(str(path)):
        if path.is_dir():
            raise WriteError("is a folder; name a file")
        if not path.parent.is_dir():
            raise WriteError(f"the folder {path.parent} does not exist")
        with written_whole(path, overwrite=overwrite) as stream:
            yield stream


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
