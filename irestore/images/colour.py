"""Colours of other spaces brought to RGB, and transparency: filled, or put over a background."""

import io
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageCms, ImageColor

from irestore.errors import UsageError
from irestore.images.picture import Picture, Plane

_SPACES = {"CMYK": "CMYK", "LAB": "Lab", "L": "GRAY", "RGB": "RGB"}  # Pillow's modes, and ICC's names for them


def parse_colour(text: str) -> tuple[float, float, float]:
    """RGB in 0..1 of a colour as CSS writes it ("white", "#fff", "rgb(255, 255, 255)"); raises UsageError otherwise."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise UsageError(f"{text!r} is no colour; write a name such as white, or #rrggbb") from error
    return red / 255, green / 255, blue / 255


def profile_space(icc: bytes | None) -> str | None:
    """The colour space that an ICC profile is for, as its header says ("RGB", "GRAY", "CMYK", "Lab"), or None."""
    if icc is None or len(icc) < 128 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("ascii", "replace").strip()


def is_grey(picture: Picture) -> bool:
    """Whether it can be one channel: it is grey, and its profile, if there is one, is not for RGB."""
    return picture.grey and profile_space(picture.metadata.icc) != "RGB"


def to_srgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    """A CMYK, Lab, grey or RGB image as sRGB, by relative colorimetry with black point compensation, 8 bits a sample.

    Lab needs no profile. What has no usable one is converted by the plain formula; `notes` say what was done.
    """
    space = _SPACES[image.mode]
    source: Any = None
    if image.mode == "LAB":
        source = ImageCms.createProfile("LAB")
    elif icc is not None and profile_space(icc) == space:
        source = io.BytesIO(icc)
    if source is not None:
        try:
            result = ImageCms.profileToProfile(
                image,
                source,
                ImageCms.createProfile("sRGB"),
                ImageCms.Intent.RELATIVE_COLORIMETRIC,
                outputMode="RGB",
                flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
            )
            assert result is not None  # only None when asked to work in place
            notes.append(f"its {space.replace('GRAY', 'grey')} colours were converted to sRGB")
            return result
        except (ImageCms.PyCMSError, OSError):
            notes.append("its colour profile is damaged; colours were converted without it")
    elif image.mode == "CMYK":
        notes.append("CMYK without a CMYK profile; colours were converted by the plain formula")
    elif icc is not None:
        notes.append(f"its colour profile is not one for {space} and was not kept")
    return image.convert("RGB")


def fill_transparent(picture: Picture) -> Picture:
    """The picture with colours under zero alpha drawn from their nearest visible neighbours; all else untouched.

    What a painting program left there, black mostly, would bleed into the edges through any network.
    """
    if picture.alpha is None or not (hidden := picture.alpha == 0).any() or hidden.all():
        return picture
    filled = _spread(picture.pixels, picture.alpha)
    return replace(picture, pixels=np.where(hidden[..., None], filled, picture.pixels))


def _spread(pixels: Plane, weight: Plane) -> Plane:
    """Colours everywhere, from where `weight` is: averaged over ever larger squares, then read back, finest first."""
    height, width = weight.shape
    known = weight[..., None] > 0
    if known.all() or weight.size == 1:
        return pixels
    coarse_weight = _halved(weight)
    coarse = (_halved(pixels * weight[..., None]) / np.maximum(coarse_weight, 1e-12)[..., None]).astype(np.float32)
    finer = _spread(coarse, coarse_weight)
    return np.where(known, pixels, finer.repeat(2, axis=0).repeat(2, axis=1)[:height, :width])


def _halved(values: Plane) -> Plane:
    """Sums over squares of 2 x 2, those at the border padded with zeros."""
    height, width = values.shape[:2]
    padded = np.pad(values, [(0, height % 2), (0, width % 2)] + [(0, 0)] * (values.ndim - 2))
    rows = padded[0::2] + padded[1::2]
    return rows[:, 0::2] + rows[:, 1::2]


def flattened(picture: Picture, background: tuple[float, float, float]) -> Picture:
    """The picture over a background of that RGB colour, without alpha. A grey one over a colour becomes RGB."""
    if picture.alpha is None:
        return picture
    alpha = picture.alpha[..., None]
    pixels = picture.pixels * alpha + np.asarray(background, np.float32) * (1 - alpha)
    return replace(picture, pixels=pixels, alpha=None, grey=picture.grey and len(set(background)) == 1)
