"""The header of a JPEG XL file, read before its decoder is let loose: that decodes all pixels as it opens a file.

ISO/IEC 18181-1, annex D: numbers of varying width, lowest bit first. 18181-2: the boxes of a container.
"""

from collections.abc import Iterator
from typing import BinaryIO

from irestore.errors import ReadError
from irestore.images.exif import provenance_of
from irestore.images.picture import Info

STARTS = (b"\xff\x0a", b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a")  # of a codestream, of a container

_HEADER_BYTES = 64  # of a codestream
_MOST_BOXES, _MOST_EXIF_BYTES = 10_000, 2**24
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))  # width : height
_GREY = 1

Choices = tuple[tuple[int, int], ...]  # each (added, bits), of which two bits choose one


def header(stream: BinaryIO) -> tuple[Info, int]:
    """What the header of a file says, and the file's own bits a sample; raises ReadError where it cannot be read."""
    codestream, exif = _pieces(stream)
    bits, left = int.from_bytes(codestream[2:], "little"), 8 * len(codestream) - 16
    if not codestream.startswith(STARTS[0]):
        raise ReadError("a JPEG XL without a picture; the file is damaged")

    def take(count: int) -> int:
        nonlocal bits, left
        left -= count
        if left < 0:
            raise ReadError("a JPEG XL whose header ends too early; the file is damaged or incomplete")
        value = bits & ((1 << count) - 1)
        bits >>= count
        return value

    def choice(choices: Choices) -> int:
        added, count = choices[take(2)]
        return added + take(count)

    def size(sides: Choices, eighths: Choices | None = None) -> tuple[int, int]:
        in_eighths = take(1)

        def side() -> int:
            return choice(sides) if not in_eighths else 8 * (choice(eighths) if eighths else 1 + take(5))

        height, ratio = side(), take(3)
        return (height * _RATIOS[ratio - 1][0] // _RATIOS[ratio - 1][1] if ratio else side()), height

    width, height = size(((1, 9), (1, 13), (1, 18), (1, 30)))
    depth, channels, grey = 8, 0, False
    if not take(1):  # else all is as usual
        if take(1):  # further fields
            if take(3) >= 4:  # orientation, less one, which the decoder applies
                width, height = height, width
            if take(1):  # another size to be shown at
                size(((1, 9), (1, 13), (1, 18), (1, 30)))
            if take(1):  # a preview
                size(((1, 6), (65, 8), (321, 10), (1345, 12)), ((16, 0), (32, 0), (1, 5), (33, 9)))
            if take(1):
                raise ReadError("is an animated JPEG XL, which cannot be read; convert it to APNG first")
        floating = take(1)
        depth = choice(((32, 0), (16, 0), (24, 0), (1, 6)) if floating else ((8, 0), (10, 0), (12, 0), (1, 6)))
        take(4 * floating + 1)  # bits of the exponent; whether 16 bits suffice for computing
        channels = choice(((0, 0), (1, 0), (2, 4), (1, 12)))  # besides colour
        if not channels and not take(2) & 2:  # whether it is coded as XYB, whether it is sRGB
            take(1)  # whether it has an ICC profile
            grey = choice(((0, 0), (1, 0), (2, 4), (18, 6))) == _GREY
    read_depth = 16 if grey and depth > 8 else 8
    return Info("jxl", width, height, 1, read_depth, channels > 0, provenance_of(exif)), depth


def _pieces(stream: BinaryIO) -> tuple[bytes, bytes | None]:
    """The start of the codestream, and the EXIF block unless it is compressed."""
    stream.seek(0)
    start = stream.read(_HEADER_BYTES)
    if not start.startswith(STARTS[1]):
        return start, None
    codestream, exif = b"", None
    for name, length in _boxes(stream):
        if name in (b"jxlc", b"jxlp") and len(codestream) < _HEADER_BYTES:
            content = stream.read(min(length, _HEADER_BYTES + 4))
            codestream += content[4:] if name == b"jxlp" else content  # a part has a number first
        elif name == b"Exif" and exif is None:
            content = stream.read(min(length, _MOST_EXIF_BYTES))
            plain = content.startswith((b"II*\0", b"MM\0*"))  # without the offset that the standard asks for
            exif = content if plain else content[4 + int.from_bytes(content[:4]) :]
    return codestream, exif


def _boxes(stream: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Name and length of the content of each box, the stream at the start of the content."""
    end, at = stream.seek(0, 2), 0
    for _ in range(_MOST_BOXES):
        stream.seek(at)
        head = stream.read(8)
        length, inside = int.from_bytes(head[:4]), at + 8
        if length == 1:
            length, inside = int.from_bytes(stream.read(8)), at + 16
        after = at + length if length else end  # 0: to the end of the file
        if len(head) < 8 or after < inside:
            return
        yield head[4:], min(after, end) - inside
        at = after
    raise ReadError(f"a JPEG XL of more than {_MOST_BOXES} boxes; the file is damaged")
