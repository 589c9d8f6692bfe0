"""Pictures that are in memory already: Pillow images and arrays, to Picture and back."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.errors import UsageError
from irestore.images.picture import Picture

PillowImage = Image.Image

_LARGEST = {"uint8": 255, "uint16": 65535}


def from_array(array: NDArray[Any]) -> Picture:
    """The Picture of an array (H, W), (H, W, 3) or (H, W, 4): uint8, uint16, or floating in 0..1. Raises UsageError."""
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not shaped or 0 in array.shape:
        raise UsageError(f"array of shape {array.shape}: must be (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype.kind != "f" and array.dtype.name not in _LARGEST:
        raise UsageError(f"array of {array.dtype}: must be uint8, uint16 or floating in 0..1")
    values = array.astype(np.float32) / np.float32(_LARGEST.get(array.dtype.name, 1))
    if not np.isfinite(values).all():
        raise UsageError("array holds NaN or infinity")
    depth = 8 if array.dtype == np.uint8 else 16
    if array.ndim == 2:
        return Picture(np.repeat(values[..., None], 3, axis=2), None, grey=True, depth=depth, format="array")
    alpha = values[..., 3] if array.shape[2] == 4 else None
    return Picture(np.ascontiguousarray(values[..., :3]), alpha, grey=False, depth=depth, format="array")


def to_array(picture: Picture, like: NDArray[Any]) -> NDArray[Any]:
    """The inverse of `from_array`, in the type and with as many axes as `like`; rounded to nearest, clipped."""
    samples = _samples(picture)
    if like.ndim == 2:
        samples = samples[..., 0]
    if like.dtype.kind == "f":
        exact: NDArray[Any] = samples.astype(like.dtype)
        return exact
    rounded: NDArray[Any] = np.floor(samples * np.float32(_LARGEST[like.dtype.name]) + np.float32(0.5))
    return rounded.astype(like.dtype)


def _samples(picture: Picture) -> NDArray[np.float32]:
    """Grey or RGB, and alpha where there is one: (H, W, 1 to 4) in 0..1."""
    colour = picture.pixels.mean(axis=2, keepdims=True) if picture.grey else picture.pixels
    planes = [colour] if picture.alpha is None else [colour, picture.alpha[..., None]]
    samples: NDArray[np.float32] = np.clip(np.concatenate(planes, axis=2), 0, 1)
    return samples


def from_pillow(image: PillowImage) -> Picture:
    """The Picture of a Pillow image: grey, RGB or palette, with or without transparency, 8 bits, or 16 bits grey.

    Colours are taken in the image's own RGB space; raises UsageError for CMYK, Lab and other spaces.
    """
    if image.mode.startswith("I;16"):
        return from_array(np.asarray(image).astype(np.uint16))
    if image.mode not in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX"):
        raise UsageError(f"Pillow image of mode {image.mode}: convert it to RGB first")
    transparent, grey = image.has_transparency_data, image.mode in ("1", "L", "LA", "La")
    picture = from_array(np.asarray(image.convert("RGBA" if transparent else "L" if grey else "RGB")))
    return Picture(picture.pixels, picture.alpha, grey=grey, depth=8, format="pillow")


def to_pillow(picture: Picture, like: PillowImage) -> PillowImage:
    """A Pillow image of mode L, LA, RGB, RGBA or I;16, with the `info` (profile, dpi, ...) of `like`."""
    shape = (0, 0) if picture.grey and picture.alpha is None else (0, 0, 0)
    array = to_array(picture, np.empty(shape, np.uint16 if picture.depth == 16 else np.uint8))
    image = Image.fromarray(array)
    image.info = {key: value for key, value in like.info.items() if key != "transparency"}
    return image
