"""A picture ready for an encoder: whole numbers, and the metadata that is true for them."""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import WriteError
from .alpha import flattened
from .colour import parse_colour, profile_space, to_srgb
from .exif import corrected
from .formats import FORMATS, check_target
from .metadata import corrected_xmp
from .options import SaveOptions
from .picture import Metadata, Picture, Plane
from .tags import DamagedTagsError

Samples = NDArray[Any]  # uint8 or uint16
_ROWS = 256  # converted at once


@dataclass
class Sheet:
    """One picture as a format will hold it."""

    samples: Samples  # (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha
    metadata: Metadata  # corrected: EXIF with provenance, XMP

    @property
    def image(self) -> Image.Image:
        """As Pillow has it; 8 bits a sample only."""
        return Image.fromarray(np.ascontiguousarray(self.samples))


def sheet(picture: Picture, name: str, options: SaveOptions, notes: list[str]) -> Sheet:
    """The picture as format `name` will hold it, `notes` on what it cannot hold.

    Raises UsageError as `check_target`, and WriteError on NaN.
    """
    check_target(name, picture.width, picture.height, picture.transparent, options)
    chosen = FORMATS[name]
    if options.background is not None:
        picture = flattened(picture, parse_colour(options.background))
    depth = picture.depth if options.depth == "auto" else options.depth
    if depth not in chosen.depths:
        notes.append(f"its {depth} bits a sample became 8, all that {name} holds")
        depth = 8
    colour = _one_channel(picture.pixels) if picture.grey else picture.pixels
    samples = quantised(colour, depth)
    metadata = _corrected(picture, name, options, notes)
    with_alpha = picture.alpha is not None and chosen.alpha
    grey = chosen.grey_alpha if with_alpha else chosen.grey
    if not chosen.profiles or (picture.grey and not grey):
        samples, metadata = _in_srgb(samples, metadata, grey, notes)
    if picture.alpha is not None and chosen.alpha:
        samples = np.dstack([samples, quantised(picture.alpha, depth)])
    return Sheet(samples, metadata)


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


def _one_channel(pixels: Plane) -> Plane:
    """The mean of the channels, exactly the channel where all three are equal."""
    return np.asarray(pixels.mean(axis=2, dtype=np.float64), np.float32)


def _in_srgb(samples: Samples, metadata: Metadata, grey: bool, notes: list[str]) -> tuple[Samples, Metadata]:
    """8-bit samples for a format that knows no profiles, or no grey: brought to sRGB through the profile they have."""
    image = Image.fromarray(samples)
    if metadata.icc is None or (image.mode == "L" and profile_space(metadata.icc) != "GRAY"):
        return (samples if grey or image.mode == "RGB" else np.asarray(image.convert("RGB"))), metadata
    return np.asarray(to_srgb(image, metadata.icc, notes)), dataclasses.replace(metadata, icc=None)


def _corrected(picture: Picture, name: str, options: SaveOptions, notes: list[str]) -> Metadata:
    given = picture.metadata
    if options.metadata == "strip":
        kept = ("icc", "png_colour", "jpeg", "lossless", "duration", "loop")
        given = Metadata(**{field: getattr(given, field) for field in kept})
    size = picture.width, picture.height
    xmp = given.xmp and corrected_xmp(given.xmp, *size, given.oriented)
    exif, iptc = None, given.iptc
    try:
        exif = corrected(given.exif, size, given.dpi, options.provenance)
    except DamagedTagsError:
        notes.append("its EXIF is damaged and was not kept")
        exif = corrected(None, size, None, options.provenance)
    most = FORMATS[name].metadata_bytes
    if most and exif and len(exif) > most:
        notes.append(f"its EXIF is larger than {name} can hold and was not kept")
        exif = corrected(None, size, None, options.provenance)
    if most and xmp and len(xmp) > most:
        notes.append(f"its XMP is larger than {name} can hold and was not kept")
        xmp = None
    if most and iptc and len(iptc) > most:
        notes.append(f"its IPTC is larger than {name} can hold and was not kept")
        iptc = None
    return dataclasses.replace(given, exif=exif, xmp=xmp, iptc=iptc)
