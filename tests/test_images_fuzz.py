"""Damaged files: whatever the bytes, reading gives a picture or an IrestoreError in one line, and nothing else.

IRESTORE_FUZZ=10000 in the environment asks for that many cases; the default is small enough for every run.
"""

import io
import os
import struct
import zlib

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from image_samples import SAMPLES, sample

from irestore.errors import IrestoreError
from irestore.images import LoadOptions, load, load_frames, probe

CASES = int(os.environ.get("IRESTORE_FUZZ", "1000"))
LIMIT = 1_000_000  # pixels: what lies about its size must not make the test slow
HEADER = 160  # bytes, where most lies can be told

numbers = st.sampled_from([0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
places = st.one_of(st.integers(0, HEADER), st.integers(0, 4096))
edits = st.one_of(
    st.tuples(st.just("byte"), places, st.integers(0, 255)),
    st.tuples(st.just("number"), places, numbers),
    st.tuples(st.just("remove"), places, st.integers(1, 64)),
    st.tuples(st.just("repeat"), places, st.integers(1, 64)),
    st.tuples(st.just("cut"), places, st.just(0)),
)


class Named(io.BytesIO):
    """TGA has no signature and is known by its name alone."""

    name = "<stdin>.tga"


def mended(content: bytes) -> bytes:
    """A PNG whose checksums are right again, so that its lies are believed."""
    result, at = bytearray(content), 8
    while at + 12 <= len(result):
        end = at + 8 + int.from_bytes(result[at : at + 4])
        if end + 4 > len(result):
            break
        result[end : end + 4] = zlib.crc32(result[at + 4 : end]).to_bytes(4)
        at = end + 4
    return bytes(result)


def damaged(content: bytes, changes: list[tuple[str, int, int]]) -> bytes:
    result = bytearray(content)
    for kind, place, value in changes:
        at = place % max(len(result), 1)
        if kind == "byte":
            result[at : at + 1] = bytes([value])
        elif kind == "number":
            result[at : at + 4] = struct.pack("<I" if place % 2 else ">I", value)
        elif kind == "remove":
            del result[at : at + value]
        elif kind == "repeat":
            result[at:at] = result[at : at + value]
        else:
            del result[at:]
    return bytes(result)


@settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(kind=st.sampled_from(SAMPLES), changes=st.lists(edits, min_size=1, max_size=4))
def test_damaged_files_are_read_or_refused(kind: str, changes: list[tuple[str, int, int]]) -> None:
    content = damaged(sample(kind), changes)
    content = mended(content) if content.startswith(b"\x89PNG") else content
    try:
        info = probe(Named(content), LoadOptions(max_pixels=LIMIT))
        assert info.provenance is None or info.provenance.startswith("irestore/")
        picture = load(Named(content), LoadOptions(max_pixels=LIMIT, frames="first"))
        assert picture.pixels.shape == (picture.height, picture.width, 3)
        assert picture.pixels.dtype == np.float32
        assert np.isfinite(picture.pixels).all()
        assert picture.alpha is None or picture.alpha.shape == picture.pixels.shape[:2]
        if kind != "ico":  # an icon's table of sizes may be wrong about the picture it points to; a note says so
            assert (info.width, info.height) == (picture.width, picture.height)
        for frame in load_frames(Named(content), LoadOptions(max_pixels=LIMIT, frames="all")):
            assert frame.pixels.ndim == 3
    except IrestoreError as error:
        assert "\n" not in str(error)  # noqa: PT017 most cases end here, some do not
