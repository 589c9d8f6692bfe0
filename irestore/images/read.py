"""Files to pictures."""

import contextlib
import dataclasses
import io
import os
import stat
import time
from collections.abc import Generator, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from irestore.errors import ReadError
from irestore.images import jxl, tags
from irestore.images.formats import LOAD, LOAD_ALL, LoadOptions
from irestore.images.picture import Info, Picture
from irestore.images.pillow_errors import check_pixels, pillow_errors, summary
from irestore.images.pillow_file import JxlFile, PillowFile
from irestore.images.tiff_read import TiffFile

Source = str | os.PathLike[str] | BinaryIO
"""A path, or an open binary stream such as standard input."""

_BYTES_PER_PIXEL = 16  # no picture is larger: four 16-bit samples, twice
_HEADER_BYTES = 64 * 2**20  # room for profiles and notes
_PROBE_SECONDS = 2  # of computing: no header that is meant well takes as long


def probe(source: Source, options: LoadOptions = LOAD) -> Info:
    """What the header says, without decoding pixels; raises ReadError as `load` would for what a header can tell."""
    name, limit = _name(source), options.max_pixels
    with (
        pillow_errors(name, limit, []),
        _opened(source, limit, whole=False) as stream,
        contextlib.closing(_file(_Timed(stream), name, [])) as file,
    ):
        return file.info


def load(source: Source, options: LoadOptions = LOAD) -> Picture:
    """The one picture in a file, or the first of several where `options.frames` is "first"; raises ReadError."""
    if options.frames == "all":
        options = dataclasses.replace(options, frames="error")
    with contextlib.closing(load_frames(source, options)) as pictures:
        return next(pictures)


def load_frames(source: Source, options: LoadOptions = LOAD_ALL) -> Generator[Picture, None, None]:
    """Every frame or page of a file, one at a time, as `options.frames` allows; raises ReadError.

    The pixel limit is for all of them together. The file stays open until the iterator is used up or closed.
    """
    notes: list[str] = []
    told: set[str] = set()
    errors = partial(pillow_errors, _name(source), options.max_pixels, notes)
    with contextlib.ExitStack() as stack:
        with errors():
            stream = stack.enter_context(_opened(source, options.max_pixels))
            file = stack.enter_context(contextlib.closing(_file(stream, _name(source), notes)))
            info = file.info
            if info.frames > 1 and options.frames == "error":
                raise ReadError(f"has {info.frames} frames or pages; choose the first or all of them")
            count = info.frames if options.frames == "all" else 1
            check_pixels((info.width, info.height), frames=count)
            pictures = islice(file.pictures(), count)
        while True:
            with errors():  # left again before the caller goes on with another file
                picture = next(pictures, None)
            if picture is None:
                return
            fresh = tuple(note for note in dict.fromkeys(notes) if note not in told)
            told.update(fresh)
            yield dataclasses.replace(picture, notes=fresh)


def _file(stream: Any, name: str, notes: list[str]) -> PillowFile | TiffFile:
    stream.seek(0)
    head = stream.read(12)
    file: PillowFile | TiffFile
    if head[:4] in tags.HEADS:
        file = TiffFile(stream, notes)
    else:
        file = (JxlFile if head.startswith(jxl.STARTS) else PillowFile)(stream, name, notes)
    check_pixels((file.info.width, file.info.height))
    return file


class _Timed:
    """A stream for looking at a header; raises ReadError once this thread has computed for too long."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._end = stream, time.thread_time() + _PROBE_SECONDS

    def read(self, size: int = -1) -> bytes:
        if time.thread_time() > self._end:
            raise ReadError(f"its header takes more than {_PROBE_SECONDS} s to read; the file is damaged")
        return self._stream.read(size)

    def close(self) -> None:
        """Leave the stream open for whoever has opened it."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _name(source: Source) -> str:
    """What errors call the source."""
    name = os.fspath(source) if isinstance(source, (str, os.PathLike)) else getattr(source, "name", None)
    return name if isinstance(name, str) else "<stdin>"


@contextlib.contextmanager
def _opened(source: Source, max_pixels: int, *, whole: bool = True) -> Iterator[BinaryIO]:
    """A seekable stream on `source`; raises ReadError for what cannot be opened.

    A stream or a pipe is read to its end, at most as much as a picture of `max_pixels` may have; but a stream that can
    seek only with `whole`.
    """
    with contextlib.ExitStack() as stack:
        try:
            if isinstance(source, (str, os.PathLike)):
                stream: BinaryIO = stack.enter_context(Path(source).open("rb"))
                status = os.fstat(stream.fileno())
                if not stat.S_ISREG(status.st_mode):
                    stream = _whole(stream, max_pixels)
                elif status.st_size == 0:
                    raise ReadError("the file is empty")
            else:
                stream = _whole(source, max_pixels) if whole or not source.seekable() else source
        except FileNotFoundError as error:
            raise ReadError("no such file") from error
        except IsADirectoryError as error:
            raise ReadError("is a folder, not a picture") from error
        except (OSError, ValueError) as error:
            raise ReadError(f"cannot be opened ({getattr(error, 'strerror', None) or summary(error)})") from error
        yield stream


def _whole(stream: BinaryIO, max_pixels: int) -> BinaryIO:
    most = max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES
    content = stream.read(most + 1)
    if len(content) > most:
        raise ReadError(f"more than {most} bytes, no picture within the pixel limit is that large")
    if not content:
        raise ReadError("no data")
    return io.BytesIO(content)
