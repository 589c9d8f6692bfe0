"""Whole numbers as files have them, floats as networks compute with them, and the way between the two."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.errors import ReadError, UsageError, WriteError
from irestore.images.colour import to_srgb
from irestore.images.picture import Metadata, Picture, Plane

PillowImage = Image.Image
Samples = NDArray[Any]  # uint8 or uint16

_ROWS = 16  # converted at once: few enough to stay in the cache


def to_floats(samples: Samples) -> Plane:
    """Whole numbers as float32 in 0..1."""
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def to_samples(values: Plane, depth: int) -> Samples:
    """0..1 as whole numbers of 8 or 16 bits, rounded to nearest (half up) and clipped; raises WriteError on NaN."""
    peak = 2**depth - 1
    result = np.empty(values.shape, np.uint8 if depth == 8 else np.uint16)
    for top in range(0, len(values), _ROWS):
        band = values[top : top + _ROWS]
        if not np.isfinite(band).all():
            raise WriteError("the picture has pixels that are not numbers (NaN or infinity); nothing was written")
        result[top : top + _ROWS] = np.clip(band * np.float32(peak) + np.float32(0.5), 0, peak)
    return result


def one_channel(pixels: Plane) -> Plane:
    """The mean of the channels, exactly the channel where all three are equal."""
    return np.asarray(pixels.mean(axis=2, dtype=np.float64), np.float32)


@dataclass
class Decoded:
    """Samples (H, W) of a grey or (H, W, 3) of an RGB picture, alpha (H, W), all uint8 or all uint16."""

    colour: Samples
    alpha: Samples | None = None
    converted: bool = False  # to sRGB, so the file's profile no longer holds

    def picture(self, orientation: int, format: str, metadata: Metadata) -> Picture:
        """The picture, turned and mirrored as EXIF's orientation 1..8 asks."""
        colour = to_floats(_turned(self.colour, orientation))
        return Picture(
            pixels=np.repeat(colour[..., None], 3, axis=2) if colour.ndim == 2 else colour,
            alpha=None if self.alpha is None else to_floats(_turned(self.alpha, orientation)),
            grey=colour.ndim == 2,
            depth=8 * self.colour.itemsize,
            format=format,
            metadata=dataclasses.replace(metadata, icc=None) if self.converted else metadata,
        )


@dataclass
class Raster:
    """One picture as a format will hold it."""

    samples: Samples  # (H, W) grey, (H, W, 2) grey and alpha, (H, W, 3) RGB, (H, W, 4) RGB and alpha
    metadata: Metadata  # corrected: EXIF with provenance, XMP


def _turned(samples: Samples, orientation: int) -> Samples:
    if orientation >= 5:
        samples = samples.swapaxes(0, 1)
    return samples[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def decode(image: PillowImage, notes: list[str]) -> Decoded:
    """The samples of a loaded image in any mode of Pillow's; raises ReadError where 8 or 16 bits cannot hold them."""
    mode = image.mode
    if mode == "I" and image.format in ("PPM", "PNG"):  # 16-bit grey in Pillow's 32-bit mode
        return Decoded(np.asarray(image).clip(0, 65535).astype(np.uint16))
    if mode in ("I", "F"):
        kind = "signed or 32-bit whole numbers" if mode == "I" else "floating point numbers"
        raise ReadError(f"its samples are {kind}; convert it to 16 bits first")
    if mode.startswith("I;16"):
        return keyed(np.asarray(image).astype(np.uint16), image.info.get("transparency"))
    if mode in ("CMYK", "LAB"):
        return Decoded(np.asarray(to_srgb(image, image.info.get("icc_profile"), notes)), converted=True)
    image = image.convert("LA") if mode == "La" else image
    transparent = image.has_transparency_data
    samples = np.asarray(image.convert("RGBA" if transparent else "RGB"))
    palette = np.asarray(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    grey = mode in ("1", "L", "LA", "La") or (mode in ("P", "PA") and bool((palette == palette[:, :1]).all()))
    if mode in ("P", "PA") and not grey and image.format != "GIF":
        notes.append("its palette became full colour (RGB)")
    return Decoded(samples[..., 0] if grey else samples[..., :3], samples[..., 3] if transparent else None)


def keyed(samples: Samples, key: Any) -> Decoded:
    """Samples of which those equal to `key`, a number or one a channel, are transparent; None is no key."""
    if not isinstance(key, (int, tuple)):
        return Decoded(samples)
    match = samples == key if samples.ndim == 2 else (samples == np.asarray(key)).all(axis=-1)
    return Decoded(samples, np.where(match, 0, np.iinfo(samples.dtype).max).astype(samples.dtype))


def from_array(array: NDArray[Any]) -> Picture:
    """The Picture of an array (H, W), (H, W, 3) or (H, W, 4): uint8, uint16, or floating in 0..1. Raises UsageError."""
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or 0 in array.shape:
        raise UsageError(f"array of shape {array.shape}: must be (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype.kind != "f" and array.dtype not in (np.uint8, np.uint16):
        raise UsageError(f"array of {array.dtype}: must be uint8, uint16 or floating in 0..1")
    values = array.astype(np.float32) if array.dtype.kind == "f" else to_floats(array)
    check_range(float(values.min()), float(values.max()), "array")
    depth = 8 if array.dtype == np.uint8 else 16
    if array.ndim == 2:
        return Picture(np.repeat(values[..., None], 3, axis=2), None, grey=True, depth=depth, format="array")
    alpha = values[..., 3] if array.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(values[..., :3]), alpha, grey=False, depth=depth, format="array")


def check_range(low: float, high: float, kind: str) -> None:
    """Check the smallest and the largest value of a picture. Raises UsageError."""
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(f"{kind} holds NaN or infinity")
    if low < 0 or high > 1:
        raise UsageError(f"{kind} holds values from {low:.4g} to {high:.4g}: must be in 0..1; divide by 255, or clip")


def to_array(picture: Picture, like: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `from_array`, in the type and with as many axes as `like`; rounded to nearest, clipped."""
    values: NDArray[Any] = one_channel(picture.pixels)[..., None] if picture.grey else picture.pixels
    if picture.alpha is not None:
        values = np.concatenate([values, picture.alpha[..., None]], axis=2)
    if like.ndim == 2:
        values = values[..., 0]
    return np.clip(values, 0, 1).astype(like.dtype) if like.dtype.kind == "f" else to_samples(values, 8 * like.itemsize)


def from_pillow(image: PillowImage) -> Picture:
    """The Picture of a Pillow image: grey, RGB or palette, with or without transparency, 8 bits, or 16 bits grey.

    Colours are taken in the image's own RGB space; raises UsageError for CMYK, Lab and other spaces.
    """
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "I;16", "I;16L", "I;16B"):
        raise UsageError(f"Pillow image of mode {image.mode}: convert it to RGB first")
    return decode(image, []).picture(1, "pillow", Metadata())


def to_pillow(picture: Picture, like: PillowImage) -> PillowImage:
    """A Pillow image of mode L, LA, RGB, RGBA or I;16, with the `info` (profile, dpi, ...) of `like`."""
    shape = (0, 0) if picture.grey and picture.alpha is None else (0, 0, 0)
    image = Image.fromarray(to_array(picture, np.empty(shape, np.uint16 if picture.depth == 16 else np.uint8)))
    image.info = {key: value for key, value in like.info.items() if key != "transparency"}
    return image
