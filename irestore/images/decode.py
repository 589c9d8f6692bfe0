"""From Pillow's modes to samples: whole numbers as the file has them, upright, grey or RGB, alpha apart."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import ReadError
from .colour import to_srgb
from .picture import Plane

Samples = NDArray[Any]  # uint8 or uint16


@dataclass
class Decoded:
    """Samples (H, W) of a grey or (H, W, 3) of an RGB picture, alpha (H, W), all uint8 or all uint16."""

    colour: Samples
    alpha: Samples | None
    converted: bool = False  # to sRGB, so the file's profile no longer holds

    @property
    def depth(self) -> int:
        """Bits a sample."""
        return 8 * self.colour.itemsize

    def upright(self, orientation: int) -> "Decoded":
        """Turned and mirrored as EXIF's orientation 1..8 asks."""
        alpha = None if self.alpha is None else turned(self.alpha, orientation)
        return Decoded(turned(self.colour, orientation), alpha, self.converted)

    def pixels(self) -> Plane:
        """float32 (H, W, 3) in 0..1."""
        values = unit(self.colour)
        return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


def unit(samples: Samples) -> Plane:
    """Whole numbers as float32 in 0..1."""
    return samples.astype(np.float32) / np.float32(np.iinfo(samples.dtype).max)


def turned(samples: Samples, orientation: int) -> Samples:
    """An array (H, W, ...) as EXIF's orientation 1..8 asks it to be shown."""
    if orientation in (5, 6, 7, 8):
        samples = samples.swapaxes(0, 1)
    rows = slice(None, None, -1) if orientation in (3, 4, 7, 8) else slice(None)
    columns = slice(None, None, -1) if orientation in (2, 3, 6, 7) else slice(None)
    return samples[rows, columns]


def decode(image: Image.Image, name: str, notes: list[str]) -> Decoded:
    """The samples of a loaded image in any mode of Pillow's; raises ReadError where 8 or 16 bits cannot hold them."""
    mode = image.mode
    if mode in ("I", "F"):
        return _wide(image, name)
    if mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint16)
        return Decoded(grey, keyed(grey, image.info.get("transparency"), 65535))
    if mode in ("CMYK", "LAB"):
        return Decoded(np.asarray(to_srgb(image, image.info.get("icc_profile"), notes)), None, converted=True)
    if mode in ("LA", "La"):
        return _apart(np.asarray(image if mode == "LA" else image.convert("LA")))
    if mode in ("1", "L"):
        grey = np.asarray(image.convert("L"))
        return Decoded(grey, keyed(grey, image.info.get("transparency"), 255))
    decoded = _apart(np.asarray(image.convert("RGBA" if image.has_transparency_data else "RGB")))
    if mode in ("P", "PA") and _is_grey(image):
        return Decoded(decoded.colour[..., 0], decoded.alpha)
    return decoded


def _apart(samples: Samples) -> Decoded:
    channels = samples.shape[-1]
    colour = samples[..., 0] if channels == 2 else samples[..., :3]
    return Decoded(colour, samples[..., -1] if channels in (2, 4) else None)


def _is_grey(image: Image.Image) -> bool:
    """Whether every colour of a palette is a grey."""
    palette = np.asarray(image.getpalette("RGB") or (), np.uint8).reshape(-1, 3)
    return bool((palette == palette[:, :1]).all())


def keyed(samples: Samples, key: Any, peak: int) -> Samples | None:
    """Alpha of a picture whose samples equal to `key` are transparent."""
    if not isinstance(key, (int, tuple)):
        return None
    match = samples == key if samples.ndim == 2 else (samples == np.asarray(key)).all(axis=-1)
    return np.where(match, 0, peak).astype(samples.dtype)


def _wide(image: Image.Image, name: str) -> Decoded:
    if image.mode == "I" and image.format in ("PPM", "PNG"):  # 16-bit grey in Pillow's 32-bit mode
        return Decoded(np.asarray(image).clip(0, 65535).astype(np.uint16), None)
    kind = "signed or 32-bit whole numbers" if image.mode == "I" else "floating point numbers"
    raise ReadError(f"{name}: its samples are {kind}; convert it to 16 bits first")
