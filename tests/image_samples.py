"""Small picture files for the tests, some of kinds that irestore reads but never writes."""

import io
import struct
import zlib
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from irestore.images import Picture, SaveOptions, encode

ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
PLAIN = ((0, 0, 1, 1),)


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(samples: NDArray[Any], *, interlaced: bool = False, before: bytes = b"") -> bytes:
    """A PNG of uint8 or uint16 samples (H, W, C), unfiltered, with further chunks before the pixels."""
    height, width, channels = samples.shape
    rows = b""
    for top, left, down, right in ADAM7 if interlaced else PLAIN:
        part = samples[top::down, left::right]
        if part.size:
            rows += b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in part)
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    head = struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, kind, 0, 0, interlaced)
    data = chunk(b"IDAT", zlib.compress(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + data + chunk(b"IEND", b"")


def noise(height: int, width: int, channels: int, depth: int = 8) -> NDArray[Any]:
    rng = np.random.default_rng(height * width * channels * depth)
    return rng.integers(0, 2**depth, (height, width, channels), np.uint8 if depth == 8 else np.uint16)


def picture(height: int, width: int, **fields: Any) -> Picture:
    """An RGB picture of noise; `fields` are those of Picture."""
    pixels = (noise(height, width, 3) / np.float32(255)).astype(np.float32)
    return Picture(**{"pixels": pixels, "alpha": None, "grey": False, "depth": 8, "format": "png", **fields})


@cache
def sample(kind: str) -> bytes:
    """A good file of 11 x 9 pixels; see SAMPLES."""
    rgb = noise(9, 11, 3)
    if kind in WRITTEN:
        alpha = None if kind == "jpg" else noise(9, 11, 1)[..., 0] / np.float32(255)
        tagged = SaveOptions(provenance="irestore/0 test")
        return encode(picture(9, 11, alpha=alpha, depth=16 if "16" in kind else 8), kind.removesuffix("16"), tagged)
    if kind == "laced16":
        return png(noise(9, 11, 4, 16), interlaced=True)
    if kind == "ppm16":
        return b"P6 11 9 65535\n" + noise(9, 11, 3, 16).astype(">u2").tobytes()
    image, stream = Image.fromarray(rgb), io.BytesIO()
    if kind == "heif":
        import_module("pillow_heif").register_heif_opener()
    if kind == "jxl":
        import_module("pillow_jxl")
    if kind in ("apng", "awebp", "agif"):
        names = {"apng": "PNG", "awebp": "WEBP", "agif": "GIF"}
        image.save(stream, names[kind], save_all=True, append_images=[image.rotate(180)], duration=50, loop=0)
    elif kind == "bigtiff":
        image.save(stream, "TIFF", big_tiff=True, compression="tiff_lzw")
    elif kind == "cmyk":
        image.convert("CMYK").save(stream, "JPEG")
    else:
        image.save(stream, {"jp2": "JPEG2000"}.get(kind, kind.upper()))
    return stream.getvalue()


WRITTEN = ("png", "png16", "jpg", "webp", "tiff", "tiff16", "avif", "gif")
SAMPLES = (*WRITTEN, "laced16", "ppm16", "apng", "awebp", "agif", "bigtiff", "cmyk")
SAMPLES += ("bmp", "tga", "ico", "jp2", "qoi", "pcx", "sgi")
EXTRAS = {"heif": "pillow_heif", "jxl": "pillow_jxl"}
SAMPLES += tuple(kind for kind, module in EXTRAS.items() if find_spec(module))
