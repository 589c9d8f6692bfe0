"""TIFF directories, byte by byte: the structure that TIFF files and EXIF blocks share.

A block starts with its byte order and the offset of its first directory. A directory is a count, that many entries of
(tag, kind, count, value or the offset of the values), and the offset of the next directory. BigTIFF has wider numbers.
"""

import contextlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from enum import IntEnum
from mmap import mmap
from typing import NamedTuple

BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED = 1, 2, 3, 4, 5, 7  # kinds of values
HEADS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # "+" is BigTIFF
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_MOST_ENTRIES, _MOST_ENTRIES_IN_ALL = 4096, 2**18  # of one directory; of a whole chain, which takes half a second

Tags = dict[int, tuple[int, bytes | Sequence[int]]]
"""What to write: (kind, values) of each tag; whole numbers, or the bytes of any values."""


class Tag(IntEnum):
    """The tags that mean something here, of TIFF and of EXIF."""

    PROCESSING_SOFTWARE = 11
    SUBFILE = 254
    WIDTH = 256
    HEIGHT = 257
    BITS = 258
    COMPRESSION = 259
    PHOTOMETRIC = 262
    FILL_ORDER = 266
    DESCRIPTION = 270
    MAKE = 271
    MODEL = 272
    STRIPS = 273
    ORIENTATION = 274
    CHANNELS = 277
    STRIP_ROWS = 278
    STRIP_BYTES = 279
    X_RESOLUTION = 282
    Y_RESOLUTION = 283
    PLANAR = 284
    RESOLUTION_UNIT = 296
    CURVE = 301
    SOFTWARE = 305
    DATE = 306
    ARTIST = 315
    HOST = 316
    PREDICTOR = 317
    WHITE_POINT = 318
    PRIMARIES = 319
    TILE_WIDTH = 322
    TILE_HEIGHT = 323
    TILES = 324
    TILE_BYTES = 325
    EXTRA = 338
    FORMAT = 339
    THUMBNAIL = 513
    THUMBNAIL_BYTES = 514
    XMP = 700
    RATING = 18246
    RATING_PERCENT = 18249
    COPYRIGHT = 33432
    IPTC = 33723
    ICC = 34675
    EXIF = 34665
    GPS = 34853
    TITLE_XP = 40091  # with four more of Windows up to SUBJECT_XP
    SUBJECT_XP = 40095
    PIXEL_WIDTH = 40962
    PIXEL_HEIGHT = 40963
    INTEROPERABILITY = 40965


class DamagedTagsError(ValueError):
    """The block has no header, or its offsets lead out of it. Never leaves this package."""


class Entry(NamedTuple):
    """One tag of a directory; `at` is its offset."""

    at: int
    kind: int
    count: int  # type: ignore[assignment]  # hides tuple.count


class Block:
    """A block that is read and patched by offset; raises DamagedTagsError where that would leave its bounds."""

    def __init__(self, content: bytes | bytearray | mmap) -> None:
        """Patching and appending need a bytearray."""
        if content[:4] not in HEADS:
            raise DamagedTagsError("no TIFF header")
        self.content = content
        self.order, self.big = "<" if content[:1] == b"I" else ">", b"+" in content[:4]
        self._number = "Q" if self.big else "I"

    def get(self, code: str, at: int) -> int:
        """The number of struct's type `code` at an offset."""
        try:
            return int(struct.unpack_from(self.order + code, self.content, at)[0])
        except (struct.error, OverflowError) as error:
            raise DamagedTagsError("ends too early") from error

    def offset(self, at: int) -> int:
        """The offset that stands at an offset."""
        return self.get(self._number, at)

    def put(self, codes: str, at: int, *values: int) -> None:
        """Write numbers of struct's types `codes` at an offset."""
        try:
            struct.pack_into(self.order + codes, self.content, at, *values)
        except struct.error as error:
            raise DamagedTagsError("ends too early") from error

    def first(self) -> "Directory":
        """The first directory."""
        return Directory(self, self.offset(8 if self.big else 4))

    def directories(self) -> "list[Directory]":
        """The directories in their chain; a chain that runs in circles or out of the block ends there."""
        found = {}
        at, entries = self.offset(8 if self.big else 4), 0
        while at and at not in found:
            found[at] = directory = Directory(self, at)
            entries += 1 + directory.count
            if entries > _MOST_ENTRIES_IN_ALL:
                raise DamagedTagsError(f"more than {_MOST_ENTRIES_IN_ALL} tags")
            try:
                at = self.offset(directory.link)
            except DamagedTagsError:
                break  # some writers leave out the last link
        return list(found.values())


