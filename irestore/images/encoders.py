"""From a picture to the bytes of one format: what is sampled how, and which metadata goes along."""

from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import WriteError
from .alpha import flattened
from .colour import parse_colour
from .exif import DamagedExifError, corrected
from .formats import FORMATS, check_target
from .metadata import corrected_xmp
from .options import SaveOptions
from .picture import Metadata, Picture, Plane

Samples = NDArray[Any]  # uint8 or uint16
_ROWS = 256  # rows converted at once
_JPEG_SEGMENT = 65533  # bytes in a marker segment of JPEG, its own length not counted
DEFAULT_QUALITY = {"jpg": 95, "webp": 90, "avif": 85, "jxl": 90}
LEAST_KEPT_QUALITY = 90
"""A JPEG is written as it was compressed, but no worse than this: a restored picture must survive its saving."""


@dataclass
class Sheet:
    """One picture ready for an encoder: whole numbers and the metadata that fits them."""

    samples: Samples  # (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha
    metadata: Metadata
    notes: list[str]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height), as Pillow has it."""
        return self.samples.shape[1], self.samples.shape[0]


def quantised(values: Plane, depth: int) -> Samples:
    """0..1 as whole numbers of 8 or 16 bits, rounded to nearest (half up) and clipped; raises WriteError on NaN."""
    peak = 2**depth - 1
    result = np.empty(values.shape, np.uint8 if depth == 8 else np.uint16)
    for top in range(0, len(values), _ROWS):
        band = values[top : top + _ROWS]
        if not np.isfinite(band).all():
            raise WriteError("the picture has pixels that are no numbers (NaN or infinity); nothing was written")
        result[top : top + _ROWS] = np.clip(band * np.float32(peak) + np.float32(0.5), 0, peak)
    return result


def sheet(picture: Picture, name: str, options: SaveOptions) -> Sheet:
    """The picture as format `name` will hold it."""
    check_target(name, picture.width, picture.height, picture.transparent, options)
    chosen = FORMATS[name]
    if options.background is not None:
        picture = flattened(picture, parse_colour(options.background))
    depth = picture.depth if options.depth == "auto" else options.depth
    depth = depth if depth in chosen.depths else 8
    notes: list[str] = []
    colour = picture.pixels.mean(axis=2, dtype=np.float32) if picture.grey else picture.pixels
    planes = [quantised(colour, depth)]
    if picture.alpha is not None and chosen.alpha:
        planes.append(quantised(picture.alpha, depth))
    samples = planes[0] if len(planes) == 1 else np.dstack(planes)
    return Sheet(samples, _metadata(picture, options), notes)


def _metadata(picture: Picture, options: SaveOptions) -> Metadata:
    given = picture.metadata
    if options.metadata == "keep":
        return given
    return Metadata(icc=given.icc, png_colour=given.png_colour, jpeg=given.jpeg, lossless=given.lossless)


def encode_picture(picture: Picture, stream: BinaryIO, name: str, options: SaveOptions) -> tuple[str, ...]:
    """The picture in `stream`; returns what the format could not hold. Raises UsageError and WriteError."""
    ready = sheet(picture, name, options)
    _ENCODERS[name](ready, stream, options)
    return tuple(ready.notes)


def _exif(ready: Sheet, options: SaveOptions) -> bytes | None:
    try:
        return corrected(ready.metadata.exif, ready.size, ready.metadata.dpi, options.provenance)
    except DamagedExifError:
        ready.notes.append("its EXIF is damaged and was not kept")
        return corrected(None, ready.size, None, options.provenance)


def _common(ready: Sheet, options: SaveOptions) -> dict[str, Any]:
    """What Pillow's encoders of photographs take alike."""
    metadata = ready.metadata
    common: dict[str, Any] = {"icc_profile": metadata.icc or b"", "exif": _exif(ready, options) or b""}
    if metadata.xmp:
        common["xmp"] = corrected_xmp(metadata.xmp, *ready.size, metadata.oriented)
    if metadata.dpi:
        common["dpi"] = metadata.dpi
    return common


def _png(ready: Sheet, stream: BinaryIO, options: SaveOptions) -> None:
    Image.fromarray(ready.samples).save(stream, "PNG", **_common(ready, options))


def _jpg(ready: Sheet, stream: BinaryIO, options: SaveOptions) -> None:
    common = _common(ready, options)
    if common["exif"]:
        common["exif"] = b"Exif\0\0" + common["exif"]
    jpeg = ready.metadata.jpeg
    if options.quality is None and jpeg is not None and jpeg.quality >= LEAST_KEPT_QUALITY:
        common["qtables"] = jpeg.tables
    else:
        common["quality"] = options.quality or (LEAST_KEPT_QUALITY if jpeg else DEFAULT_QUALITY["jpg"])
    common["subsampling"] = jpeg.subsampling if jpeg and jpeg.subsampling >= 0 else 0
    Image.fromarray(ready.samples).save(stream, "JPEG", **common)


_ENCODERS = {"png": _png, "jpg": _jpg}
