"""16-bit TIFF at all its bits. Pillow cuts most kinds of it to 8 bits a sample, and reads some not at all.

libtiff, inside Pillow, still does the unpacking: it is shown the same strips or tiles as an 8-bit grey picture that is
as wide as a row has bytes. What comes back are the bytes of the 16-bit samples, for every compression of bytes.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO

import numpy as np
from PIL import Image

from .decode import Decoded, Samples
from .tags import LONG, SHORT, Block, DamagedTagsError, Tag, directory, numbers_tag

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _CHANNELS, _STRIP_ROWS, _STRIP_BYTES, _PLANAR, _PREDICTOR = 273, 277, 278, 279, 284, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _EXTRA, _FORMAT = 322, 323, 324, 325, 338, 339
_BYTEWISE = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_GREY_INVERTED, _GREY, _RGB = 0, 1, 2
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra channels
_MOST_CHANNELS = 16
MOST_PIXEL_BYTES = 2 * _MOST_CHANNELS


class Tiff16:
    """One page of a TIFF file whose samples are 16-bit whole numbers, grey or RGB."""

    def __init__(self, block: Block, first: int) -> None:
        """Raises DamagedTagsError for a page of another kind."""
        self._block, self._table = block, block.table(first)
        self.first = first
        self.width, self.height = self._get(_WIDTH, 0), self._get(_HEIGHT, 0)
        self.channels = self._get(_CHANNELS, 1)
        self._inks = {_GREY_INVERTED: 1, _GREY: 1, _RGB: 3}.get(self._get(_PHOTOMETRIC, _GREY), 0)
        self._separate = self._get(_PLANAR, 1) == 2 and self.channels > 1
        self._tiled = _TILES in self._table
        bits, kinds = self._all(_BITS, (1,)), self._all(_FORMAT, (1,))
        if not (
            set(bits) == {16}
            and set(kinds) == {1}
            and 0 < self._inks <= self.channels <= _MOST_CHANNELS
            and min(self.width, self.height) > 0
            and self._get(_COMPRESSION, 1) in _BYTEWISE
            and self._get(_PREDICTOR, 1) in (1, 2)
        ):
            raise DamagedTagsError("not 16-bit grey or RGB")

    @property
    def has_alpha(self) -> bool:
        """Whether one of the extra channels says that it is alpha."""
        return any(kind in (_PREMULTIPLIED, _ALPHA) for kind in self._all(_EXTRA, ()))

    def decoded(self, unpack: Callable[[BinaryIO], Image.Image], notes: list[str]) -> Decoded:
        """The samples, as they lie in the file. `unpack` opens a picture with Pillow."""
        planes = range(self.channels if self._separate else 1)
        samples = np.concatenate([self._plane(unpack, plane) for plane in planes], axis=2)
        colour = samples[..., 0] if self._inks == 1 else samples[..., :3]
        if self._get(_PHOTOMETRIC, _GREY) == _GREY_INVERTED:
            colour = 65535 - colour
        extras = self._all(_EXTRA, ())[: self.channels - self._inks]
        places = [i for i, kind in enumerate(extras) if kind in (_PREMULTIPLIED, _ALPHA)]
        if self.channels - self._inks > len(places[:1]):
            notes.append("it has channels besides colour and alpha, which were not kept")
        if not places:
            return Decoded(colour, None)
        alpha = samples[..., self._inks + places[0]]
        if extras[places[0]] == _PREMULTIPLIED:
            colour = _divided(colour, alpha)
        return Decoded(colour, alpha)

    def _plane(self, unpack: Callable[[BinaryIO], Image.Image], plane: int) -> Samples:
        """Samples (H, W, C) of one plane; C is 1 where each channel has a plane of its own."""
        channels = 1 if self._separate else self.channels
        with unpack(io.BytesIO(self._as_bytes(plane, channels))) as image:
            rows = np.asarray(image)
        samples = rows.view(self._block.order + "u2").astype(np.uint16).reshape(self.height, self.width, channels)
        if self._get(_PREDICTOR, 1) == 2:
            step = self._get(_TILE_WIDTH, 0) if self._tiled else self.width
            for left in range(0, self.width, step):
                part = samples[:, left : left + step]
                np.cumsum(part, axis=1, dtype=np.uint16, out=part)
        return samples

    def _as_bytes(self, plane: int, channels: int) -> bytes:
        """The file with one more directory, the first now: the same data as 8-bit grey, one pixel a byte."""
        order = self._block.order
        wide = 2 * channels
        tags = [
            numbers_tag(order, _WIDTH, LONG, self.width * wide),
            numbers_tag(order, _HEIGHT, LONG, self.height),
            numbers_tag(order, _BITS, SHORT, 8),
            numbers_tag(order, _PHOTOMETRIC, SHORT, _GREY),
            numbers_tag(order, _CHANNELS, SHORT, 1),
            *self._copied(_COMPRESSION, _FILL_ORDER, _STRIP_ROWS, _TILE_HEIGHT),
        ]
        if self._tiled:
            tags.append(numbers_tag(order, _TILE_WIDTH, LONG, self._get(_TILE_WIDTH, 0) * wide))
        for tag in (_TILES, _TILE_BYTES) if self._tiled else (_STRIPS, _STRIP_BYTES):
            places = self._all(tag, ())
            each = len(places) // (self.channels if self._separate else 1)
            tags.append(numbers_tag(order, tag, LONG, *places[plane * each : (plane + 1) * each]))
        content = self._block.content
        end = len(content) + len(content) % 2
        head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, end)
        return b"".join((head, content[len(head) :], bytes(end - len(content)), directory(order, tags, end)))

    def _copied(self, *tags: int) -> list[Tag]:
        found = [self._table[tag] for tag in tags if tag in self._table]
        return [numbers_tag(self._block.order, entry.tag, LONG, *self._block.numbers(entry)) for entry in found]

    def _get(self, tag: int, default: int) -> int:
        return self._all(tag, (default,))[0]

    def _all(self, tag: int, default: tuple[int, ...]) -> tuple[int, ...]:
        return self._block.numbers(self._table[tag]) if tag in self._table else default


def _divided(colour: Samples, alpha: Samples) -> Samples:
    """Colour that was stored multiplied by alpha, as it was before; black where alpha is zero."""
    divisor = np.maximum(alpha, 1).astype(np.float64)
    divisor = divisor if colour.ndim == 2 else divisor[..., None]
    return np.minimum(np.rint(colour * (65535 / divisor)), 65535).astype(np.uint16)
