"""TIFF at 8 or 16 bits a sample, deflated, one or more pages.

An EXIF block is a TIFF file without a picture, so the file starts with that block as it is: whatever its offsets point
to, makers' notes too, stays in place. The pages follow, the first with all tags of the block's first directory.
"""

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO

from irestore.errors import WriteError
from irestore.images.exif import BELOW, ORIENTATION, ratio
from irestore.images.picture import Metadata
from irestore.images.samples import Raster, Samples
from irestore.images.tags import LONG, RATIONAL, SHORT, UNDEFINED, Block, Tags, directory

_EMPTY = b"II*\0\x08\0\0\0"
_STRIP_BYTES = 2**20  # before compression
_LEVEL = 6  # zlib's
_DEFLATE, _DIFFERENCES, _INCH, _ALPHA, _MULTIPAGE = 8, 2, 2, 2, 2
_BYTE = 1
_STRUCTURE = {254, 256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339}


def write(rasters: Iterable[Raster], stream: BinaryIO) -> None:
    """Write pages, one in memory at a time, into an empty stream; raises WriteError over 4 GiB."""
    link = 4  # where the offset of the next directory is to be written
    order = "<"
    for number, raster in enumerate(rasters):
        if number == 0:
            start = raster.metadata.exif or _EMPTY
            order = Block(start).order
            stream.write(start)
        tags = _described(raster.metadata, order, number == 0) | _pixels(raster.samples, stream, order)
        if number:
            tags[254] = LONG, (_MULTIPAGE,)
        at = _even(stream)
        table = directory(order, tags, at)
        if at + len(table) >= 2**32:
            raise WriteError("the picture is larger than the 4 GiB that TIFF can hold; choose png")
        stream.write(table)
        stream.seek(link)
        stream.write(struct.pack(order + "I", at))
        stream.seek(0, 2)
        link = at + 2 + 12 * len(tags)


def _even(stream: BinaryIO) -> int:
    """Offset of the end of the stream, made even."""
    at = stream.seek(0, 2)
    stream.write(bytes(at % 2))
    return at + at % 2


def _pixels(samples: Samples, stream: BinaryIO, order: str) -> Tags:
    """Writes the strips and returns the tags that describe them."""
    height, width = samples.shape[:2]
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    rows = max(_STRIP_BYTES // (width * channels * samples.itemsize), 1)
    offsets, sizes = [], []
    for top in range(0, height, rows):
        strip = samples[top : top + rows].reshape(-1, width, channels)
        differences = strip.copy()
        differences[:, 1:] -= strip[:, :-1]
        packed = zlib.compress(differences.astype(f"{order}u{samples.itemsize}").tobytes(), _LEVEL)
        offsets.append(_even(stream))
        sizes.append(len(packed))
        stream.write(packed)
    if offsets[-1] + sizes[-1] >= 2**32:
        raise WriteError("the picture is larger than the 4 GiB that TIFF can hold; choose png")
    tags: Tags = {
        **{256: (LONG, (width,)), 257: (LONG, (height,)), 258: (SHORT, [8 * samples.itemsize] * channels)},
        **{259: (SHORT, (_DEFLATE,)), 262: (SHORT, (2 if channels > 2 else 1,)), 273: (LONG, offsets)},
        **{277: (SHORT, (channels,)), 278: (LONG, (rows,)), 279: (LONG, sizes), 284: (SHORT, (1,))},
        317: (SHORT, (_DIFFERENCES,)),
    }
    return tags | ({338: (SHORT, (_ALPHA,))} if channels in (2, 4) else {})


def _described(metadata: Metadata, order: str, first: bool) -> Tags:
    """The tags that do not describe how pixels lie."""
    tags = _exif_tags(metadata.exif, order, first) if metadata.exif else {}
    tags[ORIENTATION] = SHORT, (1,)
    if metadata.dpi is not None:
        for tag, value in ((282, metadata.dpi[0]), (283, metadata.dpi[1])):
            tags[tag] = RATIONAL, struct.pack(order + "II", *ratio(value))
        tags[296] = SHORT, (_INCH,)
    for tag, kind, raw in (
        (700, _BYTE, metadata.xmp),
        (33723, UNDEFINED, metadata.iptc),
        (34675, UNDEFINED, metadata.icc),
    ):
        if raw:
            tags[tag] = kind, raw
    return tags


def _exif_tags(exif: bytes, order: str, first: bool) -> Tags:
    """The tags of an EXIF block's first directory; those that point into the block for the first page only."""
    block = Block(exif)
    unwanted = _STRUCTURE if first else _STRUCTURE | BELOW
    entries = block.table(block.first).values() if block.order == order else ()
    return block.readable(entry for entry in entries if entry.tag not in unwanted)
