"""Files to pictures."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image

from ..errors import ReadError
from .border import Source, foreign, open_image, opened
from .decode import Decoded, decode, unit
from .exif import orientation
from .metadata import exif_of, format_name, read_metadata, read_tag
from .options import LOAD, LoadOptions
from .picture import Info, Picture

_BYTES_PER_PIXEL = 16  # no picture file is larger: four 16-bit samples, twice
_HEADER_BYTES = 64 * 2**20  # room for profiles and notes
_SINGLE = ("MPO", "ICO", "CUR", "ICNS", "PSD", "DDS", "HEIF")  # further frames are previews, layers, smaller copies


def probe(source: Source, options: LoadOptions = LOAD) -> Info:
    """What the header says, without decoding pixels; raises ReadError as `load` would for what a header can tell."""
    notes: list[str] = []
    with _open(source, options, notes) as (image, stream, name):
        _check_size(image, name, options, frames=1)
        size = image.size[::-1] if _orientation(image) >= 5 else image.size
        return Info(
            format=format_name(image),
            width=size[0],
            height=size[1],
            frames=_frames(image),
            depth=_depth(image),
            has_alpha=image.has_transparency_data,
            file_bytes=stream.seek(0, 2),
        )


def load(source: Source, options: LoadOptions = LOAD) -> Picture:
    """The one picture in a file, or the first of several where `options.frames` is "first"; raises ReadError."""
    notes: list[str] = []
    with _open(source, options, notes) as (image, stream, name):
        frames = _frames(image)
        if frames > 1 and options.frames != "first":
            raise ReadError(f"{name}: has {frames} frames or pages; choose the first or all of them")
        _check_size(image, name, options, frames=1)
        picture = _read(image, stream, name, notes)
    return dataclasses.replace(picture, notes=tuple(notes))


def read_provenance(source: Source) -> str | None:
    """The provenance tag of a file that irestore wrote; None for any other file, readable or not. Decodes no pixel."""
    try:
        with _open(source, LOAD, []) as (image, _, _):
            return read_tag(image)
    except ReadError:
        return None  # whoever loads the file will say what is wrong with it


@contextlib.contextmanager
def _open(source: Source, options: LoadOptions, notes: list[str]) -> Iterator[tuple[Image.Image, BinaryIO, str]]:
    with (
        opened(source, options.max_pixels * _BYTES_PER_PIXEL + _HEADER_BYTES) as (stream, name),
        foreign(name, options.max_pixels, notes),
        open_image(stream, name) as image,
    ):
        yield image, stream, name


def _read(image: Image.Image, stream: BinaryIO, name: str, notes: list[str]) -> Picture:
    decoded = _decoded(image, stream, name, notes)
    turn = _orientation(image)
    metadata = read_metadata(image, oriented=turn != 1)
    if decoded.converted:
        metadata = dataclasses.replace(metadata, icc=None)
    upright = decoded.upright(turn)
    return Picture(
        pixels=upright.pixels(),
        alpha=None if upright.alpha is None else unit(upright.alpha),
        grey=upright.colour.ndim == 2,
        depth=upright.depth,
        format=format_name(image),
        metadata=metadata,
    )


def _decoded(image: Image.Image, stream: BinaryIO, name: str, notes: list[str]) -> Decoded:
    image.load()
    return decode(image, name, notes)


def _orientation(image: Image.Image) -> int:
    """How decoded pixels are still to be turned: Pillow turns TIFF itself, the decoders of HEIC and JPEG XL too."""
    return 1 if image.format in ("TIFF", "HEIF", "JXL") else orientation(exif_of(image))


def _frames(image: Image.Image) -> int:
    return 1 if image.format in _SINGLE else int(getattr(image, "n_frames", 1))


def _depth(image: Image.Image) -> int:
    return 16 if image.mode.startswith("I;16") else 8


def _check_size(image: Image.Image, name: str, options: LoadOptions, frames: int) -> None:
    width, height = image.size
    if width * height * frames > options.max_pixels:
        times = f" x {frames} frames" if frames > 1 else ""
        raise ReadError(
            f"{name}: {width} x {height} pixels{times} are more than the {options.max_pixels} allowed; raise the limit to read it"
        )


def load_frames(source: Source, options: LoadOptions) -> Iterator[Picture]:
    """Every frame or page of a file, one at a time."""
    yield load(source, options)
