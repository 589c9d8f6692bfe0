"""Pictures as a screen shows them, and in the formats that every browser reads."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.images.colour import is_grey, to_srgb
from irestore.images.picture import Picture
from irestore.images.samples import one_channel, to_samples

LOSSLESS_PIXELS = 8_000_000
JPEG_QUALITY = 95
JPEG_SIDE, WEBP_SIDE = 65500, 16383  # the largest that libjpeg and libwebp write

_FIELDS = 48  # of the checkerboard, along the longer side: pictures of any size have them at the same places
_LIGHT, _DARK = np.float32(0.95), np.float32(0.8)


def to_screen(picture: Picture) -> NDArray[np.uint8]:
    """(H, W, 3) in sRGB, 8 bits a sample, transparency over a light checkerboard."""
    pixels = picture.pixels
    if picture.alpha is not None:
        rows, columns = (
            np.arange(side) * _FIELDS // max(picture.height, picture.width) for side in picture.pixels.shape[:2]
        )
        board = np.where((rows[:, None] + columns) % 2, _DARK, _LIGHT).astype(np.float32)[..., None]
        alpha = picture.alpha[..., None]
        pixels = pixels * alpha + board * (1 - alpha)
    samples = to_samples(one_channel(pixels) if is_grey(picture) else pixels, 8)
    return np.asarray(to_srgb(Image.fromarray(samples), picture.metadata.icc, []))


def for_browser(samples: NDArray[np.uint8]) -> tuple[str, bytes]:
    """The kind ("webp", "png" or "jpeg") and the bytes of a picture (H, W, 3) for a page.

    Up to `LOSSLESS_PIXELS` without loss; more would make a page slow, so it is a JPEG of quality 95 (4:4:4).
    """
    image, stream = Image.fromarray(samples), io.BytesIO()
    if image.width * image.height > LOSSLESS_PIXELS and max(image.size) <= JPEG_SIDE:
        image.save(stream, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        return "jpeg", stream.getvalue()
    if max(image.size) > WEBP_SIDE:
        image.save(stream, "PNG")
        return "png", stream.getvalue()
    image.save(stream, "WEBP", lossless=True, quality=0, method=0)
    return "webp", stream.getvalue()
