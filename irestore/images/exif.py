"""EXIF corrected in place: only what the new pixels make untrue is changed, every other byte stays where it was.

Camera makers' notes hold offsets from the start of the block, so entries are patched where they stand, and an entry
that must be added goes into a copy of the first directory at the end of the block.
"""

import struct

from .tags import ASCII, LONG, RATIONAL, Block, DamagedTagsError, Tag, directory, numbers_tag

MARK = "irestore/"
"""How the text of a provenance tag starts."""

PROCESSING_SOFTWARE = 0x000B
ORIENTATION = 0x0112
EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY = 0x8769, 0x8825, 0xA005
_IMAGE_WIDTH, _IMAGE_HEIGHT = 0x0100, 0x0101
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
_THUMBNAIL_OFFSET, _THUMBNAIL_BYTES = 0x0201, 0x0202
_PIXEL_WIDTH, _PIXEL_HEIGHT = 0xA002, 0xA003
_CENTIMETRE = 3
BELOW = frozenset({EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY_DIRECTORY})
"""Tags that point to a further directory."""

_BIGTIFF_KINDS = 13  # and above: kinds that EXIF does not know
_MOST_BYTES = 2**20  # of one value
_EMPTY = b"II*\0\x08\0\0\0" + bytes(6)  # one directory without entries
# What an EXIF block takes over from a directory of a TIFF file: all that does not describe how pixels lie there.
_DESCRIPTIVE = {PROCESSING_SOFTWARE, 0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298, 0x4746, 0x4749}
_DESCRIPTIVE |= {_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT, *range(0x9C9B, 0x9CA0)}


def orientation(exif: bytes | None) -> int:
    """The EXIF orientation, 1..8; 1 (upright) where there is none that makes sense."""
    try:
        block = Block(exif or b"")
        entry = block.table(block.first).get(ORIENTATION)
        found = 1 if entry is None else block.number(entry)
    except DamagedTagsError:
        return 1  # a file without readable EXIF is shown as it lies
    return found if 1 <= found <= 8 else 1


def tells_resolution(exif: bytes | None) -> bool:
    """Whether an EXIF block says how many dots there are to an inch or a centimetre."""
    try:
        block = Block(exif or b"")
        return _X_RESOLUTION in block.table(block.first)
    except DamagedTagsError:
        return False


def provenance_of(exif: bytes | None) -> str | None:
    """The provenance tag that irestore left in an EXIF block, None where there is none."""
    try:
        block = Block(exif or b"")
        entry = block.table(block.first).get(PROCESSING_SOFTWARE)
        return None if entry is None else provenance_of_text(block.raw(entry))
    except DamagedTagsError:
        return None  # what cannot be read was not written by irestore


def provenance_of_text(text: bytes) -> str | None:
    """The text of a tag or comment up to its first NUL, if it is irestore's."""
    found = text.split(b"\0")[0].decode("ascii", "replace")
    return found if found.startswith(MARK) else None


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
    first = block.first
    _correct_sizes(block, first, size)
    if dpi is not None:
        _set_resolution(block, first, dpi)
    _drop_thumbnail(block, first, content)
    _set_provenance(block, first, content, provenance)
    return bytes(content)


def _correct_sizes(block: Block, first: int, size: tuple[int, int]) -> None:
    table = block.table(first)
    truths = {_IMAGE_WIDTH: size[0], _IMAGE_HEIGHT: size[1], ORIENTATION: 1}
    for tag in truths.keys() & table.keys():
        block.set_number(table[tag], truths[tag])
    if EXIF_DIRECTORY in table:
        table = block.table(block.number(table[EXIF_DIRECTORY]))
        truths = {_PIXEL_WIDTH: size[0], _PIXEL_HEIGHT: size[1]}
        for tag in truths.keys() & table.keys():
            block.set_number(table[tag], truths[tag])


def _set_resolution(block: Block, first: int, dpi: tuple[float, float]) -> None:
    table = block.table(first)
    unit = block.number(table[_RESOLUTION_UNIT]) if _RESOLUTION_UNIT in table else 2
    for tag, value in ((_X_RESOLUTION, dpi[0]), (_Y_RESOLUTION, dpi[1])):
        if tag in table and table[tag].kind == RATIONAL:
            value /= 2.54 if unit == _CENTIMETRE else 1
            block.put("II", block.get("I", table[tag].at + 8), *ratio(value))


def ratio(value: float) -> tuple[int, int]:
    """A resolution as TIFF writes it, to a thousandth."""
    return (round(value), 1) if value == round(value) else (min(round(value * 1000), 2**32 - 1), 1000)


def _drop_thumbnail(block: Block, first: int, content: bytearray) -> None:
    link = block.link(first)
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


def _set_provenance(block: Block, first: int, content: bytearray, provenance: str | None) -> None:
    rows = {entry.tag: bytes(content[entry.at : entry.at + 12]) for entry in block.entries(first)}
    old = block.table(first).get(PROCESSING_SOFTWARE)
    if provenance is None and (old is None or not provenance_of_text(block.raw(old))):
        return
    rows.pop(PROCESSING_SOFTWARE, None)
    content += bytes(len(content) % 2)
    if provenance is not None:
        text = provenance.encode("ascii", "replace") + b"\0"
        where = len(content)
        rows[PROCESSING_SOFTWARE] = struct.pack(block.order + "HHII", PROCESSING_SOFTWARE, ASCII, len(text), where)
        content += text + bytes(len(text) % 2)
    block.put("I", 4, len(content))
    content += struct.pack(block.order + "H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)


def from_tiff(block: Block, first: int) -> bytes | None:
    """The EXIF block that a directory of a TIFF file amounts to, None where it describes nothing."""
    content = bytearray((b"II*\0" if block.order == "<" else b"MM\0*") + bytes(4))
    tags = _copied(block, first, content, depth=0)
    if not tags:
        return None
    struct.pack_into(block.order + "I", content, 4, len(content))
    content += directory(block.order, tags, len(content))
    return bytes(content)


def _copied(block: Block, first: int, content: bytearray, depth: int) -> list[Tag]:
    """The tags of a directory; directories below it go into `content`. What cannot be read is left out."""
    tags: list[Tag] = []
    for entry in block.table(first).values():
        if depth == 0 and entry.tag not in _DESCRIPTIVE | BELOW:
            continue
        try:
            if entry.tag not in BELOW:
                raw = block.raw(entry)
                if len(raw) <= _MOST_BYTES and entry.kind < _BIGTIFF_KINDS:
                    tags.append((entry.tag, entry.kind, entry.count, raw))
            elif depth < len(BELOW):
                below = _copied(block, block.number(entry), content, depth + 1)
                tags.append(numbers_tag(block.order, entry.tag, LONG, len(content)))
                content += directory(block.order, below, len(content))
        except DamagedTagsError:
            continue
    return tags
