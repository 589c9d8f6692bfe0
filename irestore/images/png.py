"""PNG where Pillow loses something: 16 bits a sample, which it cuts to 8 except for grey, colour chunks, missing rows.

16 bits read: Pillow's decoder (zlib, filters, interlacing, checksums) runs twice, keeping the high byte of each sample,
then the low one. Stills are written here: Pillow writes no 16 bits, and takes one thread, and on it twice as long.
"""

import struct
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from irestore.errors import ReadError
from irestore.images.samples import Decoded, Samples, keyed
from irestore.processors import processors

LEVEL = 4
"""Of each row less the one above it. Files are 0.85 to 1.07 times as large as Pillow's of level 3."""
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # colour type -> samples a pixel
_ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_COLOUR, _COLOUR_BYTES = (b"cICP", b"gAMA", b"cHRM", b"sRGB"), 32
_CARRIED = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"iCCP", b"tEXt", b"zTXt", b"iTXt", b"eXIf", b"pHYs"}
_NEEDLESS = {b"acTL", b"fcTL", b"fdAT", b"tIME", b"bKGD", b"hIST", b"sBIT", b"oFFs", b"vpAg", b"caNv", b"orNT"}
_BAND_BYTES, _STRIP_BYTES = 2**22, 2**20  # unpacked at once; compressed at once
_MOST_INFLATED = 1032  # bytes from one, at most
_ADLER, _LAST_BLOCK = 65521, b"\3\0"  # the modulus of Adler-32; a last block of no data


def raw_mode(image: ImageFile.ImageFile) -> str:
    """How Pillow is about to unpack an image that is not yet loaded, such as "RGB;16B"; empty where it does not say."""
    arguments = image.tile[0].args if len(image.tile) == 1 else ""
    return arguments if isinstance(arguments, str) else str(arguments[0]) if arguments else ""


def _chunks(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk, the stream at its content."""
    at = len(_SIGNATURE)
    while stream.seek(at) == at and len(head := stream.read(8)) == 8:
        length = int.from_bytes(head[:4])
        yield head[4:], length
        at += 12 + length


def colour_chunks(stream: BinaryIO, notes: list[str]) -> tuple[tuple[bytes, bytes], ...]:
    """The chunks that say what the colours mean, besides an ICC profile; `notes` on others that are not kept."""
    found = []
    others: dict[str, None] = {}
    for name, length in _chunks(stream):
        if name in _COLOUR and length <= _COLOUR_BYTES:
            found.append((name, stream.read(length)))
        elif name not in _CARRIED | _NEEDLESS and name.isalpha():
            others[name.decode()] = None
    if others:
        notes.append(f"its PNG chunks {', '.join(list(others)[:10])} were not kept")
    return tuple(found)


def check_data(stream: BinaryIO) -> None:
    """Check whether the pixel data can hold as many pixels as the header says; raises ReadError if not."""
    needed = _unpacked_bytes(stream)
    if needed > 16 * stream.seek(0, 2) and needed > _MOST_INFLATED * sum(
        length for name, length in _chunks(stream) if name == b"IDAT"
    ):
        raise ReadError("its data are too few for the size in its header; the file is damaged or incomplete")


def check_end(image: ImageFile.ImageFile, stream: BinaryIO) -> None:
    """Check whether the data of a loaded image go on to its end; raises ReadError if not.

    Pillow fills rows that have no data with zeros. So only where the last row is zero, data are counted.
    """
    width, height = image.size
    if not image.info.get("interlace") and np.asarray(image.crop((0, height - 1, width, height))).any():
        return
    needed, unpack = _unpacked_bytes(stream), zlib.decompressobj()
    for name, length in _chunks(stream):
        content = stream.read(length) if name == b"IDAT" else b""
        while content and needed > 0:
            needed -= len(unpack.decompress(content, _BAND_BYTES))
            content = unpack.unconsumed_tail
    if needed > 0:
        raise ReadError("its pixels end too early; the file is damaged or incomplete")


def _unpacked_bytes(stream: BinaryIO) -> int:
    """Bytes of all rows, each with its filter."""
    stream.seek(16)
    width, height, bits, kind, _, _, interlaced = struct.unpack(">IIBBBBB", stream.read(13))
    total = 0
    for top, left, down, right in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        rows, columns = -(-max(height - top, 0) // down), -(-max(width - left, 0) // right)
        total += rows * (1 + (columns * bits * _CHANNELS.get(kind, 1) + 7) // 8) if columns else 0
    return total


def is_deep(image: ImageFile.ImageFile) -> bool:
    """Whether an image that is not yet loaded has 16-bit samples that Pillow would cut."""
    return raw_mode(image) in ("LA;16B", "RGB;16B", "RGBA;16B")


def decoded(image: ImageFile.ImageFile, again: Callable[[], ImageFile.ImageFile]) -> Decoded:
    """The 16-bit samples of a deep image. `again` opens the file anew."""
    raw = raw_mode(image)
    if raw == "LA;16B":
        image.tile = [image.tile[0]._replace(args="RGBA")]  # the same four bytes a pixel: two of grey, two of alpha
        pairs = np.asarray(image).view(">u2").astype(np.uint16)
        return Decoded(pairs[..., 0], pairs[..., 1])
    samples = np.asarray(image).astype(np.uint16) << 8
    with again() as low:
        low.tile = [low.tile[0]._replace(args=raw.replace("16B", "16L"))]  # takes the other byte of each sample
        samples |= np.asarray(low)
    if raw == "RGBA;16B":
        return Decoded(samples[..., :3], samples[..., 3])
    return keyed(samples, image.info.get("transparency"))


def write(samples: Samples, stream: BinaryIO, like: BinaryIO) -> None:
    """A PNG of `samples`, uint8 or uint16 (H, W) or (H, W, 1..4), with the metadata of the PNG `like`.

    Strips are compressed side by side, each to whole bytes, so that together they are one stream (RFC 1950, 1951).
    """
    height, width = samples.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[samples[0, 0].size]
    stream.write(_SIGNATURE)
    _chunk(stream, b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * samples.itemsize, kind, 0, 0, 0))
    for name, length in _chunks(like):
        if name not in (b"IHDR", b"IDAT", b"IEND"):
            _chunk(stream, name, like.read(length))
    low, high, rows = 1, 0, max(1, _STRIP_BYTES // samples[0].nbytes)
    with ThreadPoolExecutor(processors()) as pool:
        for packed, checksum, length in pool.map(partial(_strip, samples, rows), range(0, height, rows)):
            _chunk(stream, b"IDAT", packed)
            high = (high + (checksum >> 16) + length * (low - 1)) % _ADLER  # Adler-32 of all, from those of the parts
            low = (low + (checksum & 0xFFFF) - 1) % _ADLER
    _chunk(stream, b"IDAT", _LAST_BLOCK + struct.pack(">HH", high, low))
    _chunk(stream, b"IEND", b"")


def _strip(samples: Samples, rows: int, top: int) -> tuple[bytes, int, int]:
    """So many rows compressed, and the Adler-32 and the length of what they were."""
    seen = samples[max(top - 1, 0) : top + rows]
    seen = seen.astype(samples.dtype.newbyteorder(">"), order="C", copy=False).view(np.uint8).reshape(len(seen), -1)
    own = seen[min(top, 1) :]
    filtered = np.full((len(own), 1 + own.shape[1]), 2, np.uint8)  # each row less the one above it: filter 2 (9.2)
    filtered[:, 1:] = own
    filtered[1 - min(top, 1) :, 1:] -= seen[:-1]
    pack = zlib.compressobj(LEVEL, wbits=-zlib.MAX_WBITS if top else zlib.MAX_WBITS)  # the first has the header
    return pack.compress(filtered.data) + pack.flush(zlib.Z_SYNC_FLUSH), zlib.adler32(filtered.data), filtered.size


def _chunk(stream: BinaryIO, name: bytes, content: bytes) -> None:
    stream.write(struct.pack(">I", len(content)) + name + content)
    stream.write(struct.pack(">I", zlib.crc32(content, zlib.crc32(name))))
