"""EXIF corrected in place: only what the new pixels make untrue is changed, every other byte stays where it was.

An EXIF block is a small TIFF file. Camera makers' notes hold offsets from its start, so entries are patched where they
stand, and an entry that must be added goes into a copy of the first directory at the end of the block.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MARK = "irestore/"
"""How the text of a provenance tag starts."""

_PROCESSING_SOFTWARE = 0x000B
_IMAGE_WIDTH, _IMAGE_HEIGHT = 0x0100, 0x0101
_ORIENTATION = 0x0112
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_EXIF_DIRECTORY = 0x8769
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_ASCII, _SHORT, _LONG, _RATIONAL = 2, 3, 4, 5
_CENTIMETRE = 3
_EMPTY = b"II*\0\x08\0\0\0" + bytes(6)  # one directory without entries


class DamagedExifError(ValueError):
    """The block is not EXIF, or its offsets lead out of it. Never leaves this package."""


@dataclass(frozen=True)
class _Entry:
    at: int  # offset of the 12 bytes
    tag: int
    kind: int
    count: int


class _Block:
    """An EXIF block that can be read and patched by offset; raises DamagedExifError instead of leaving its bounds."""

    def __init__(self, content: bytes) -> None:
        self.content = bytearray(content)
        orders = {b"II*\0": "<", b"MM\0*": ">"}
        if content[:4] not in orders:
            raise DamagedExifError("no EXIF header")
        self.order = orders[content[:4]]

    def get(self, code: str, at: int) -> int:
        try:
            return int(struct.unpack_from(self.order + code, self.content, at)[0])
        except struct.error as error:
            raise DamagedExifError("EXIF ends too early") from error

    def put(self, code: str, at: int, *values: int) -> None:
        try:
            struct.pack_into(self.order + code, self.content, at, *values)
        except struct.error as error:
            raise DamagedExifError("EXIF ends too early") from error

    def entries(self, directory: int) -> Iterator[_Entry]:
        for i in range(self.get("H", directory)):
            at = directory + 2 + 12 * i
            yield _Entry(at, self.get("H", at), self.get("H", at + 2), self.get("I", at + 4))

    def value(self, entry: _Entry) -> int:
        """The single whole number of an entry."""
        return self.get("H" if entry.kind == _SHORT else "I", entry.at + 8)

    def set_value(self, entry: _Entry, value: int) -> None:
        """Write a single whole number, as the entry's own type where that is wide enough."""
        if entry.kind == _SHORT and value < 2**16:
            self.put("HH", entry.at + 8, value, 0)
        else:
            self.put("HII", entry.at + 2, _LONG, 1, value)

    def text(self, entry: _Entry) -> str:
        start = entry.at + 8 if entry.count <= 4 else self.get("I", entry.at + 8)
        return bytes(self.content[start : start + entry.count]).split(b"\0")[0].decode("utf-8", "replace")


def orientation(exif: bytes | None) -> int:
    """The EXIF orientation, 1..8; 1 (upright) where there is none that makes sense."""
    try:
        block = _Block(exif or b"")
        for entry in block.entries(block.get("I", 4)):
            if entry.tag == _ORIENTATION:
                return found if (found := block.value(entry)) in range(1, 9) else 1
    except DamagedExifError:
        pass  # a file without readable EXIF is upright
    return 1


def provenance_of(exif: bytes | None) -> str | None:
    """The provenance tag that irestore left in an EXIF block, None where there is none."""
    try:
        block = _Block(exif or b"")
        for entry in block.entries(block.get("I", 4)):
            if entry.tag == _PROCESSING_SOFTWARE and (text := block.text(entry)).startswith(MARK):
                return text
    except DamagedExifError:
        pass  # what cannot be read was not written by irestore
    return None


def corrected(
    exif: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None, provenance: str | None
) -> bytes | None:
    """EXIF for upright pixels of `size` (width, height): size and dpi true, no thumbnail, provenance as given.

    Returns None where nothing is to be said. Raises DamagedExifError for a block that cannot be read.
    """
    if exif is None and provenance is None:
        return None
    block = _Block(exif or _EMPTY)
    directory = block.get("I", 4)
    width, height = size
    truths = {_IMAGE_WIDTH: width, _IMAGE_HEIGHT: height, _ORIENTATION: 1}
    unit = 2
    for entry in block.entries(directory):
        if entry.tag in truths:
            block.set_value(entry, truths[entry.tag])
        elif entry.tag == _RESOLUTION_UNIT:
            unit = block.value(entry)
        elif entry.tag == _EXIF_DIRECTORY:
            _correct_size(block, block.value(entry), width, height)
    if dpi is not None:
        _set_resolution(block, directory, dpi, unit)
    _drop_thumbnail(block, directory)
    _set_provenance(block, directory, provenance)
    return bytes(block.content)


def _correct_size(block: _Block, directory: int, width: int, height: int) -> None:
    for entry in block.entries(directory):
        if entry.tag in (_PIXEL_WIDTH, _PIXEL_HEIGHT):
            block.set_value(entry, width if entry.tag == _PIXEL_WIDTH else height)


def _set_resolution(block: _Block, directory: int, dpi: tuple[float, float], unit: int) -> None:
    per_unit = 2.54 if unit == _CENTIMETRE else 1.0
    for entry in block.entries(directory):
        if entry.tag in (_X_RESOLUTION, _Y_RESOLUTION) and entry.kind == _RATIONAL:
            value = dpi[entry.tag == _Y_RESOLUTION] / per_unit
            block.put("II", block.get("I", entry.at + 8), min(round(value * 1000), 2**32 - 1), 1000)


def _drop_thumbnail(block: _Block, directory: int) -> None:
    link = directory + 2 + 12 * block.get("H", directory)
    if link + 4 > len(block.content) or not (second := block.get("I", link)):
        return  # some writers leave out the last link
    block.put("I", link, 0)
    found = {entry.tag: block.value(entry) for entry in block.entries(second)}
    start = found.get(_THUMBNAIL_OFFSET, 0)
    end = min(start + found.get(_THUMBNAIL_BYTES, 0), len(block.content))
    if not 8 <= start < end:
        return
    if end == len(block.content):
        del block.content[start:]
    else:
        block.content[start:end] = bytes(end - start)


def _set_provenance(block: _Block, directory: int, provenance: str | None) -> None:
    entries = list(block.entries(directory))
    old = [e for e in entries if e.tag == _PROCESSING_SOFTWARE]
    if provenance is None and not any(block.text(entry).startswith(MARK) for entry in old):
        return
    kept = [(e.tag, bytes(block.content[e.at : e.at + 12])) for e in entries if e not in old]
    block.content += bytes(len(block.content) % 2)
    if provenance is not None:
        text = provenance.encode() + b"\0"
        head = struct.pack(block.order + "HHII", _PROCESSING_SOFTWARE, _ASCII, len(text), len(block.content))
        kept.append((_PROCESSING_SOFTWARE, head))
        block.content += text + bytes(len(text) % 2)
    block.put("I", 4, len(block.content))
    block.content += struct.pack(block.order + "H", len(kept)) + b"".join(raw for _, raw in sorted(kept)) + bytes(4)
