"""A TIFF file: pages, tags read directly, pixels through Pillow, or at all their bits where they have 16.

Pillow cuts most kinds of 16-bit TIFF to 8 bits a sample, and reads some not at all. libtiff, inside Pillow, still does
the unpacking: it is shown the same strips or tiles as an 8-bit grey picture that is as wide as a row has bytes. What
comes back are the bytes of the 16-bit samples, for every compression of bytes. (tifffile needs imagecodecs for LZW, and
a minute for the header of some files that were made to harm.)
"""

import io
import mmap
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from irestore.errors import ReadError
from irestore.images.exif import CARRIED, from_tiff, provenance_of_text, resolution
from irestore.images.picture import Info, Metadata, Picture
from irestore.images.pillow_errors import any_size, check_pixels
from irestore.images.pillow_file import open_image
from irestore.images.samples import Decoded, Samples, decode, to_samples
from irestore.images.tags import LONG, SHORT, Block, DamagedTagsError, Directory, Tag, Tags, packed

_PLACES = {Tag.STRIPS, Tag.STRIP_BYTES, Tag.TILES, Tag.TILE_BYTES}
_LAYOUT = _PLACES | {Tag.COMPRESSION, Tag.FILL_ORDER, Tag.STRIP_ROWS, Tag.TILE_WIDTH, Tag.TILE_HEIGHT}
_COLOUR_TAGS, _FIRST_PRIVATE = (Tag.CURVE, Tag.WHITE_POINT, Tag.PRIMARIES), 32768

_REDUCED = 1  # bit of the subfile tag: a smaller copy of another page
_TWELVE = 12  # bits a sample, which Pillow gives as they are in 16
_BYTEWISE = {1, 5, 8, 32773, 32946, 34925, 50000}  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_GREY_INVERTED, _GREY = 0, 1
_INKS = {_GREY_INVERTED: 1, _GREY: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3}  # photometric -> channels of colour
_PREMULTIPLIED, _ALPHA = 1, 2  # kinds of extra channels
_MOST_CHANNELS = 16


class TiffFile:
    """One open file. Use it inside `pillow_errors`: any method may raise whatever Pillow raises."""

    def __init__(self, stream: BinaryIO, notes: list[str]) -> None:
        self._stream, self._notes = stream, notes
        self._block = Block(_content(stream))
        pages = [Page(tags, i) for i, tags in enumerate(self._block.directories())]
        if not pages:
            raise DamagedTagsError("no page")
        self._pages = [page for page in pages if not page.tags.number(Tag.SUBFILE, 0) & _REDUCED] or pages
        self._image: ImageFile.ImageFile | None = None
        first = self._pages[0]
        twelve = first.channels == 1 and first.bits == _TWELVE
        made = [raw for _, raw in first.tags.readable([Tag.PROCESSING_SOFTWARE], most_bytes=2**16).values()]
        self.info = Info(
            format="tiff",
            width=first.height if first.turn >= 5 else first.width,
            height=first.width if first.turn >= 5 else first.height,
            frames=len(self._pages),
            depth=16 if first.deep or twelve else 8,
            has_alpha=first.has_alpha,
            provenance=provenance_of_text(made[0]) if made else None,
        )

    def close(self) -> None:
        """Free the decoder; the stream stays open."""
        if self._image is not None:
            self._image.close()
        if isinstance(self._block.content, mmap.mmap):
            self._block.content.close()

    def pictures(self) -> Iterator[Picture]:
        """The pages."""
        for page in self._pages:
            check_pixels((page.width, page.height))
            if page.channels > page.inks + page.has_alpha:
                self._notes.append("it has channels besides colour and alpha, which were not kept")
            decoded, turn = (page.decoded(), page.turn) if page.deep else (self._by_pillow(page), 1)
            yield decoded.picture(turn, "tiff", page.metadata(self._notes))

    def _by_pillow(self, page: "Page") -> Decoded:
        try:
            self._image = self._image or open_image(self._stream)
        except ReadError as error:
            raise ReadError(
                f"a TIFF of a kind that cannot be read ({page.bits} bits a sample, compression {page.compression}); "
                "convert it to 8 or 16 bits"
            ) from error
        self._image.seek(page.index)
        self._image.info.pop("xmp", None)  # of orientations Pillow would follow this one, which `probe` does not know
        self._image.load()  # turns it upright, too
        decoded = decode(self._image, self._notes)
        depth = 8 * decoded.colour.itemsize
        if page.bits > depth:
            self._notes.append(f"its samples of {page.bits} bits were read as 8")
        elif page.bits == _TWELVE and depth > page.bits:
            decoded.colour = to_samples(decoded.colour.astype(np.float32) / np.float32(4095), 16)
        return decoded


