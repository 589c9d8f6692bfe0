from __future__ import annotations

from fractions import Fraction

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from irestore.errors import OutOfMemoryError
from irestore.tiling import Box, Padding, Tiling, is_out_of_memory, round_up

sizes = st.integers(1, 40)


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_round_up_gives_the_next_multiple(value: int, multiple: int) -> None:
    result = round_up(value, multiple)
    assert result % multiple == 0
    assert value <= result < value + multiple


@given(st.integers(-9, 9), st.integers(-9, 9), sizes, sizes, sizes, sizes)
def test_cut_covers_each_pixel_once(top: int, left: int, height: int, width: int, tall: int, wide: int) -> None:
    box = Box(top, left, top + height, left + width)
    count = torch.zeros(height, width)
    for part in box.cut(tall, wide):
        assert part.height <= tall
        assert part.width <= wide
        count[part.within(box)] += 1
    assert (count == 1).all()


def test_box_grows_clips_and_scales() -> None:
    box = Box(1, 2, 5, 9)
    assert (box.height, box.width, box.pixels) == (4, 7, 28)
    assert box.grow(3) == Box(-2, -1, 8, 12)
    assert box.grow(3).clip(6, 10) == Box(0, 0, 6, 10)
    assert box.scaled(4) == Box(4, 8, 20, 36)
    assert Box(2, 4, 6, 8).scaled(Fraction(1, 2)) == Box(1, 2, 3, 4)
    with pytest.raises(ValueError, match="whole pixels"):
        box.scaled(Fraction(1, 2))


@given(sizes, sizes, st.integers(1, 8), st.booleans())
def test_a_frame_holds_the_image_and_is_of_whole_windows(height: int, width: int, window: int, shifted: bool) -> None:
    before = window // 2 if shifted else 0
    canvas = Padding(before, window, "reflect").around(Box(0, 0, height, width))
    assert canvas.top == canvas.left == -before
    assert canvas.height % window == canvas.width % window == 0
    assert height <= canvas.bottom < height + window
    assert width <= canvas.right < width + window


@pytest.mark.parametrize("mode", ["reflect", "circular", "constant"])
@given(st.integers(5, 12), st.integers(5, 12), st.data())
def test_a_frame_reads_what_pad_shows(mode: str, height: int, width: int, data: st.DataObject) -> None:
    image = torch.arange(2.0 * height * width).view(1, height, width, 2) + 1
    border = 4
    padded = F.pad(image.permute(0, 3, 1, 2), (border,) * 4, mode=mode).permute(0, 2, 3, 1)
    top = data.draw(st.integers(-border, height - 1))
    left = data.draw(st.integers(-border, width - 1))
    bottom = data.draw(st.integers(max(top, 0) + 1, height + border))
    right = data.draw(st.integers(max(left, 0) + 1, width + border))
    read = Padding(border, 1, mode).read(image, Box(top, left, bottom, right))
    assert torch.equal(read, padded[:, top + border : bottom + border, left + border : right + border])


def test_an_unknown_mode_or_storage_is_refused() -> None:
    with pytest.raises(ValueError, match="mode 'replicate'"):
        Padding(1, 1, "replicate").read(torch.zeros(1, 2, 2, 1), Box(-1, -1, 2, 2))
    with pytest.raises(ValueError, match="storage 'tape'"):
        Tiling(storage="tape")


def sizes(
    tiling: Tiling, canvas: Box, grid: int, resolution: Fraction, scale: int = 1, *, fits: int = 10**9
) -> list[tuple[int, int]]:
    """Of the tiles that a map is computed in, where memory holds so many pixels. They cover it, each pixel once."""

    def compute(box: Box) -> None:
        if box.pixels > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    boxes = [box for box, _ in tiling.over(canvas, grid, resolution, scale, compute)]
    covered = torch.zeros(canvas.height, canvas.width)
    for box in boxes:
        covered[box.top : box.bottom, box.left : box.right] += 1
    assert (covered == 1).all()
    return [(box.height, box.width) for box in boxes]


def test_tiles_are_whole_windows() -> None:
    assert Tiling((1, 33), multiple=16).tile == (16, 48)
    assert Tiling(multiple=16).tile is None
    image, one = Box(0, 0, 40, 90), Fraction(1)
    assert sizes(Tiling((1, 33), multiple=16), image, 16, one)[:2] == [(16, 48), (16, 42)]
    assert sizes(Tiling(multiple=16), image, 16, one) == [(40, 90)]


def test_tiles_are_told_in_pixels_of_the_input() -> None:
    tiling, half = Tiling((32, 64), multiple=16), Fraction(1, 2)
    assert tiling.grid(Fraction(1), Fraction(1, 2)) == 16
    assert tiling.grid(half) == 8
    assert set(sizes(tiling, Box(0, 0, 64, 64), 8, half)) == {(16, 32)}
    assert set(sizes(tiling, Box(0, 0, 16, 32), 8, half, fits=8 * 16)) == {(8, 16)}
    assert tiling.tile == (16, 32)


def test_an_enlarged_result_has_tiles_no_larger_than_the_input() -> None:
    tiling, image = Tiling((64, 64), multiple=8), Box(0, 0, 128, 128)
    assert set(sizes(tiling, image, 8, Fraction(1), 4)) == {(16, 16)}
    assert set(sizes(tiling, image, 8, Fraction(1, 2), 2)) == {(32, 32)}
    assert set(sizes(tiling, image, 8, Fraction(1), 4, fits=8 * 8)) == {(8, 8)}
    assert tiling.tile == (32, 32)


def test_the_grid_suits_the_window_and_the_scale() -> None:
    assert Tiling(multiple=6).grid(Fraction(1), Fraction(1, 4)) == 12
    assert Tiling().grid(Fraction(1, 2)) == 1


def test_tiles_that_do_not_fit_are_cut_in_four_down_to_one_window() -> None:
    image = Box(0, 0, 8, 72)
    tiling = Tiling(multiple=8)
    assert sizes(tiling, image, 8, Fraction(1), fits=8 * 24) == [(8, 24), (8, 16), (8, 24), (8, 8)]
    assert sizes(tiling, image, 8, Fraction(1), fits=8 * 20) == [(8, 16), (8, 8)] * 3
    assert sizes(tiling, image, 8, Fraction(1)) == [(8, 16)] * 4 + [(8, 8)]  # remembered
    with pytest.raises(OutOfMemoryError, match="a tile of 8x8 pixels does not fit"):
        sizes(tiling, image, 8, Fraction(1), fits=0)
    with pytest.raises(ValueError, match="another error"):
        list(Tiling().over(image, 1, Fraction(1), 1, another))


def another(box: Box) -> None:
    raise ValueError("another error")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
            True,
        ),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected
