"""From pictures to the bytes of each format."""

import dataclasses
import io
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from irestore.errors import UsageError, WriteError
from irestore.images import png, tiff_write
from irestore.images.colour import flattened, is_grey, parse_colour, profile_space, to_srgb
from irestore.images.exif import corrected, corrected_xmp, provenance_of, provenance_of_text, resolution
from irestore.images.formats import Format, SaveOptions, check_target, row_of
from irestore.images.picture import Metadata, Picture
from irestore.images.pillow_errors import summary
from irestore.images.samples import Raster, Samples, one_channel, to_samples
from irestore.images.tags import DamagedTagsError

_KINDS = {  # of metadata, as messages call them
    "exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "text": "texts", "comment": "comment", "dpi": "resolution",
    "png_colour": "PNG's colour chunks", "duration": "time of each frame", "loop": "number of repeats",
}  # fmt: skip
_SRGB_GAMMA = struct.pack(">I", 45455)
_STUB = Image.new("L", (1, 1))
LEAST_KEPT_QUALITY = 90
"""A JPEG is compressed as it was, but no more strongly than this: what was restored must survive its saving."""


def encode_frames(pictures: Iterable[Picture], stream: BinaryIO, name: str, options: SaveOptions) -> tuple[str, ...]:
    """The pictures in `stream` as one file of format `name`; returns what it could not hold, one line each.

    Raises UsageError as `check_target` and for frames in a format of single pictures, WriteError for what cannot be
    encoded, OSError where `stream` cannot be written, and whatever taking the pictures raises.
    """
    notes: list[str] = []
    pictures = iter(pictures)
    first = list(islice(pictures, 2))
    row, several = row_of(name), len(first) == 2
    if not first:
        raise UsageError("no picture to write")
    if several and not row.frames:
        raise UsageError(f"{name} holds one frame, the picture has several; choose png, gif, webp, avif or tiff")
    try:
        rasters = (_raster(picture, name, options, several, notes) for picture in chain(first, pictures))
        if name == "tiff":
            tiff_write.write(rasters, stream)
        else:
            _write(list(rasters), stream, name, options, notes)
    except MemoryError as error:
        raise WriteError("too large for the memory of this machine") from error
    return tuple(dict.fromkeys(notes))


def _write(frames: list[Raster], stream: BinaryIO, name: str, options: SaveOptions, notes: list[str]) -> None:
    row = row_of(name)
    if len({frame.samples.shape[:2] for frame in frames}) > 1:  # Pillow would write a file that nothing can read
        raise WriteError("its frames differ in size; choose tiff")
    metadata = frames[0].metadata
    common = {"icc_profile": metadata.icc, "exif": metadata.exif, "xmp": metadata.xmp, "dpi": metadata.dpi}
    chosen: dict[str, Any] = {key: value for key, value in common.items() if value} | OPTIONS[name](frames, options)
    still = row.pillow == "PNG" and len(frames) == 1  # of it Pillow writes only what goes with the pixels
    target = io.BytesIO() if still else stream
    images = [_STUB] if still else [Image.fromarray(np.ascontiguousarray(frame.samples)) for frame in frames]
    if row.pillow == "GIF":
        notes += _lost_in_gif(images)
    if len(frames) > 1:
        if len({image.mode for image in images}) > 1:  # Pillow's encoders take that of the first for all
            images = [image.convert("RGBA") for image in images]
        chosen |= {"save_all": True, "append_images": images[1:], **_timing(frames, row, notes)}
    try:
        images[0].save(target, row.pillow, **chosen)
    except (OSError, MemoryError):
        raise  # of the disk, mostly: the caller knows the file
    except Exception as error:  # encoders raise nearly anything for what they cannot write
        raise WriteError(f"cannot be written as {row.pillow} ({summary(error)})") from error
    if still:
        png.write(frames[0].samples, stream, target)


def _timing(frames: list[Raster], row: Format, notes: list[str]) -> dict[str, Any]:
    """How long each frame is shown, and how often all are. A GIF counts the times after the first, if there are any."""
    given, loop = [round(frame.metadata.duration or 0) for frame in frames], frames[0].metadata.loop
    durations = [min(each, row.max_duration) for each in given]
    if durations != given:
        notes.append(f"its time of a frame was cut to the {row.max_duration / 1000:g} s that the format can hold")
    if row.pillow == "GIF" and loop:
        loop = loop - 1 or None
    return {"duration": durations} | ({} if loop is None else {"loop": min(loop, row.max_loop)})


def _lost_in_gif(images: list[Image.Image]) -> Iterator[str]:
    if any(image.mode != "L" and image.convert("RGB").getcolors(256) is None for image in images):
        yield "its colours became the 256 that a frame of a gif holds"
    if any(image.mode == "RGBA" and any(image.getchannel("A").histogram()[1:255]) for image in images):
        yield "its half-transparent pixels became transparent or opaque: gif holds no other"


