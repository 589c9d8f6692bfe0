"""TIFF directories, byte by byte: the structure that TIFF files and EXIF blocks share.

A block starts with its byte order and the offset of its first directory. A directory is a count, that many entries of
(tag, kind, count, value or the offset of the values), and the offset of the next directory. BigTIFF has wider numbers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from mmap import mmap

SHORT, LONG, RATIONAL, ASCII, UNDEFINED = 3, 4, 5, 2, 7
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_HEADS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
_MOST_DIRECTORIES = 65_536


class DamagedTagsError(ValueError):
    """The block has no header, or its offsets lead out of it. Never leaves this package."""


@dataclass(frozen=True)
class Entry:
    """One tag of a directory."""

    at: int  # offset of the entry
    tag: int
    kind: int
    count: int


class Block:
    """A block that is read and patched by offset; raises DamagedTagsError where that would leave its bounds."""

    def __init__(self, content: bytes | bytearray | mmap) -> None:
        """Patching and appending need a bytearray."""
        if bytes(content[:4]) not in _HEADS:
            raise DamagedTagsError("no TIFF header")
        self.content = content
        self.order, self.big = _HEADS[bytes(content[:4])]
        self._number, self._entry_count = ("Q", "Q") if self.big else ("I", "H")
        self._entry_bytes = 20 if self.big else 12
        self._inline = 8 if self.big else 4  # bytes of values that fit into an entry

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

    def entries(self, directory: int) -> Iterator[Entry]:
        """The entries of the directory at an offset, in the order of the file."""
        start = directory + struct.calcsize("=" + self._entry_count)
        for at in range(start, self.link(directory), self._entry_bytes):
            yield Entry(at, self.get("H", at), self.get("H", at + 2), self.get(self._number, at + 4))

    def table(self, directory: int) -> dict[int, Entry]:
        """The entries by tag."""
        return {entry.tag: entry for entry in self.entries(directory)}

    def link(self, directory: int) -> int:
        """Where the offset of the next directory stands."""
        count = self.get(self._entry_count, directory)
        return directory + struct.calcsize("=" + self._entry_count) + self._entry_bytes * count

    def directories(self) -> list[int]:
        """Offsets of the directories in their chain; a chain that runs in circles or out of the block ends there."""
        found: dict[int, None] = {}  # as an ordered set
        at = self.first
        while at and at not in found and len(found) < _MOST_DIRECTORIES:
            found[at] = None
            try:
                at = self.get(self._number, self.link(at))
            except DamagedTagsError:
                break  # some writers leave out the last link
        return list(found)

    def raw(self, entry: Entry) -> bytes:
        """The bytes of the values of an entry, in the block's byte order."""
        size = _SIZES.get(entry.kind, 0) * entry.count
        inline = entry.at + self._entry_bytes - self._inline
        start = inline if size <= self._inline else self.get(self._number, inline)
        if size == 0 or start + size > len(self.content):
            raise DamagedTagsError(f"tag {entry.tag} has no readable values")
        return bytes(self.content[start : start + size])

    def numbers(self, entry: Entry) -> tuple[int, ...]:
        """The values of an entry of whole numbers."""
        if entry.kind not in _CODES:
            raise DamagedTagsError(f"tag {entry.tag} has no whole numbers")
        return struct.unpack(f"{self.order}{entry.count}{_CODES[entry.kind]}", self.raw(entry))

    def number(self, entry: Entry) -> int:
        """The first value of an entry of whole numbers."""
        return self.numbers(entry)[0]

    def set_number(self, entry: Entry, value: int) -> None:
        """Write a single whole number, as the entry's own type where that is wide enough. Not for BigTIFF."""
        if entry.kind == SHORT and value < 2**16:
            self.put("HH", entry.at + 8, value, 0)
        else:
            self.put("HII", entry.at + 2, LONG, 1, value)


Tag = tuple[int, int, int, bytes]
"""A tag to be written: (tag, kind, count, bytes of the values)."""


def numbers_tag(order: str, tag: int, kind: int, *values: int) -> Tag:
    """A tag of whole numbers of kind SHORT or LONG."""
    return tag, kind, len(values), struct.pack(f"{order}{len(values)}{_CODES[kind]}", *values)


def directory(order: str, tags: list[Tag], at: int) -> bytes:
    """A directory that stands at offset `at`, its long values behind it, and a link to nothing. Not for BigTIFF."""
    rows, values = b"", b""
    behind = at + 2 + 12 * len(tags) + 4
    for tag, kind, count, raw in sorted(tags):
        head = struct.pack(order + "HHI", tag, kind, count)
        if len(raw) <= 4:
            rows += head + raw.ljust(4, b"\0")
        else:
            rows += head + struct.pack(order + "I", behind + len(values))
            values += raw + bytes(len(raw) % 2)
    return struct.pack(order + "H", len(tags)) + rows + bytes(4) + values
