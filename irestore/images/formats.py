"""What a caller may choose when pictures are read and written, and the formats that can be written, a row each.

Imports nothing heavy, so that `--help` and the check of a target before a long computation are quick.
"""

import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from irestore.errors import UsageError, install_command
from irestore.images.exif import provenance_of, provenance_of_text

if TYPE_CHECKING:
    from irestore.images.samples import Raster

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

LEAST_KEPT_QUALITY = 90
"""A JPEG is compressed as it was, but no more strongly than this: what was restored must survive its saving."""
PNG_LEVEL = 4
"""Of stills, each row less the one above it. Files are 0.85 to 1.07 times as large as Pillow's of level 3."""
ZLIB_LEVEL = 3
"""Of TIFF and animated PNG. On enlarged photographs much faster than 6, and smaller; on others 4 % larger."""


# Each encoder gives the options of Pillow's `save` for the frames of one file, besides profile, EXIF, XMP and timing.


def _plain(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    return {}


def _png(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    from PIL.PngImagePlugin import PngInfo  # not at the top: this module is light

    info, metadata = PngInfo(), frames[0].metadata
    for name, content in metadata.png_colour:
        info.add(name, content)
    if metadata.xmp:  # not compressed, in no language, byte for byte
        info.add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp)
    for key, value in metadata.text.items():
        info.add_text(key, value)
    return {"pnginfo": info, "compress_level": ZLIB_LEVEL}


def _jpg(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    metadata = frames[0].metadata
    tables = metadata.jpeg
    chosen: dict[str, Any] = {"subsampling": tables.subsampling if tables and tables.subsampling >= 0 else 0}
    if options.quality is None and tables is not None and tables.quality >= LEAST_KEPT_QUALITY:
        chosen["qtables"] = [list(table) for table in tables.tables]
    else:
        chosen["quality"] = options.quality or (LEAST_KEPT_QUALITY if tables else 95)
    if metadata.exif:
        chosen["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.iptc:  # as segment APP13 with one of Photoshop's resources in it
        resource = struct.pack(">4sHHI", b"8BIM", 0x0404, 0, len(metadata.iptc)) + metadata.iptc
        content = b"Photoshop 3.0\0" + resource + bytes(len(resource) % 2)
        chosen["extra"] = struct.pack(">2sH", b"\xff\xed", len(content) + 2) + content
    return chosen | ({"comment": metadata.comment} if metadata.comment else {})


def _webp(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    kept = frames[0].metadata.lossless if options.lossless is None and options.quality is None else options.lossless
    return {"lossless": bool(kept), "quality": options.quality or 90}


def _avif(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    grey = len(frames) == 1 and frames[0].samples.ndim == 2
    return {"subsampling": "4:0:0" if grey else "4:4:4", "quality": options.quality or 85}


def _jxl(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    exif = frames[0].metadata.exif
    chosen = {"lossless": bool(options.lossless), "quality": options.quality or 90, "use_container": True}
    return chosen | ({"exif": bytes(4) + exif} if exif else {})  # its box starts with the block's offset


def _gif(frames: Sequence["Raster"], options: SaveOptions) -> dict[str, Any]:
    """The provenance tag is its comment. A frame with transparency is cleared before the next one is drawn."""
    metadata = frames[0].metadata
    tag, comment = provenance_of(metadata.exif), metadata.comment
    if tag or provenance_of_text(comment or b""):
        comment = tag.encode() if tag else None
    clear = any(frame.samples.shape[2:] == (4,) for frame in frames)
    return {"disposal": 2 if clear else 0} | ({"comment": comment} if comment else {})


@dataclass(frozen=True)
class Format:
    """A row of `FORMATS`: how to write a format, and what it can hold."""

    suffixes: tuple[str, ...]
    pillow: str  # Pillow's name
    encoder: Callable[[Sequence["Raster"], SaveOptions], dict[str, Any]] | None  # None: `tiff_write` writes it
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
            (".png", ".apng"), "PNG", _png, 2**31 - 1, "icc exif xmp dpi text png_colour duration loop",
            depths=(8, 16), frames=True,
        ),
        "jpg": Format(  # libjpeg stops at 65500 pixels a side though the format says 65535
            (".jpg", ".jpeg", ".jpe", ".jfif"), "JPEG", _jpg, 65500, "icc exif xmp iptc dpi comment",
            max_metadata_bytes=65_480, alpha=False, lossy=True, lossless=False,
        ),
        "webp": Format(
            (".webp",), "WEBP", _webp, 16383, "icc exif xmp duration loop",
            grey=False, grey_alpha=False, lossy=True, frames=True, max_duration=2**24 - 1, max_loop=2**16 - 1,
        ),
        "tiff": Format(
            (".tif", ".tiff"), "TIFF", None, 2**31 - 1, "icc exif xmp iptc dpi", depths=(8, 16), frames=True,
        ),
        "avif": Format(  # libavif reads no more than this
            (".avif",), "AVIF", _avif, 32768, "icc exif xmp duration",
            max_pixels=2**28, grey_alpha=False, lossy=True, lossless=False, frames=True,
        ),
        "jxl": Format((".jxl",), "JXL", _jxl, 2**30 - 1, "exif xmp", lossy=True, plugin="pillow_jxl"),
        "gif": Format(
            (".gif",), "GIF", _gif, 65535, "comment duration loop",
            grey_alpha=False, frames=True, max_duration=(2**16 - 1) * 10, max_loop=2**16 - 1,
        ),
        "bmp": Format((".bmp",), "BMP", _plain, 2**31 - 1, "dpi", max_pixels=10**9, alpha=False),  # of up to 4 GiB
        "ppm": Format((".ppm", ".pgm", ".pnm"), "PPM", _plain, 2**31 - 1, "", alpha=False),
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