class Directory(dict[int, Entry]):
    """The entries of the directory at an offset, by tag; raises DamagedTagsError as Block does."""

    def __init__(self, block: Block, at: int) -> None:
        self.block = block
        count_code, entry_code = ("Q", "HHQ8x") if block.big else ("H", "HHI4x")
        self._inline, self._inline_bytes = (12, 8) if block.big else (8, 4)  # of values in the entry itself
        start, step = at + struct.calcsize(count_code), self._inline + self._inline_bytes
        self.count = block.get(count_code, at)
        self.link = start + step * self.count
        """Where the offset of the next directory stands."""
        if self.count > _MOST_ENTRIES or self.link > len(block.content):
            raise DamagedTagsError(f"a directory of {self.count} tags")
        rows = struct.iter_unpack(block.order + entry_code, block.content[start : self.link])
        super().__init__({tag: Entry(start + i * step, kind, count) for i, (tag, kind, count) in enumerate(rows)})

    def size(self, tag: int) -> int:
        """Bytes of the values of a tag, 0 where it is not there or of a kind that nobody knows."""
        return _SIZES.get(self[tag].kind, 0) * self[tag].count if tag in self else 0

    def raw(self, tag: int, most_bytes: int = 2**31) -> bytes:
        """The bytes of the values of a tag, in the block's byte order."""
        size, block = self.size(tag), self.block
        if not 0 < size <= most_bytes:
            raise DamagedTagsError(f"tag {tag} has no readable values")
        inline = self[tag].at + self._inline
        start = inline if size <= self._inline_bytes else block.offset(inline)
        if start + size > len(block.content):
            raise DamagedTagsError(f"tag {tag} has its values outside")
        return bytes(block.content[start : start + size])

    def numbers(self, tag: int, *default: int, most_bytes: int = 2**16) -> tuple[int, ...]:
        """The values of a tag of whole numbers; `default` where the tag is not there."""
        if tag not in self:
            return default
        if self[tag].kind not in _CODES:
            raise DamagedTagsError(f"tag {tag} has no whole numbers")
        return struct.unpack(f"{self.block.order}{self[tag].count}{_CODES[self[tag].kind]}", self.raw(tag, most_bytes))

    def number(self, tag: int, default: int) -> int:
        """The first value of a tag of whole numbers."""
        return self.numbers(tag, default)[0]

    def readable(self, tags: Iterable[int], most_bytes: int = 2**31) -> dict[int, tuple[int, bytes]]:
        """Those of the tags whose values can be read, to be written elsewhere."""
        found = {}
        for tag in tags:
            with contextlib.suppress(DamagedTagsError):
                raw = self.raw(tag, most_bytes)
                found[tag] = self[tag].kind, raw
        return found

    def set_numbers(self, numbers: Mapping[int, int]) -> None:
        """Write the one whole number of each tag that is there, as its kind if that is wide enough. Not for BigTIFF."""
        for tag in numbers.keys() & self.keys():
            at, kind, _ = self[tag]
            if kind == SHORT and numbers[tag] < 2**16:
                self.block.put("HH", at + 8, numbers[tag], 0)
            else:
                self.block.put("HII", at + 2, LONG, 1, numbers[tag])


def packed(order: str, tags: Tags, at: int) -> bytes:
    """A directory that stands at offset `at`, its long values behind it, and a link to nothing. Not for BigTIFF."""
    rows, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, (kind, given) in sorted(tags.items()):
        raw = given if isinstance(given, bytes) else struct.pack(f"{order}{len(given)}{_CODES[kind]}", *given)
        rows += struct.pack(order + "HHI", tag, kind, len(raw) // _SIZES[kind])
        if len(raw) <= 4:
            rows += raw.ljust(4, b"\0")
        else:
            rows += struct.pack(order + "I", behind + len(values))
            values += raw + bytes(len(raw) % 2)
    return struct.pack(order + "H", len(tags)) + rows + bytes(4) + values
