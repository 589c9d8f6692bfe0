"""Files to pictures."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

from ..errors import ReadError
from . import jxl
from .border import Source, foreign, opened
from .exif import provenance_of
from .options import LOAD, LOAD_ALL, LoadOptions
from .picture import Info, Picture
from .pillow_file import PillowFile
from .tiff_file import TiffFile

_BYTES_PER_PIXEL = 16  # no picture is larger: four 16-bit samples, twice
_HEADER_BYTES = 64 * 2**20  # room for profiles and notes
_JXL_BYTES = 4096  # in which the header of a JPEG XL stands
_TIFF_HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

File = PillowFile | TiffFile


def probe(source: Source, options: LoadOptions = LOAD) -> Info:
    """What the header says, without decoding pixels; raises ReadError as `load` would for what a header can tell."""
    with _open(source, options, []) as (file, stream, name):
        _check_size(file, name, options, frames=1)
        width, height = file.size
        return Info(
            format=file.format,
            width=width,
            height=height,
            frames=file.frames,
            depth=file.depth,
            has_alpha=file.has_alpha,
            provenance=file.provenance,
            file_bytes=stream.seek(0, 2),
        )


def load(source: Source, options: LoadOptions = LOAD) -> Picture:
    """The one picture in a file, or the first of several where `options.frames` is "first"; raises ReadError."""
    notes: list[str] = []
    with _open(source, options, notes) as (file, _, name):
        if file.frames > 1 and options.frames != "first":
            raise ReadError(f"{name}: has {file.frames} frames or pages; choose the first or all of them")
        _check_size(file, name, options, frames=1)
        picture = next(file.pictures())
    return dataclasses.replace(picture, notes=tuple(notes))


def load_frames(source: Source, options: LoadOptions = LOAD_ALL) -> Iterator[Picture]:
    """Every frame or page of a file, one at a time, as `options.frames` allows; raises ReadError.

    The pixel limit is for all of them together. The file stays open until the iterator is used up or closed.
    """
    if options.frames != "all":
        yield load(source, options)
        return
    limit = options.max_pixels
    with opened(source, _most_bytes(limit)) as (stream, name), contextlib.ExitStack() as stack:
        notes: list[str] = []
        told: set[str] = set()
        with foreign(name, limit, notes):
            file = stack.enter_context(contextlib.closing(_file(stream, name, notes)))
            _check_size(file, name, options, frames=file.frames)
            pictures = file.pictures()
        while True:
            with foreign(name, limit, notes):  # left again before the caller goes on: it holds a lock
                picture = next(pictures, None)
            if picture is None:
                return
            fresh = tuple(note for note in dict.fromkeys(notes) if note not in told)
            told.update(fresh)
            yield dataclasses.replace(picture, notes=fresh)


def read_provenance(source: Source) -> str | None:
    """The provenance tag of a file that irestore wrote; None for any other file, readable or not. Decodes no pixel."""
    limit = _most_bytes(LOAD.max_pixels)
    try:
        with opened(source, limit) as (stream, name), foreign(name, LOAD.max_pixels, []):
            if jxl.header(stream.read(_JXL_BYTES)) is not None:  # whose decoder cannot but decode
                return provenance_of(jxl.exif(stream))
            stream.seek(0)
            with contextlib.closing(_file(stream, name, [])) as file:
                return file.provenance
    except ReadError:
        return None  # whoever loads the file will be told what is wrong with it


@contextlib.contextmanager
def _open(source: Source, options: LoadOptions, notes: list[str]) -> Iterator[tuple[File, BinaryIO, str]]:
    limit = options.max_pixels
    with (
        opened(source, _most_bytes(limit)) as (stream, name),
        foreign(name, limit, notes),
        contextlib.closing(_file(stream, name, notes)) as file,
    ):
        yield file, stream, name


def _file(stream: BinaryIO, name: str, notes: list[str]) -> File:
    head = stream.read(4)
    stream.seek(0)
    return (TiffFile if head in _TIFF_HEADS else PillowFile)(stream, name, notes)


def _most_bytes(max_pixels: int) -> int:
    return max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES


def _check_size(file: File, name: str, options: LoadOptions, frames: int) -> None:
    width, height = file.size
    if width * height * frames > options.max_pixels:
        times = f" x {frames} frames" if frames > 1 else ""
        raise ReadError(
            f"{name}: {width} x {height} pixels{times} are more than the {options.max_pixels} allowed; "
            "raise the limit to read it"
        )
