"""EXIF corrected in place: only what the new pixels make untrue is changed, every other byte stays where it was.

Camera makers' notes hold offsets from the start of the block, so entries are patched where they stand, and an entry
that must be added goes into a copy of the first directory at the end of the block.
"""

import contextlib
import struct
from collections.abc import Callable, Iterable
from typing import TypeVar

from irestore.images.tags import ASCII, LONG, RATIONAL, Block, DamagedTagsError, Entry, Table, Tags, directory

PROCESSING_SOFTWARE, ORIENTATION = 0x000B, 0x0112
BELOW = frozenset({0x8769, 0x8825, 0xA005})
"""Tags that point to a further directory: EXIF's own, GPS, interoperability."""

_MARK = "irestore/"  # how the text of a provenance tag starts
_EXIF_DIRECTORY = 0x8769
_IMAGE_WIDTH, _IMAGE_HEIGHT = 0x0100, 0x0101
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_CENTIMETRE = 3
_BIGTIFF_KINDS = 13  # and above: kinds that EXIF does not know
_MOST_BYTES, _MOST_BYTES_IN_ALL = 2**20, 2**24  # of one value of a TIFF file; of all
_EMPTY = b"II*\0\x08\0\0\0" + bytes(6)  # one directory without entries
# What an EXIF block takes over from a directory of a TIFF file: all that does not describe how pixels lie there.
_DESCRIPTIVE = {PROCESSING_SOFTWARE, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x4746, 0x4749}
_DESCRIPTIVE |= {_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, *range(0x9C9B, 0x9CA0)}
CARRIED = _DESCRIPTIVE | BELOW

T = TypeVar("T")


def _found(exif: bytes | None, tag: int, read: Callable[[Block, Entry], T]) -> T | None:
    """What `read` makes of a tag in the first directory; None where it is not there or the block is damaged."""
    try:
        block = Block(exif or b"")
        entry = block.table(block.first).get(tag)
        return None if entry is None else read(block, entry)
    except DamagedTagsError:
        return None


def orientation(exif: bytes | None) -> int:
    """The EXIF orientation, 1..8; 1 (upright) where there is none that makes sense."""
    found = _found(exif, ORIENTATION, Block.number) or 1
    return found if found <= 8 else 1


def tells_resolution(exif: bytes | None) -> bool:
    """Whether an EXIF block says how many dots there are to an inch or a centimetre."""
    return _found(exif, _X_RESOLUTION, Block.size) is not None


def provenance(version: str, models: Iterable[tuple[str, str]], tasks: Iterable[str]) -> str:
    """The text of the tag that says what made a picture, with each model's name and sha256; `probe` finds it again."""
    used = (f"model={name} weights=sha256:{sha256}" for name, sha256 in models)
    return " ".join([f"{_MARK}{version}", *used, *(f"task={task}" for task in tasks)])


def provenance_of(exif: bytes | None) -> str | None:
    """The provenance tag that irestore left in an EXIF block, None where there is none."""
    return provenance_of_text(_found(exif, PROCESSING_SOFTWARE, Block.raw) or b"")


def provenance_of_text(text: bytes) -> str | None:
    """The text of a tag or comment up to its first NUL, if it is irestore's."""
    found = text.split(b"\0")[0].decode("ascii", "replace")
    return found if found.startswith(_MARK) else None


def corrected(
    exif: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None, provenance: str | None
) -> bytes | None:
    """EXIF for upright pixels of `size` (width, height): size and dpi true, no thumbnail, provenance as given.

    Returns None where nothing is to be said. Raises DamagedTagsError for a block that cannot be read.
    """
    if exif is None and provenance is None:
        return None
    content = bytearray(exif or _EMPTY)
    block = Block(content)
    if block.big:
        raise DamagedTagsError("EXIF is never BigTIFF")
    table = block.table(block.first)
    _set_numbers(block, table, {_IMAGE_WIDTH: size[0], _IMAGE_HEIGHT: size[1], ORIENTATION: 1})
    if _EXIF_DIRECTORY in table:
        camera = block.table(block.number(table[_EXIF_DIRECTORY]))
        _set_numbers(block, camera, {_PIXEL_WIDTH: size[0], _PIXEL_HEIGHT: size[1]})
    if dpi is not None:
        _set_resolution(block, table, dpi)
    _drop_thumbnail(block, content)
    _set_provenance(block, table, content, provenance)
    return bytes(content)


