"""EXIF and XMP corrected in place: only what the new pixels make untrue is changed, every other byte stays as it was.

Camera makers' notes hold offsets from the start of the EXIF block, so entries are patched where they stand, and an
entry that must be added goes into a copy of the first directory at the end of the block.
"""

import contextlib
import re
import struct
from collections.abc import Iterable, Set

from irestore.images.tags import ASCII, LONG, RATIONAL, Block, DamagedTagsError, Directory, Tag, Tags, packed

EMPTY = b"II*\0\x08\0\0\0" + bytes(6)
"""An EXIF block of one directory without entries."""
BELOW = frozenset({Tag.EXIF, Tag.GPS, Tag.INTEROPERABILITY})
"""Tags that point to a further directory."""

_MARK = "irestore/"  # how the text of a provenance tag starts
_INCH, _PER_INCH = 2, {2: 1.0, 3: 2.54}
_BIGTIFF_KINDS = 13  # and above: kinds that EXIF does not know
_MOST_BYTES = 2**24  # taken over from one directory of a TIFF file
# What an EXIF block takes over from a directory of a TIFF file: all that does not describe how pixels lie there.
_DESCRIPTIVE = {
    Tag.PROCESSING_SOFTWARE, Tag.DESCRIPTION, Tag.MAKE, Tag.MODEL, Tag.SOFTWARE, Tag.DATE, Tag.ARTIST, Tag.HOST,
    Tag.COPYRIGHT, Tag.RATING, Tag.RATING_PERCENT, *range(Tag.TITLE_XP, Tag.SUBJECT_XP + 1),
}  # fmt: skip
CARRIED = _DESCRIPTIVE | {Tag.X_RESOLUTION, Tag.Y_RESOLUTION, Tag.RESOLUTION_UNIT} | BELOW


def orientation(exif: bytes | None) -> int:
    """The EXIF orientation, 1..8; 1 (upright) where there is none that makes sense."""
    with contextlib.suppress(DamagedTagsError):
        found = Block(exif or EMPTY).first().number(Tag.ORIENTATION, 1)
        return found if 1 <= found <= 8 else 1
    return 1


def resolution(exif: bytes | None) -> tuple[float, float] | None:
    """Dots per inch (x, y) as an EXIF block says, None where it does not, or nothing that makes sense."""
    with contextlib.suppress(DamagedTagsError, ZeroDivisionError, struct.error):
        first = Block(exif or EMPTY).first()
        per_inch = _PER_INCH.get(first.number(Tag.RESOLUTION_UNIT, _INCH), 0)
        code = first.block.order + "II"
        pairs = [struct.unpack(code, first.raw(tag)) for tag in (Tag.X_RESOLUTION, Tag.Y_RESOLUTION)]
        return sensible(*(above / below * per_inch for above, below in pairs))
    return None


def sensible(x: float, y: float) -> tuple[float, float] | None:
    """A resolution in dots per inch, None if it cannot be meant: a damaged file's zeros, NaN, or giant numbers."""
    return (x, y) if 1 <= x < 1e6 and 1 <= y < 1e6 else None


def provenance(version: str, models: Iterable[tuple[str, str]], tasks: Iterable[str]) -> str:
    """The text of the tag that says what made a picture, with each model's name and sha256; `probe` finds it again."""
    used = (f"model={name} weights=sha256:{sha256}" for name, sha256 in models)
    return " ".join([f"{_MARK}{version}", *used, *(f"task={task}" for task in tasks)])


def provenance_of(exif: bytes | None) -> str | None:
    """The provenance tag that irestore left in an EXIF block, None where there is none."""
    with contextlib.suppress(DamagedTagsError):
        return provenance_of_text(Block(exif or EMPTY).first().raw(Tag.PROCESSING_SOFTWARE))
    return None


def provenance_of_text(text: bytes) -> str | None:
    """The text of a tag or comment up to its first NUL, if it is irestore's."""
    found = text.split(b"\0")[0].decode("ascii", "replace")
    return found if found.startswith(_MARK) else None


def corrected_xmp(xmp: bytes, width: int, height: int) -> bytes:
    """The packet, byte for byte except for the numbers that upright pixels of this size make untrue."""
    truths = {rb"tiff:ImageWidth": width, rb"tiff:ImageLength": height, rb"tiff:Orientation": 1}
    truths |= {rb"exif:PixelXDimension": width, rb"exif:PixelYDimension": height}
    for name, value in truths.items():
        xmp = re.sub(rb"(" + name + rb"\s*(?:=\s*[\"']|>)\s*)\d+", rb"\g<1>%d" % value, xmp)
    return xmp


