"""A picture file that Pillow reads: what its header says, and its frames."""

import dataclasses
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import ImageFile

from ..errors import ReadError
from . import jxl, png
from .border import open_image
from .decode import Decoded, decode, unit
from .exif import orientation, provenance_of, provenance_of_text
from .metadata import exif_of, format_name, read_metadata
from .picture import Metadata, Picture

_SINGLE = ("MPO", "ICO", "CUR", "ICNS", "PSD", "DDS", "HEIF")  # further frames are previews, layers, smaller copies
_TURNED = ("HEIF", "JXL")  # their decoders turn the pixels upright themselves
_HEADER_BYTES = 2**16
_AV1_DEEP, _AV1_TWELVE, _AV1_GREY = 0x40, 0x20, 0x10
_JP2_CODESTREAM = b"\xff\x4f\xff\x51"
_JP2_DEPTH_AT = 42  # bytes from the start of a JPEG 2000 codestream to the depth of its first component


class PillowFile:
    """One open file. Use it inside `foreign`: any method may raise whatever Pillow raises."""

    def __init__(self, stream: BinaryIO, name: str, notes: list[str]) -> None:
        self._stream, self._name, self._notes = stream, name, notes
        self._image = open_image(stream, name)
        self.format = format_name(self._image)

    def close(self) -> None:
        """Frees the decoder; the stream stays open."""
        self._image.close()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) in pixels, upright."""
        width, height = self._image.size
        return (height, width) if self._turn >= 5 else (width, height)

    @property
    def frames(self) -> int:
        """Frames of an animation, 1 for a single picture."""
        return 1 if self._image.format in _SINGLE else int(getattr(self._image, "n_frames", 1))

    @property
    def has_alpha(self) -> bool:
        """Whether anything may be transparent."""
        return self._image.has_transparency_data

    @property
    def depth(self) -> int:
        """Bits a sample, 8 or 16, as `pictures` will give them."""
        raw = png.raw_mode(self._image)
        deep_png = self._image.format == "PNG" and raw.endswith(";16B") and self.frames == 1
        return 16 if self._image.mode.startswith("I") or deep_png or self._deep_ppm or self._deep_heif else 8

    @property
    def provenance(self) -> str | None:
        """The tag that irestore left, None where there is none."""
        comment = self._image.info.get("comment")
        if self.format == "gif" and isinstance(comment, bytes):
            return provenance_of_text(comment)
        return provenance_of(exif_of(self._image))

    def pictures(self) -> Iterator[Picture]:
        """The frames, each composed over those before it where the format asks for that."""
        count = self.frames
        if self._image.format in ("MPO", "HEIF") and getattr(self._image, "n_frames", 1) > 1:
            self._notes.append("it has further pictures behind the photograph, which were not kept")
        for i in range(count):
            if i or count > 1:
                self._image.seek(i)
            promised = self._image.size
            decoded = self._decoded(alone=count == 1)
            height, width = decoded.colour.shape[:2]
            if self._image.format == "HEIF" and (width, height) != promised:
                raise ReadError(
                    f"{self._name}: its header promises {promised[0]} x {promised[1]} pixels, its data are "
                    f"{width} x {height}; the file is damaged"
                )
            metadata = read_metadata(self._image, self._turn != 1, self._notes)
            if self.format == "png":
                metadata = dataclasses.replace(metadata, png_colour=png.colour_chunks(self._stream))
            elif self.format == "webp":
                metadata = dataclasses.replace(metadata, lossless=self._lossless_webp())
            if count > 1:
                info = self._image.info
                # A GIF without a count plays once, an APNG or WebP without one for ever.
                loop = int(info.get("loop", 1 if self.format == "gif" else 0))
                metadata = dataclasses.replace(metadata, duration=float(info.get("duration", 0)), loop=loop)
            yield picture(decoded.upright(self._turn), self.format, metadata)

    @property
    def _turn(self) -> int:
        return 1 if self._image.format in _TURNED else orientation(exif_of(self._image))

    def _decoded(self, alone: bool) -> Decoded:
        image = self._image
        if alone:
            deep = png.decoded(image, self._again) if image.format == "PNG" else None
            deep = self._ppm() if self._deep_ppm else self._heif() if self._deep_heif else deep
            if deep is not None:
                return deep
        if (bits := self._cut_bits()) > 8:
            self._notes.append(f"its samples of {bits} bits were read as 8")
        image.load()
        decoded = decode(image, self._name, self._notes)
        if image.format == "AVIF" and image.mode == "RGB" and self._av1_flags() & _AV1_GREY:  # Pillow before 13
            decoded.colour = decoded.colour[..., 0]
        return decoded

    def _again(self) -> ImageFile.ImageFile:
        self._stream.seek(0)
        return open_image(self._stream, self._name)

    def _cut_bits(self) -> int:
        """Bits a sample in the file, where Pillow will give 8."""
        image = self._image
        if image.mode.startswith(("I", "F")):
            return 0
        if image.format == "AVIF":
            flags = self._av1_flags()
            return (12 if flags & _AV1_TWELVE else 10) if flags & _AV1_DEEP else 8
        if image.format == "JPEG2000":
            header = self._header()
            at = header.find(_JP2_CODESTREAM)
            return (header[at + _JP2_DEPTH_AT] & 0x7F) + 1 if 0 <= at < len(header) - _JP2_DEPTH_AT else 8
        if image.format == "JXL":
            found = jxl.header(self._header())
            return found.depth if found else 8
        return 16 if ";16" in png.raw_mode(image) else 8

    def _av1_flags(self) -> int:
        """Of an AVIF's codec configuration (AV1-ISOBMFF, section 2.3.3), the byte that holds the kind of samples."""
        found = re.search(rb"av1C..(.)", self._header(), re.DOTALL)
        return found[1][0] if found else 0

    def _header(self) -> bytes:
        self._stream.seek(0)
        return self._stream.read(_HEADER_BYTES)

    def _lossless_webp(self) -> bool:
        """Whether the first frame's data are of WebP's lossless kind."""
        self._stream.seek(12)
        while len(head := self._stream.read(8)) == 8:
            if head[:4] in (b"VP8 ", b"VP8L"):
                return head[:4] == b"VP8L"
            length = int.from_bytes(head[4:], "little")
            self._stream.seek(16 if head[:4] == b"ANMF" else length + length % 2, 1)  # into a frame, over all else
        return False

    @property
    def _deep_ppm(self) -> bool:
        tile = self._image.tile[:1]
        return self._image.format == "PPM" and bool(tile) and tile[0][0] == "ppm" and self._image.mode == "RGB"

    def _ppm(self) -> Decoded:
        """RGB of more than 8 bits: pairs of bytes, high first, scaled from the file's own maximum to 65535."""
        tile, (width, height) = self._image.tile[0], self._image.size
        peak = int(tile.args[1])  # type: ignore[index]
        self._stream.seek(tile.offset)
        wide = ">u2" if peak > 255 else "u1"
        content = self._stream.read(width * height * 3 * np.dtype(wide).itemsize)
        if len(content) < width * height * 3 * np.dtype(wide).itemsize:
            raise EOFError("its pixels end too early")
        samples = np.frombuffer(content, wide).reshape(height, width, 3)
        scaled = (samples.astype(np.uint32) * 65535 + peak // 2) // peak
        return Decoded(scaled.clip(0, 65535).astype(np.uint16), None)

    @property
    def _deep_heif(self) -> bool:
        return self._image.format == "HEIF" and int(self._image.info.get("bit_depth", 8)) > 8

    def _heif(self) -> Decoded:
        """HEIC of 10 or 12 bits a sample, at 16."""
        import pillow_heif

        self._stream.seek(0)
        file = pillow_heif.open_heif(self._stream, convert_hdr_to_8bit=False, hdr_to_16bit=True)
        samples = np.asarray(file)
        if samples.ndim == 3 and samples.shape[2] == 4:
            return Decoded(samples[..., :3], samples[..., 3])
        return Decoded(samples, None)


def picture(decoded: Decoded, format: str, metadata: Metadata) -> Picture:
    """The picture of upright samples."""
    if decoded.converted:
        metadata = dataclasses.replace(metadata, icc=None)
    return Picture(
        pixels=decoded.pixels(),
        alpha=None if decoded.alpha is None else unit(decoded.alpha),
        grey=decoded.colour.ndim == 2,
        depth=decoded.depth,
        format=format,
        metadata=metadata,
    )
