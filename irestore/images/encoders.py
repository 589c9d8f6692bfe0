"""From sheets to the bytes of each format."""

import struct
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from PIL import Image, PngImagePlugin

from ..errors import UsageError, WriteError
from . import png, tiff_write
from .border import need_jxl, one_line
from .exif import provenance_of, provenance_of_text
from .formats import FORMATS
from .options import SaveOptions
from .picture import Metadata, Picture
from .sheet import Sheet, sheet

DEFAULT_QUALITY = {"jpg": 95, "webp": 90, "avif": 85, "jxl": 90}
LEAST_KEPT_QUALITY = 90
"""A JPEG is compressed as it was, but no more strongly than this: what was restored must survive its saving."""

_XMP_KEY = b"XML:com.adobe.xmp"


def encode_frames(pictures: Iterable[Picture], stream: BinaryIO, name: str, options: SaveOptions) -> tuple[str, ...]:
    """The pictures in `stream` as one file of format `name`; returns what it could not hold, one line each.

    Raises UsageError as `check_target` and for frames in a format of single pictures, WriteError for what cannot be
    encoded, OSError where `stream` cannot be written, and whatever taking the pictures raises.
    """
    notes: list[str] = []
    _encode((sheet(picture, name, options, notes) for picture in pictures), stream, name, options)
    return tuple(dict.fromkeys(notes))


def _encode(sheets: Iterator[Sheet], stream: BinaryIO, name: str, options: SaveOptions) -> None:
    first = next(sheets, None)
    if first is None:
        raise UsageError("no picture to write")
    if name == "tiff":
        tiff_write.write(chain([first], sheets), stream)
        return
    second = next(sheets, None)
    if second is None:
        _ENCODERS[name](first, [], stream, options)
    elif not FORMATS[name].frames:
        raise UsageError(f"{name} holds one frame, the picture has several; choose png, gif, webp, avif or tiff")
    else:
        _ENCODERS[name](first, [second, *sheets], stream, options)


def _save(ready: Sheet, rest: list[Sheet], stream: BinaryIO, pillow: str, **options: Any) -> None:
    """Through Pillow, with timing where there are several frames."""
    metadata = ready.metadata
    image, *others = alike([each.image for each in (ready, *rest)])
    options = {"icc_profile": metadata.icc or b"", "exif": metadata.exif or b""} | options
    if metadata.dpi:
        options["dpi"] = metadata.dpi
    if rest:
        options |= {"save_all": True, "append_images": others}
        options["duration"] = [round(each.metadata.duration or 0) for each in (ready, *rest)]
        if metadata.loop is not None and not (pillow == "GIF" and metadata.loop == 1):
            options["loop"] = metadata.loop
    try:
        image.save(stream, pillow, **options)
    except OSError:
        raise  # of the disk, mostly: the caller knows the file
    except Exception as error:  # encoders raise nearly anything for what they cannot write
        raise WriteError(f"cannot be written as {pillow} ({one_line(error)})") from error


def alike(images: list[Image.Image]) -> list[Image.Image]:
    """The images in one mode that holds them all: Pillow's encoders take that of the first for all."""
    modes = {image.mode for image in images}
    if len(modes) == 1:
        return images
    colour, alpha = any("RGB" in mode for mode in modes), any("A" in mode for mode in modes)
    return [image.convert(("RGB" if colour else "L") + ("A" if alpha else "")) for image in images]


