"""What a caller may choose when pictures are read and written, and the formats that can be written, a row each.

Imports nothing heavy, so that `--help` and the check of a target before a long computation are quick.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePath
from types import MappingProxyType
from typing import Literal

from irestore.errors import UsageError, install_command

MAX_PIXELS = 200_000_000
"""The most pixels that are decoded unless asked: a 200-megapixel photograph passes, a decompression bomb does not."""


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """How a picture is read."""

    max_pixels: int = MAX_PIXELS  # largest width x height x frames that is decoded; more is a ReadError
    frames: Literal["first", "all", "error"] = "error"  # of several: take the first, all (`load_frames`), or refuse


@dataclass(frozen=True, kw_only=True)
class SaveOptions:
    """How a picture is written."""

    format: str = "auto"  # a key of `FORMATS`, or by the suffix of the target
    depth: Literal["auto", 8, 16] = "auto"  # bits a sample; "auto" keeps the picture's, as far as the format can
    quality: int | None = None  # 1..100 for lossy formats; None keeps a JPEG's own, else the format's default
    overwrite: bool = True  # False leaves a file that is there as it is, and is a WriteError
    lossless: bool | None = None  # True asks for no loss (WebP, JPEG XL); None keeps what a WebP source was
    background: str | None = None  # a CSS colour put behind transparency, which then is gone; None keeps it
    metadata: Literal["keep", "strip"] = "keep"  # "strip" leaves the colour profile: without it colours are wrong
    provenance: str | None = None  # text of `provenance()`; None writes none and drops one that the source had


LOAD, LOAD_ALL, SAVE = LoadOptions(), LoadOptions(frames="all"), SaveOptions()


@dataclass(frozen=True)
class Format:
    """A row of `FORMATS`: how to write a format, and what it can hold."""

    suffixes: tuple[str, ...]
    pillow: str  # Pillow's name
    max_side: int  # pixels
    holds: str  # the kinds of metadata, as fields of Metadata
    max_pixels: int = 2**62
    max_metadata_bytes: int = 2**31 - 1  # of EXIF, XMP, IPTC, comment each
    max_duration: int = (2**16 - 1) * 1000  # milliseconds of a frame
    max_loop: int = 2**31 - 1  # times, or one less
    depths: tuple[int, ...] = (8,)
    alpha: bool = True
    grey: bool = True
    grey_alpha: bool = True  # grey with transparency
    lossy: bool = False
    lossless: bool = True
    frames: bool = False
    plugin: str = ""  # a module that adds the format to Pillow; an extra of the format's name installs it


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "png": Format(
            (".png", ".apng"), "PNG", 2**31 - 1, "icc exif xmp dpi text png_colour duration loop",
            depths=(8, 16), frames=True,
        ),
        "jpg": Format(  # libjpeg stops at 65500 pixels a side though the format says 65535
            (".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG", 65500, "icc exif xmp iptc dpi comment",
            max_metadata_bytes=65_480, alpha=False, lossy=True, lossless=False,
        ),
        "webp": Format(
            (".webp",), "WEBP", 16383, "icc exif xmp duration loop",
            grey=False, grey_alpha=False, lossy=True, frames=True, max_duration=2**24 - 1, max_loop=2**16 - 1,
        ),
        "tiff": Format(
            (".tif", ".tiff"), "TIFF", 2**31 - 1, "icc exif xmp iptc dpi", depths=(8, 16), frames=True,
        ),
        "avif": Format(  # libavif reads no more than this
            (".avif",), "AVIF", 32768, "icc exif xmp duration",
            max_pixels=2**28, grey_alpha=False, lossy=True, lossless=False, frames=True,
        ),
        "jxl": Format((".jxl",), "JXL", 2**30 - 1, "exif xmp", lossy=True, plugin="pillow_jxl"),
        "gif": Format(
            (".gif",), "GIF", 65535, "comment duration loop",
            grey_alpha=False, frames=True, max_duration=(2**16 - 1) * 10, max_loop=2**16 - 1,
        ),
        "bmp": Format((".bmp",), "BMP", 2**31 - 1, "dpi", max_pixels=10**9, alpha=False),  # of up to 4 GiB
        "ppm": Format((".ppm", ".pgm", ".pnm"), "PPM", 2**31 - 1, "", alpha=False),
    }
)  # fmt: skip
"""Keys are what users write after `-f`."""

_BY_SUFFIX = {suffix: name for name, row in FORMATS.items() for suffix in row.suffixes}


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The key of `FORMATS` that the suffix of `path` stands for, None for any other suffix."""
    return _BY_SUFFIX.get(PurePath(path).suffix.lower())


def default_format(source_format: str, frames: int = 1) -> str:
    """The format that a result gets when nobody chose one: the source's where it can be written well, else PNG.

    `source_format` is `Info.format`. A still GIF becomes a PNG, which holds more than 256 colours; BMP and PPM too,
    since a PNG says what made it.
    """
    row = FORMATS.get(source_format)
    return source_format if row and (frames > 1 or "exif" in row.holds) else "png"


def target_format(path: str | os.PathLike[str], options: SaveOptions) -> str:
    """The key of `FORMATS` to write `path` in; raises UsageError where neither the option nor the suffix tells."""
    if options.format != "auto":
        row_of(options.format)
        return options.format
    name = format_of(path)
    if name is None:
        known = ", ".join(row.suffixes[0] for row in FORMATS.values())
        raise UsageError(
            f"{path}: the suffix names no format that can be written; use one of {known} or choose a format"
        )
    return name


def row_of(name: str) -> Format:
    """The row of `FORMATS`; raises UsageError for a name that is not there."""
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[name]


def check_target(name: str, width: int, height: int, has_alpha: bool, options: SaveOptions) -> None:
    """Check whether a picture of this size can be written in format `name` with `options`; raises UsageError if not.

    Meant to be called with the size of the result before the result is computed. `has_alpha`: `Picture.transparent`.
    """
    row = row_of(name)
    if max(width, height) > row.max_side or width * height > row.max_pixels:
        raise UsageError(
            f"{width} x {height} pixels are more than {name} can hold ({row.max_side} a side); choose png or tiff"
        )
    if has_alpha and not row.alpha and options.background is None:
        raise UsageError(
            f"{name} has no transparency, the picture has; give it a --background, such as white, or choose png or webp"
        )
    if options.depth != "auto" and options.depth not in row.depths:
        raise UsageError(
            f"{name} is written with {row.depths[-1]} bits a sample, not {options.depth}; choose png or tiff"
        )
    if options.lossless and not row.lossless:
        raise UsageError(f"{name} cannot be written without loss; choose png, tiff, webp or jxl")
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UsageError(f"quality {options.quality} is not in 1..100")
    if options.background is not None:
        from irestore.images.colour import parse_colour

        parse_colour(options.background)
    if row.plugin:
        try:
            import_module(row.plugin)
        except ImportError as error:
            raise UsageError(f"writing {name} needs an extra: {install_command(name)}") from error