def _set_numbers(block: Block, table: Table, truths: dict[int, int]) -> None:
    for tag in truths.keys() & table.keys():
        block.set_number(table[tag], truths[tag])


def _set_resolution(block: Block, table: Table, dpi: tuple[float, float]) -> None:
    unit = block.number(table[_RESOLUTION_UNIT]) if _RESOLUTION_UNIT in table else 2
    for tag, value in ((_X_RESOLUTION, dpi[0]), (_Y_RESOLUTION, dpi[1])):
        if tag in table and table[tag].kind == RATIONAL:
            value /= 2.54 if unit == _CENTIMETRE else 1
            block.put("II", block.get("I", table[tag].at + 8), *ratio(value))


def ratio(value: float) -> tuple[int, int]:
    """A resolution as TIFF writes it, to a thousandth."""
    return (round(value), 1) if value == round(value) else (min(round(value * 1000), 2**32 - 1), 1000)


def _drop_thumbnail(block: Block, content: bytearray) -> None:
    link = block.link(block.first)
    if link + 4 > len(content) or not (second := block.get("I", link)):
        return  # some writers leave out the last link
    block.put("I", link, 0)
    table = block.table(second)
    if _THUMBNAIL_OFFSET not in table or _THUMBNAIL_BYTES not in table:
        return
    start = block.number(table[_THUMBNAIL_OFFSET])
    end = min(start + block.number(table[_THUMBNAIL_BYTES]), len(content))
    if start < 8:
        return
    if end == len(content):
        del content[start:]
    else:
        content[start:end] = bytes(max(end - start, 0))


def _set_provenance(block: Block, table: Table, content: bytearray, provenance: str | None) -> None:
    old = table.get(PROCESSING_SOFTWARE)
    if provenance is None and (old is None or not provenance_of_text(block.raw(old))):
        return
    rows = {tag: bytes(content[entry.at : entry.at + 12]) for tag, entry in table.items()}
    rows.pop(PROCESSING_SOFTWARE, None)
    content += bytes(len(content) % 2)
    if provenance is not None:
        text = provenance.encode("ascii", "replace") + b"\0"
        where = len(content)
        rows[PROCESSING_SOFTWARE] = struct.pack(block.order + "HHII", PROCESSING_SOFTWARE, ASCII, len(text), where)
        content += text + bytes(len(text) % 2)
    block.put("I", 4, len(content))
    content += struct.pack(block.order + "H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)


def from_tiff(block: Block, table: Table) -> bytes | None:
    """The EXIF block that a directory of a TIFF file amounts to, None where it describes nothing."""
    content = bytearray((b"II*\0" if block.order == "<" else b"MM\0*") + bytes(4))
    chosen = {tag: entry for tag, entry in table.items() if tag in CARRIED}
    tags = _copied(block, chosen, content, depth=0)
    if not tags:
        return None
    struct.pack_into(block.order + "I", content, 4, len(content))
    return bytes(content) + directory(block.order, tags, len(content))


def _copied(block: Block, table: Table, content: bytearray, depth: int) -> Tags:
    """The tags of a directory; directories below it go into `content`. What cannot be read is left out."""
    left = _MOST_BYTES_IN_ALL - len(content)
    fitting = []
    for entry in table.values():
        size = block.size(entry)
        if entry.tag not in BELOW and entry.kind < _BIGTIFF_KINDS and size <= min(_MOST_BYTES, left):
            fitting.append(entry)
            left -= size
    tags = block.readable(fitting)
    for tag in BELOW & table.keys() if depth < len(BELOW) else ():
        with contextlib.suppress(DamagedTagsError):
            below = _copied(block, block.table(block.number(table[tag])), content, depth + 1)
            tags[tag] = LONG, (len(content),)
            content += directory(block.order, below, len(content))
    return tags
