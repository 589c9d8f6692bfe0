"""A TIFF file: pages, tags read directly, pixels through Pillow or, at 16 bits, through `tiff16`."""

import mmap
import struct
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from ..errors import ReadError
from .border import open_image, wider
from .decode import decode
from .exif import ORIENTATION, from_tiff, provenance_of
from .picture import Metadata, Picture
from .pillow_file import picture
from .tags import RATIONAL, Block, DamagedTagsError
from .tiff16 import MOST_PIXEL_BYTES, Tiff16

_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _CHANNELS, _EXTRA = 254, 256, 257, 258, 259, 277, 338
_TWELVE = 12  # bits a sample, which Pillow gives as they are in 16
_X_RESOLUTION, _Y_RESOLUTION, _RESOLUTION_UNIT = 282, 283, 296
_XMP, _IPTC, _ICC = 700, 33723, 34675
_REDUCED = 1  # bit of the subfile tag: a smaller copy of another page
_PER_INCH = {2: 1.0, 3: 2.54}


class TiffFile:
    """One open file. Use it inside `foreign`: any method may raise whatever Pillow raises."""

    format = "tiff"

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        self._stream, self._name, self._notes = stream, name, notes
        self._block = Block(_content(stream))
        pages = [(i, first) for i, first in enumerate(self._block.directories())]
        self._pages = [page for page in pages if not self._number(page[1], _SUBFILE, 0) & _REDUCED] or pages
        self._image: ImageFile.ImageFile | None = None

    def close(self) -> None:
        """Frees the decoder; the stream stays open."""
        if self._image is not None:
            self._image.close()
        if isinstance(self._block.content, mmap.mmap):
            self._block.content.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the first page in pixels, upright."""
        return self._size(self._pages[0][1])

    @property
    def frames(self) -> int:
        """Pages, not counting smaller copies of them."""
        return len(self._pages)

    @property
    def depth(self) -> int:
        """Bits a sample of the first page, 8 or 16."""
        first = self._pages[0][1]
        grey = self._number(first, _CHANNELS, 1) == 1
        return 16 if self._deep(first) is not None or (grey and self._number(first, _BITS, 1) == _TWELVE) else 8

    @property
    def has_alpha(self) -> bool:
        """Whether the first page may be transparent."""
        return self._number(self._pages[0][1], _EXTRA, 0) in (1, 2)

    @property
    def provenance(self) -> str | None:
        """The tag that irestore left, None where there is none."""
        return provenance_of(from_tiff(self._block, self._pages[0][1]))

    def pictures(self) -> Iterator[Picture]:
        """The pages."""
        for i, first in self._pages:
            turn = self._number(first, ORIENTATION, 1)
            turn = turn if 1 <= turn <= 8 else 1
            deep = self._deep(first)
            if deep is not None:
                with wider(MOST_PIXEL_BYTES):  # it is unpacked as an image of bytes
                    decoded = deep.decoded(lambda stream: open_image(stream, self._name), self._notes).upright(turn)
            else:
                image = self._pillow()
                image.seek(i)
                image.load()  # turns it upright, too
                decoded = decode(image, self._name, self._notes)
                bits = self._number(first, _BITS, 1)
                if bits > decoded.depth:
                    self._notes.append(f"its samples of {bits} bits were read as 8")
                elif bits == _TWELVE and decoded.depth > bits:
                    decoded.colour = (decoded.colour.astype(np.uint32) * 65535 // 4095).astype(np.uint16)
            yield picture(decoded, self.format, self._metadata(first, oriented=turn != 1))

    def _pillow(self) -> ImageFile.ImageFile:
        if self._image is None:
            self._stream.seek(0)
            try:
                self._image = open_image(self._stream, self._name)
            except ReadError as error:
                first = self._pages[0][1]
                bits, compression = self._number(first, _BITS, 1), self._number(first, _COMPRESSION, 1)
                raise ReadError(
                    f"{self._name}: a TIFF of a kind that cannot be read ({bits} bits a sample, compression "
                    f"{compression}); convert it to 8 or 16 bits"
                ) from error
        return self._image

    def _deep(self, first: int) -> Tiff16 | None:
        try:
            return Tiff16(self._block, first)
        except DamagedTagsError:
            return None  # Pillow's to read, or to refuse

    def _size(self, first: int) -> tuple[int, int]:
        size = self._number(first, _WIDTH, 0), self._number(first, _HEIGHT, 0)
        return size[::-1] if self._number(first, ORIENTATION, 1) in (5, 6, 7, 8) else size

    def _number(self, first: int, tag: int, default: int) -> int:
        entry = self._block.table(first).get(tag)
        return default if entry is None else self._block.number(entry)

    def _metadata(self, first: int, oriented: bool) -> Metadata:
        return Metadata(
            icc=self._raw(first, _ICC),
            exif=from_tiff(self._block, first),
            xmp=self._raw(first, _XMP),
            iptc=self._raw(first, _IPTC),
            dpi=self._dpi(first),
            oriented=oriented,
        )

    def _raw(self, first: int, tag: int) -> bytes | None:
        entry = self._block.table(first).get(tag)
        try:
            return None if entry is None else self._block.raw(entry)
        except DamagedTagsError:
            self._notes.append(f"its tag {tag} is damaged and was not kept")
            return None

    def _dpi(self, first: int) -> tuple[float, float] | None:
        per_inch = _PER_INCH.get(self._number(first, _RESOLUTION_UNIT, 2))
        values = []
        for tag in (_X_RESOLUTION, _Y_RESOLUTION):
            entry = self._block.table(first).get(tag)
            raw = self._raw(first, tag)
            if per_inch is None or entry is None or entry.kind != RATIONAL or raw is None:
                return None
            above, below = struct.unpack_from(self._block.order + "II", raw)
            values.append(above / below * per_inch if below else 0.0)
        return (values[0], values[1]) if all(1 <= value < 1e6 for value in values) else None


def _content(stream: BinaryIO) -> bytes | mmap.mmap:
    stream.seek(0)
    try:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):  # in memory already, or on a file system without maps
        return stream.read()