def corrected(
    exif: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None, provenance: str | None
) -> bytes | None:
    """EXIF for upright pixels of `size` (width, height): size and dpi true, no thumbnail, provenance as given.

    Returns None where nothing is to be said. Raises DamagedTagsError for a block that cannot be read.
    """
    if exif is None and provenance is None:
        return None
    content = bytearray(exif or EMPTY)
    block = Block(content)
    if block.big:
        raise DamagedTagsError("EXIF is never BigTIFF")
    first = block.first()
    first.set_numbers({Tag.WIDTH: size[0], Tag.HEIGHT: size[1], Tag.ORIENTATION: 1})
    if Tag.EXIF in first:
        camera = Directory(block, first.number(Tag.EXIF, 0))
        camera.set_numbers({Tag.PIXEL_WIDTH: size[0], Tag.PIXEL_HEIGHT: size[1]})
    per_inch = _PER_INCH.get(first.number(Tag.RESOLUTION_UNIT, _INCH), 1)
    for tag, value in zip((Tag.X_RESOLUTION, Tag.Y_RESOLUTION), dpi or (), strict=False):
        if tag in first and first[tag].kind == RATIONAL:
            block.put("II", block.offset(first[tag].at + 8), *ratio(value / per_inch))
    _drop_thumbnail(first, content)
    _set_provenance(first, content, provenance)
    return bytes(content)


def ratio(value: float) -> tuple[int, int]:
    """A resolution as TIFF writes it, to a thousandth."""
    return (round(value), 1) if value == round(value) else (min(round(value * 1000), 2**32 - 1), 1000)


def _drop_thumbnail(first: Directory, content: bytearray) -> None:
    block = first.block
    if first.link + 4 > len(content) or not (second := block.offset(first.link)):
        return  # some writers leave out the last link
    block.put("I", first.link, 0)
    thumbnail = Directory(block, second)
    start = thumbnail.number(Tag.THUMBNAIL, 0)
    end = min(start + thumbnail.number(Tag.THUMBNAIL_BYTES, 0), len(content))
    if end == len(content) > start >= 8:
        del content[start:]
    elif end > start >= 8:
        content[start:end] = bytes(end - start)


def _set_provenance(first: Directory, content: bytearray, provenance: str | None) -> None:
    order = first.block.order
    if provenance is None and provenance_of(bytes(content)) is None:
        return
    rows = {tag: bytes(content[entry.at : entry.at + 12]) for tag, entry in first.items()}
    rows.pop(Tag.PROCESSING_SOFTWARE, None)
    content += bytes(len(content) % 2)
    if provenance is not None:
        text = provenance.encode("ascii", "replace") + b"\0"
        rows[Tag.PROCESSING_SOFTWARE] = struct.pack(
            order + "HHII", Tag.PROCESSING_SOFTWARE, ASCII, len(text), len(content)
        )
        content += text + bytes(len(text) % 2)
    first.block.put("I", 4, len(content))
    content += struct.pack(order + "H", len(rows)) + b"".join(rows[tag] for tag in sorted(rows)) + bytes(4)


def from_tiff(directory: Directory) -> bytes | None:
    """The EXIF block that a directory of a TIFF file amounts to, None where it describes nothing."""
    order = directory.block.order
    content = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    tags = _copied(directory, content, CARRIED & directory.keys(), depth=2)
    if not tags:
        return None
    struct.pack_into(order + "I", content, 4, len(content))
    return bytes(content) + packed(order, tags, len(content))


def _copied(directory: Directory, content: bytearray, chosen: Set[int], depth: int) -> Tags:
    """The chosen tags; directories below them go into `content`. What cannot be read, or is too large, is left out."""
    plain = [tag for tag in chosen - BELOW if directory[tag].kind < _BIGTIFF_KINDS]
    tags: Tags = {**directory.readable(plain, _MOST_BYTES // max(len(plain), 1))}
    for tag in chosen & BELOW if depth else ():
        with contextlib.suppress(DamagedTagsError):
            below = Directory(directory.block, directory.number(tag, 0))
            copies = _copied(below, content, below.keys(), depth - 1)
            tags[tag] = LONG, (len(content),)
            content += packed(directory.block.order, copies, len(content))
    return tags
