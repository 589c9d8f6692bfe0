"""TIFF directories, byte by byte: the structure that TIFF files and EXIF blocks share.

A block starts with its byte order and the offset of its first directory. A directory is a count, that many entries of
(tag, kind, count, value or the offset of the values), and the offset of the next directory. BigTIFF has wider numbers.
"""

import contextlib
import struct
from collections.abc import Iterable, Sequence
from mmap import mmap
from typing import NamedTuple

SHORT, LONG, RATIONAL, ASCII, UNDEFINED = 3, 4, 5, 2, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
HEADS = tuple(_HEADS)
_MOST_ENTRIES, _MOST_ENTRIES_IN_ALL = 4096, 2**18  # of one directory; of a whole chain, which takes half a second


class DamagedTagsError(ValueError):
    """The block has no header, or its offsets lead out of it. Never leaves this package."""


class Entry(NamedTuple):
    """One tag of a directory."""

    at: int  # offset of the entry
    tag: int
    kind: int
    count: int  # type: ignore[assignment]  # hides tuple.count


Table = dict[int, Entry]
"""A directory: its entries by tag."""


Tags = dict[int, tuple[int, bytes | Sequence[int]]]
"""What to write: (kind, values) of each tag; whole numbers, or the bytes of any values."""


class Block:
    """A block that is read and patched by offset; raises DamagedTagsError where that would leave its bounds."""

    def __init__(self, content: bytes | bytearray | mmap) -> None:
        """Patching and appending need a bytearray."""
        if bytes(content[:4]) not in _HEADS:
            raise DamagedTagsError("no TIFF header")
        self.content = content
        self.order, self.big = _HEADS[bytes(content[:4])]
        # struct's types of an offset, of a directory's count, of an entry with its value left out
        self._number, self._count, self._entry = ("Q", "Q", "HHQ8x") if self.big else ("I", "H", "HHI4x")
        self._entry_bytes, self._value_bytes = (20, 8) if self.big else (12, 4)

    @property
    def first(self) -> int:
        """Offset of the first directory."""
        return self.get(self._number, 8 if self.big else 4)

    def get(self, code: str, at: int) -> int:
        """The number of struct's type `code` at an offset."""
        try:
            return int(struct.unpack_from(self.order + code, self.content, at)[0])
        except (struct.error, OverflowError) as error:
            raise DamagedTagsError("ends too early") from error

    def put(self, codes: str, at: int, *values: int) -> None:
        """Write numbers of struct's types `codes` at an offset."""
        try:
            struct.pack_into(self.order + codes, self.content, at, *values)
        except struct.error as error:
            raise DamagedTagsError("ends too early") from error

    def table(self, directory: int) -> Table:
        """The directory at an offset."""
        end = self.link(directory)
        start = directory + struct.calcsize("=" + self._count)
        if end > len(self.content):
            raise DamagedTagsError("ends too early")
        rows = struct.iter_unpack(self.order + self._entry, self.content[start:end])
        return {row[0]: Entry(at, *row) for at, row in zip(range(start, end, self._entry_bytes), rows, strict=True)}

    def link(self, directory: int) -> int:
        """Where the offset of the next directory stands."""
        count = self.get(self._count, directory)
        if count > _MOST_ENTRIES:
            raise DamagedTagsError(f"a directory of {count} tags")
        return directory + struct.calcsize("=" + self._count) + self._entry_bytes * count

    def directories(self) -> list[Table]:
        """The directories in their chain; a chain that runs in circles or out of the block ends there."""
        found: dict[int, Table] = {}
        at, entries = self.first, 0
        while at and at not in found:
            found[at] = self.table(at)
            link = self.link(at)
            entries += 1 + (link - at) // self._entry_bytes
            if entries > _MOST_ENTRIES_IN_ALL:
                raise DamagedTagsError(f"more than {_MOST_ENTRIES_IN_ALL} tags")
            try:
                at = self.get(self._number, link)
            except DamagedTagsError:
                break  # some writers leave out the last link
        return list(found.values())

    def size(self, entry: Entry) -> int:
        """Bytes of the values of an entry, 0 for a kind that nobody knows."""
        return _SIZES.get(entry.kind, 0) * entry.count

    def raw(self, entry: Entry, most_bytes: int = 2**31) -> bytes:
        """The bytes of the values of an entry, in the block's byte order."""
        size = self.size(entry)
        inline = entry.at + self._entry_bytes - self._value_bytes
        start = inline if size <= self._value_bytes else self.get(self._number, inline)
        if not 0 < size <= most_bytes or start + size > len(self.content):
            raise DamagedTagsError(f"tag {entry.tag} has no readable values")
        return bytes(self.content[start : start + size])

    def readable(self, entries: Iterable[Entry]) -> Tags:
        """The entries whose values can be read, to be written elsewhere."""
        tags: Tags = {}
        for entry in entries:
            with contextlib.suppress(DamagedTagsError):
                tags[entry.tag] = entry.kind, self.raw(entry)
        return tags

    def numbers(self, entry: Entry, most_bytes: int = 2**16) -> tuple[int, ...]:
        """The values of an entry of whole numbers."""
        if entry.kind not in _CODES:
            raise DamagedTagsError(f"tag {entry.tag} has no whole numbers")
        return struct.unpack(f"{self.order}{entry.count}{_CODES[entry.kind]}", self.raw(entry, most_bytes))

    def number(self, entry: Entry) -> int:
        """The first value of an entry of whole numbers."""
        return self.numbers(entry)[0]

    def set_number(self, entry: Entry, value: int) -> None:
        """Write a single whole number, as the entry's own type where that is wide enough. Not for BigTIFF."""
        if entry.kind == SHORT and value < 2**16:
            self.put("HH", entry.at + 8, value, 0)
        else:
            self.put("HII", entry.at + 2, LONG, 1, value)


def directory(order: str, tags: Tags, at: int) -> bytes:
    """A directory that stands at offset `at`, its long values behind it, and a link to nothing. Not for BigTIFF."""
    rows, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, (kind, given) in sorted(tags.items()):
        raw = given if isinstance(given, bytes) else struct.pack(f"{order}{len(given)}{_CODES[kind]}", *given)
        head = struct.pack(order + "HHI", tag, kind, len(raw) // _SIZES[kind])
        if len(raw) <= 4:
            rows += head + raw.ljust(4, b"\0")
        else:
            rows += head + struct.pack(order + "I", behind + len(values))
            values += raw + bytes(len(raw) % 2)
    return struct.pack(order + "H", len(tags)) + rows + bytes(4) + values