class Page:
    """One page; raises DamagedTagsError where tags that it needs are not what they should be."""

    def __init__(self, tags: Directory, index: int) -> None:
        number = tags.number
        self.tags, self.index = tags, index
        self.width, self.height, self.channels = number(Tag.WIDTH, 0), number(Tag.HEIGHT, 0), number(Tag.CHANNELS, 1)
        self.bits, self.compression = number(Tag.BITS, 1), number(Tag.COMPRESSION, 1)
        self._photometric = number(Tag.PHOTOMETRIC, _GREY)
        self.inks = _INKS.get(self._photometric, self.channels)
        turn = number(Tag.ORIENTATION, 1)
        self.turn = turn if 1 <= turn <= 8 else 1
        extras = tags.numbers(Tag.EXTRA)[: max(self.channels - self.inks, 0)]
        self._alpha_at = next((i for i, kind in enumerate(extras) if kind in (_PREMULTIPLIED, _ALPHA)), -1)
        self.has_alpha = self._alpha_at >= 0
        self._premultiplied = self.has_alpha and extras[self._alpha_at] == _PREMULTIPLIED
        self._planes = self.channels if number(Tag.PLANAR, 1) == 2 else 1

    @property
    def deep(self) -> bool:
        """Whether its samples are 16-bit whole numbers, grey or RGB, packed so that `decoded` can read them."""
        try:
            return (
                0 < self.inks <= self.channels <= _MOST_CHANNELS
                and self._photometric <= 2
                and set(self.tags.numbers(Tag.BITS)) == {16}
                and set(self.tags.numbers(Tag.FORMAT, 1)) == {1}
                and min(self.width, self.height) > 0
                and self.compression in _BYTEWISE
                and self.tags.number(Tag.PREDICTOR, 1) in (1, 2)
            )
        except DamagedTagsError:
            return False  # Pillow's to read, or to refuse

    def decoded(self) -> Decoded:
        """The samples of a deep page, as they lie in the file."""
        samples = np.concatenate([self._plane(plane) for plane in range(self._planes)], axis=2)
        colour = samples[..., 0] if self.inks == 1 else samples[..., :3]
        if self._photometric == _GREY_INVERTED:
            colour = 65535 - colour
        if not self.has_alpha:
            return Decoded(colour)
        alpha = samples[..., self.inks + self._alpha_at]
        if self._premultiplied:
            divisor = np.maximum(alpha, 1).astype(np.float32)
            colour = to_samples(colour / (divisor if colour.ndim == 2 else divisor[..., None]), 16)
        return Decoded(colour, alpha)

    def _plane(self, plane: int) -> Samples:
        """Samples (H, W, C) of one plane; C is 1 where each channel has a plane of its own."""
        channels = self.channels if self._planes == 1 else 1
        with any_size(), open_image(io.BytesIO(self._as_bytes(plane, channels))) as image:
            rows = np.asarray(image)
        samples = rows.view(self.tags.block.order + "u2").astype(np.uint16).reshape(self.height, self.width, channels)
        if self.tags.number(Tag.PREDICTOR, 1) == 2:
            step = self.tags.number(Tag.TILE_WIDTH, self.width) if Tag.TILES in self.tags else self.width
            for left in range(0, self.width, step):
                part = samples[:, left : left + step]
                np.cumsum(part, axis=1, dtype=np.uint16, out=part)
        return samples

    def _as_bytes(self, plane: int, channels: int) -> bytes:
        """The file behind one more directory: the same data as 8-bit grey, one pixel a byte."""
        order, wide = self.tags.block.order, 2 * channels
        numbers = {tag: self.tags.numbers(tag, most_bytes=2**31) for tag in _LAYOUT & self.tags.keys()}
        for tag in _PLACES & numbers.keys():
            each = len(numbers[tag]) // self._planes
            numbers[tag] = numbers[tag][plane * each : (plane + 1) * each]
        if Tag.TILE_WIDTH in numbers:
            numbers[Tag.TILE_WIDTH] = (numbers[Tag.TILE_WIDTH][0] * wide,)
        numbers |= {Tag.WIDTH: (self.width * wide,), Tag.HEIGHT: (self.height,)}
        tags: Tags = {Tag.BITS: (SHORT, (8,)), Tag.PHOTOMETRIC: (SHORT, (_GREY,)), Tag.CHANNELS: (SHORT, (1,))}
        tags |= {tag: (LONG, values) for tag, values in numbers.items()}
        head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8)
        shift = len(head) + len(packed(order, tags, len(head)))
        tags |= {tag: (LONG, [at + shift for at in numbers[tag]]) for tag in (Tag.STRIPS, Tag.TILES) if tag in numbers}
        return b"".join((head, packed(order, tags, len(head)), self.tags.block.content))

    def metadata(self, notes: list[str]) -> Metadata:
        """What the page says besides its pixels; `notes` on what is not kept."""
        kept = CARRIED | {Tag.XMP, Tag.IPTC, Tag.ICC}
        if lost := [tag for tag in self.tags if tag not in kept and (tag >= _FIRST_PRIVATE or tag in _COLOUR_TAGS)]:
            notes.append(f"its TIFF tags {', '.join(map(str, lost[:10]))} were not kept")
        given = [tag for tag in (Tag.ICC, Tag.XMP, Tag.IPTC, Tag.X_RESOLUTION, Tag.Y_RESOLUTION) if tag in self.tags]
        found = self.tags.readable(given)
        notes.extend(f"its tag {tag} is damaged and was not kept" for tag in given if tag not in found)
        icc, xmp, iptc = (found[tag][1] if tag in found else None for tag in (Tag.ICC, Tag.XMP, Tag.IPTC))
        exif = from_tiff(self.tags)
        return Metadata(icc, exif, xmp, iptc, resolution(exif))


def _content(stream: BinaryIO) -> bytes | mmap.mmap:
    stream.seek(0)
    try:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # in memory already, or on a file system without maps
        return stream.read()