def _plain(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    return {}


def _png(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    info, metadata = PngInfo(), frames[0].metadata
    for name, content in metadata.png_colour:
        info.add(name, content)
    if metadata.xmp:  # not compressed, in no language, byte for byte
        info.add(b"iTXt", b"XML:com.adobe.xmp" + bytes(5) + metadata.xmp)
    for key, value in metadata.text.items():
        info.add_text(key, value)
    return {"pnginfo": info, "compress_level": tiff_write.ZLIB_LEVEL}


def _jpg(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
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


def _webp(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    kept = frames[0].metadata.lossless if options.lossless is None and options.quality is None else options.lossless
    return {"lossless": bool(kept), "quality": options.quality or 90}


def _avif(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    grey = len(frames) == 1 and frames[0].samples.ndim == 2
    return {"subsampling": "4:0:0" if grey else "4:4:4", "quality": options.quality or 85}


def _jxl(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    exif = frames[0].metadata.exif
    chosen = {"lossless": bool(options.lossless), "quality": options.quality or 90, "use_container": True}
    return chosen | ({"exif": bytes(4) + exif} if exif else {})  # its box starts with the block's offset


def _gif(frames: list[Raster], options: SaveOptions) -> dict[str, Any]:
    """The provenance tag is its comment. A frame with transparency is cleared before the next one is drawn."""
    metadata = frames[0].metadata
    tag, comment = provenance_of(metadata.exif), metadata.comment
    if tag or provenance_of_text(comment or b""):
        comment = tag.encode() if tag else None
    clear = any(frame.samples.shape[2:] == (4,) for frame in frames)
    return {"disposal": 2 if clear else 0} | ({"comment": comment} if comment else {})


OPTIONS: Mapping[str, Callable[[list[Raster], SaveOptions], dict[str, Any]]] = {
    "png": _png, "jpg": _jpg, "webp": _webp, "avif": _avif, "jxl": _jxl, "gif": _gif, "bmp": _plain, "ppm": _plain,
}  # fmt: skip
"""For each format that Pillow writes, the options of its `save` besides profile, EXIF, XMP and timing."""


def _raster(picture: Picture, name: str, options: SaveOptions, several: bool, notes: list[str]) -> Raster:
    """The picture as format `name` will hold it, `notes` on what it cannot hold.

    Raises UsageError as `check_target`, and WriteError on NaN.
    """
    check_target(name, picture.width, picture.height, picture.transparent, options)
    row = row_of(name)
    if options.background is not None:
        picture = flattened(picture, parse_colour(options.background))
    depth = picture.depth if options.depth == "auto" else options.depth
    if depth not in row.depths or (several and name != "tiff"):
        if depth > 8:
            notes.append(f"its {depth} bits a sample became 8, as {name} is written" + " with several frames" * several)
        depth = 8
    one = is_grey(picture)
    samples = to_samples(one_channel(picture.pixels) if one else picture.pixels, depth)
    metadata = picture.metadata
    if options.metadata == "strip":
        metadata = dataclasses.replace(metadata, exif=None, xmp=None, iptc=None, dpi=None, text={}, comment=None)
    _note_lost(metadata, name, several, notes)
    metadata = _corrected(picture, metadata, name, options, notes)
    alpha = picture.alpha if row.alpha else None
    grey = row.grey if alpha is None else row.grey_alpha
    if "icc" not in row.holds or (one and not grey):
        samples, metadata = _in_srgb(samples, metadata, grey, notes)
    return Raster(samples if alpha is None else np.dstack([samples, to_samples(alpha, depth)]), metadata)


def _in_srgb(samples: Samples, metadata: Metadata, grey: bool, notes: list[str]) -> tuple[Samples, Metadata]:
    """8-bit samples for a format that knows no profiles, or no grey: brought to sRGB through the profile they have."""
    image = Image.fromarray(samples)
    if metadata.icc is None or (image.mode == "L" and profile_space(metadata.icc) != "GRAY"):
        return (samples if grey or image.mode == "RGB" else np.asarray(image.convert("RGB"))), metadata
    return np.asarray(to_srgb(image, metadata.icc, notes)), dataclasses.replace(metadata, icc=None)


def _corrected(picture: Picture, given: Metadata, name: str, options: SaveOptions, notes: list[str]) -> Metadata:
    """The metadata, true for the picture as it is now, with provenance in its EXIF."""
    size = picture.width, picture.height
    tag_alone = corrected(None, size, None, options.provenance)
    try:
        exif = corrected(given.exif, size, given.dpi, options.provenance)
    except DamagedTagsError:
        notes.append("its EXIF is damaged and was not kept")
        exif = tag_alone
    xmp = given.xmp and corrected_xmp(given.xmp, *size)
    kinds: dict[str, Any] = {"exif": exif, "xmp": xmp, "iptc": given.iptc, "comment": given.comment}
    for kind, content in kinds.items():
        if content and len(content) > row_of(name).max_metadata_bytes:
            notes.append(f"its {_KINDS[kind]} is larger than {name} can hold and was not kept")
            kinds[kind] = tag_alone if kind == "exif" else None
    return dataclasses.replace(given, **kinds)


def _note_lost(given: Metadata, name: str, several: bool, notes: list[str]) -> None:
    """Note the kinds of metadata that the format cannot hold."""
    holds, chunks = row_of(name).holds.split(), dict(given.png_colour)
    kept = {
        "dpi": "exif" in holds and resolution(given.exif),
        "png_colour": b"cICP" not in chunks
        and (b"sRGB" in chunks or given.icc is not None or chunks == {b"gAMA": _SRGB_GAMMA}),
        "duration": not several,
        "loop": not several,
    }
    kinds = (kind for kind in _KINDS if kind not in holds and getattr(given, kind) and not kept.get(kind))
    if lost := [_KINDS[kind] for kind in kinds]:
        notes.append(f"not kept, since {name} cannot hold it: {', '.join(lost)}")