def _png(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    info = PngImagePlugin.PngInfo()
    metadata = ready.metadata
    for name, content in metadata.png_colour:
        info.add(name, content)
    if metadata.xmp:
        info.add(b"iTXt", _XMP_KEY + bytes(5) + metadata.xmp)  # not compressed, in no language, byte for byte
    for key, value in metadata.text.items():
        info.add_text(key, value)
    if ready.samples.itemsize == 2 and not rest:
        png.write(ready.samples, stream, [*_png_chunks(metadata), *((c[0], c[1]) for c in info.chunks)])
    else:
        _save(ready, rest, stream, "PNG", pnginfo=info)


def _png_chunks(metadata: Metadata) -> Iterator[png.Chunk]:
    """Those chunks of a 16-bit PNG that Pillow writes itself at 8 bits."""
    if metadata.icc:
        yield b"iCCP", b"ICC Profile\0\0" + png.deflated(metadata.icc)
    if metadata.dpi:
        per_metre = [min(round(value / 0.0254), 2**31 - 1) for value in metadata.dpi]
        yield b"pHYs", struct.pack(">IIB", *per_metre, 1)
    if metadata.exif:
        yield b"eXIf", metadata.exif


def _jpg(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    metadata = ready.metadata
    tables = metadata.jpeg
    chosen: dict[str, Any] = {"subsampling": tables.subsampling if tables and tables.subsampling >= 0 else 0}
    if options.quality is None and tables is not None and tables.quality >= LEAST_KEPT_QUALITY:
        chosen["qtables"] = [list(table) for table in tables.tables]
    else:
        chosen["quality"] = options.quality or (LEAST_KEPT_QUALITY if tables else DEFAULT_QUALITY["jpg"])
    if metadata.exif:
        chosen["exif"] = b"Exif\0\0" + metadata.exif
    if metadata.xmp:
        chosen["xmp"] = metadata.xmp
    if metadata.comment:
        chosen["comment"] = metadata.comment
    if metadata.iptc:
        chosen["extra"] = _iptc_segment(metadata.iptc)
    _save(ready, rest, stream, "JPEG", **chosen)


def _iptc_segment(iptc: bytes) -> bytes:
    """JPEG's segment APP13 with one of Photoshop's resources in it, the IPTC record."""
    resource = b"8BIM" + struct.pack(">HHI", 0x0404, 0, len(iptc)) + iptc + bytes(len(iptc) % 2)
    content = b"Photoshop 3.0\0" + resource
    return b"\xff\xed" + struct.pack(">H", len(content) + 2) + content


def _webp(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    wanted = ready.metadata.lossless if options.lossless is None and options.quality is None else options.lossless
    quality = options.quality or DEFAULT_QUALITY["webp"]
    _save(ready, rest, stream, "WEBP", lossless=bool(wanted), quality=quality, xmp=ready.metadata.xmp or b"")


def _avif(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    chosen: dict[str, Any] = {"quality": options.quality or DEFAULT_QUALITY["avif"], "xmp": ready.metadata.xmp or b""}
    chosen["subsampling"] = "4:0:0" if ready.samples.ndim == 2 and not rest else "4:4:4"
    _save(ready, rest, stream, "AVIF", **chosen)


def _jxl(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    need_jxl()
    quality = options.quality or DEFAULT_QUALITY["jxl"]
    metadata = ready.metadata
    chosen = {"xmp": metadata.xmp} if metadata.xmp else {}
    if metadata.exif:
        chosen["exif"] = (
            bytes(4) + metadata.exif
        )  # its box starts with the offset of the block, which Pillow leaves out
    _save(ready, rest, stream, "JXL", lossless=bool(options.lossless), quality=quality, use_container=True, **chosen)


def _gif(ready: Sheet, rest: list[Sheet], stream: BinaryIO, options: SaveOptions) -> None:
    """256 colours a frame. A frame with transparency is cleared before the next one is drawn."""
    tag = provenance_of(ready.metadata.exif)
    comment = tag.encode() if tag else _others(ready.metadata.comment)
    clear = any(each.samples.shape[-1] == 4 for each in (ready, *rest))
    _save(ready, rest, stream, "GIF", disposal=2 if clear else 0, **({"comment": comment} if comment else {}))


def _others(comment: bytes | None) -> bytes | None:
    """A comment that is not the tag of the file this one was made from."""
    return None if comment is None or provenance_of_text(comment) else comment


_ENCODERS: dict[str, Callable[[Sheet, list[Sheet], BinaryIO, SaveOptions], None]] = {
    "png": _png, "jpg": _jpg, "webp": _webp, "avif": _avif, "jxl": _jxl, "gif": _gif,
}  # fmt: skip
