"""The formats that can be written, what each can hold, and the check of a target before any long computation."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import MappingProxyType

from ..errors import UsageError
from .options import SaveOptions


@dataclass(frozen=True)
class Format:
    """What one file format can hold."""

    suffixes: tuple[str, ...]
    max_side: int  # pixels
    alpha: bool = True
    grey: bool = True
    grey_alpha: bool = True  # grey with transparency
    depths: tuple[int, ...] = (8,)
    lossy: bool = False
    lossless: bool = True
    frames: bool = False
    profiles: bool = True  # ICC
    metadata_bytes: int = 0  # most that EXIF, XMP or IPTC may have each, 0 for no limit


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "png": Format((".png", ".apng"), 2**31 - 1, depths=(8, 16), frames=True),
        "jpg": Format(
            (".jpg", ".jpeg", ".jpe", ".jfif"),
            65500,
            alpha=False,
            lossy=True,
            lossless=False,
            metadata_bytes=65_480,
        ),
        "webp": Format((".webp",), 16383, grey=False, grey_alpha=False, lossy=True, frames=True),
        "tiff": Format((".tif", ".tiff"), 2**31 - 1, depths=(8, 16), frames=True),
        "avif": Format((".avif",), 32768, grey_alpha=False, lossy=True, lossless=False, frames=True),
        "jxl": Format((".jxl",), 2**30 - 1, lossy=True, profiles=False),
        "gif": Format((".gif",), 65535, grey_alpha=False, frames=True, profiles=False),
    }
)
"""Keys are what users write after `-f`. libjpeg stops at 65500 pixels a side though the format says 65535;
libavif reads no more than 32768 a side or 2**28 in all, so neither is written."""

AVIF_MAX_PIXELS = 2**28
_BY_SUFFIX = {suffix: name for name, known in FORMATS.items() for suffix in known.suffixes}


def format_of(path: str | os.PathLike[str]) -> str | None:
    """The key of `FORMATS` that the suffix of `path` stands for, None for any other suffix."""
    return _BY_SUFFIX.get(PurePath(path).suffix.lower())


def default_format(source_format: str, frames: int = 1) -> str:
    """The format that a result gets when nobody chose one: the source's where it can be written well, else PNG.

    `source_format` is `Info.format`. A still GIF becomes a PNG, which holds more than 256 colours.
    """
    if source_format == "gif" and frames == 1:
        return "png"
    return source_format if source_format in FORMATS else "png"


def target_format(path: str | os.PathLike[str], options: SaveOptions) -> str:
    """The key of `FORMATS` to write `path` in; raises UsageError where neither the option nor the suffix tells."""
    if options.format != "auto":
        if options.format not in FORMATS:
            raise UsageError(f"unknown format {options.format!r}; choose one of {', '.join(FORMATS)}")
        return options.format
    name = format_of(path)
    if name is None:
        known = ", ".join(next(iter(known.suffixes)) for known in FORMATS.values())
        raise UsageError(
            f"{path}: the suffix names no format that can be written; use one of {known} or choose a format"
        )
    return name


def check_target(name: str, width: int, height: int, has_alpha: bool, options: SaveOptions) -> None:
    """Nothing, if a picture of this size can be written in format `name` with `options`; else raises UsageError.

    Meant to be called with the size of the result before the result is computed. `has_alpha`: `Picture.transparent`.
    """
    if name not in FORMATS:
        raise UsageError(f"unknown format {name!r}; choose one of {', '.join(FORMATS)}")
    chosen = FORMATS[name]
    if max(width, height) > chosen.max_side or (name == "avif" and width * height > AVIF_MAX_PIXELS):
        raise UsageError(
            f"{width} x {height} pixels are more than {name} can hold ({chosen.max_side} a side); choose png or tiff"
        )
    if has_alpha and not chosen.alpha and options.background is None:
        raise UsageError(
            f"{name} has no transparency, the picture has; give it a --background, such as white, or choose png or webp"
        )
    if options.depth != "auto" and options.depth not in chosen.depths:
        raise UsageError(f"{name} holds {chosen.depths[-1]} bits a sample, not {options.depth}; choose png or tiff")
    if options.lossless and not chosen.lossless:
        raise UsageError(f"{name} cannot be written without loss; choose png, tiff, webp or jxl")
    if options.quality is not None and not 1 <= options.quality <= 100:
        raise UsageError(f"quality {options.quality} is not in 1..100")
    if options.background is not None:
        from .colour import parse_colour

        parse_colour(options.background)
    if name == "jxl":
        from .border import need_jxl

        need_jxl()
