"""Colour profiles, made by hand so that none need be shipped: RGB by matrix, grey by gamma, CMYK by a table."""

import struct

import numpy as np

WHITE = (0.9642, 1.0, 0.8249)  # D50
ADOBE_RGB = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, float, float]) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(map(_fixed, values))


def _gamma(value: float) -> bytes:
    return b"curv" + bytes(4) + struct.pack(">IH", 1, round(value * 256)) + bytes(2)


def _text(text: str) -> bytes:
    raw = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(raw)) + raw + bytes(78 + 4 + 4 + 1)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text("made for a test"), b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(WHITE)} | tags
    table, data = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        content += bytes(-len(content) % 4)
        table += name + struct.pack(">II", start + len(data), len(content))
        data += content
    body = table + data
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), bytes(4), 0x02400000, kind, space, connection)
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + b"".join(map(_fixed, WHITE))
    return head.ljust(128, b"\0") + body


def wide_rgb() -> bytes:
    """Adobe RGB (1998): wider than sRGB, gamma 2.2."""
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE_RGB, strict=True)
    tags = {name: _xyz(values) for name, values in columns}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags | {name: _gamma(2.2) for name in (b"rTRC", b"gTRC", b"bTRC")})


def linear_grey() -> bytes:
    """Grey whose numbers are amounts of light."""
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _gamma(1.0)})


def green_cmyk() -> bytes:
    """A press whose cyan ink is green, so that whoever ignores the profile is found out."""
    inks = {0: (60, -60, 50), 1: (50, 70, -5), 2: (90, -5, 90), 3: (5, 0, 0)}  # Lab of each ink alone
    corners = np.empty((2, 2, 2, 2, 3))
    for corner in np.ndindex(2, 2, 2, 2):
        colour = np.array((100.0, 0.0, 0.0))
        for ink in range(4):
            if corner[ink]:
                colour = np.array((colour[0] * inks[ink][0] / 100, *(colour[1:] + inks[ink][1:])))
        corners[corner] = colour
    scaled = np.stack([corners[..., 0] * 2.55, corners[..., 1] + 128, corners[..., 2] + 128], axis=-1)
    ramp = bytes(range(256))
    matrix = b"".join(_fixed(value) for value in (1, 0, 0, 0, 1, 0, 0, 0, 1))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + ramp * 4
    table += scaled.clip(0, 255).round().astype(np.uint8).tobytes() + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table})
