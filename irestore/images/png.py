"""PNG where Pillow loses something: 16 bits a sample, which it cuts to 8 except for grey, and colour chunks.

16 bits read: Pillow's decoder (zlib, filters, interlacing, checksums) runs twice, keeping the high byte of each sample,
then the low one. Written: by our own encoder, since Pillow has none.
"""

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import ImageFile

from .decode import Decoded, Samples, keyed

Chunk = tuple[bytes, bytes]  # name, content

_KINDS = {1: 0, 2: 4, 3: 2, 4: 6}  # channels -> colour type
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR, _COLOUR_BYTES = (b"cICP", b"gAMA", b"cHRM", b"sRGB"), 32
_BAND_BYTES = 2**22  # filtered at once
_LEVEL = 6  # zlib's


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How Pillow is about to unpack an image that is not yet loaded, such as "RGB;16B"; empty where it does not say."""
    arguments = image.tile[0].args if len(image.tile) == 1 else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def colour_chunks(stream: BinaryIO) -> tuple[Chunk, ...]:
    """The chunks that say what the colours mean, besides an ICC profile."""
    found: list[Chunk] = []
    stream.seek(len(_SIGNATURE))
    while len(head := stream.read(8)) == 8 and head[4:] not in (b"IDAT", b"IEND"):
        length = int.from_bytes(head[:4])
        if head[4:] in _COLOUR and length <= _COLOUR_BYTES:
            found.append((head[4:], stream.read(length)))
            length = 0
        stream.seek(length + 4, 1)
    return tuple(found)


def decoded(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> Decoded | None:
    """The 16-bit samples of an image, None where it has no more than Pillow keeps. `again` opens the file anew."""
    raw = raw_mode(image)
    if raw == "LA;16B":
        image.tile = [image.tile[0]._replace(args="RGBA")]  # the same four bytes a pixel: two of grey, two of alpha
        pairs = np.asarray(image).view(">u2").astype(np.uint16)
        return Decoded(pairs[..., 0], pairs[..., 1])
    if raw not in ("RGB;16B", "RGBA;16B"):
        return None
    samples = np.asarray(image).astype(np.uint16) << 8
    with again() as low:
        low.tile = [low.tile[0]._replace(args=raw.replace("16B", "16L"))]  # takes the other byte of each sample
        samples |= np.asarray(low)
    if raw == "RGBA;16B":
        return Decoded(samples[..., :3], samples[..., 3])
    return Decoded(samples, keyed(samples, image.info.get("transparency"), 65535))


def deflated(content: bytes) -> bytes:
    """Content as PNG's compressed chunks hold it."""
    return zlib.compress(content, _LEVEL)


def write(samples: Samples, stream: BinaryIO, chunks: Sequence[Chunk]) -> None:
    """A 16-bit PNG of `samples`, uint16 (H, W) or (H, W, 1..4), with further `chunks` before the pixels."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    stream.write(_SIGNATURE)
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 16, _KINDS[channels], 0, 0, 0))
    for name, content in chunks:
        _chunk(stream, name, content)
    pack = zlib.compressobj(_LEVEL, strategy=zlib.Z_FILTERED)
    for band in _filtered(samples.reshape(height, width * channels), 2 * channels):
        if packed := pack.compress(band):
            _chunk(stream, b"IDAT", packed)
    _chunk(stream, b"IDAT", pack.flush())
    _chunk(stream, b"IEND", b"")


def _chunk(stream: BinaryIO, name: bytes, content: bytes) -> None:
    stream.write(struct.pack(">I", len(content)) + name)
    stream.write(content)
    stream.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))


def _filtered(samples: Samples, pixel_bytes: int) -> Iterator[bytes]:
    """Rows with the filter each is smallest under (the sum of absolute differences, as the PNG standard suggests)."""
    height, width = samples.shape
    rows_at_once = max(_BAND_BYTES // (2 * width), 1)
    above = np.zeros((1, 2 * width), np.uint8)
    for top in range(0, height, rows_at_once):
        rows = samples[top : top + rows_at_once].astype(">u2").view(np.uint8)
        yield _smallest(rows, np.concatenate([above, rows[:-1]]), pixel_bytes)
        above = rows[-1:]


def _smallest(rows: NDArray[np.uint8], up: NDArray[np.uint8], pixel_bytes: int) -> bytes:
    left, corner = np.zeros_like(rows), np.zeros_like(rows)
    left[:, pixel_bytes:], corner[:, pixel_bytes:] = rows[:, :-pixel_bytes], up[:, :-pixel_bytes]
    average = ((left.astype(np.uint16) + up) // 2).astype(np.uint8)
    best = np.empty((len(rows), rows.shape[1] + 1), np.uint8)
    least = np.full(len(rows), np.iinfo(np.int64).max)
    for number, guess in enumerate((None, left, up, average, _paeth(left, up, corner))):
        differences = rows if guess is None else rows - guess
        cost = np.abs(differences.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64)
        better = cost < least
        best[better, 0], best[better, 1:] = number, differences[better]
        least = np.minimum(cost, least)
    return best.tobytes()


def _paeth(left: NDArray[np.uint8], up: NDArray[np.uint8], corner: NDArray[np.uint8]) -> NDArray[np.uint8]:
    a, b, c = left.astype(np.int16), up.astype(np.int16), corner.astype(np.int16)
    to_left, to_up, to_corner = np.abs(b - c), np.abs(a - c), np.abs(a + b - 2 * c)
    return np.where((to_left <= to_up) & (to_left <= to_corner), left, np.where(to_up <= to_corner, up, corner))
