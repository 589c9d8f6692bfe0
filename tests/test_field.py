from __future__ import annotations

import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import pictures
from torch import Tensor

from irestore.errors import OutOfMemoryError
from irestore.field import Field
from irestore.scratch import Store
from irestore.statistics import Statistics
from irestore.tiling import Box, Padding, Tiling

TILES = [None, (4, 4), (8, 8), (4, 12), (64, 5)]
WEIGHT = torch.randn(6, 3, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def noise(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=dtype)


def conv(t: Tensor) -> Tensor:
    return F.conv2d(t, WEIGHT, padding=1)


def same(a: Tensor, b: Tensor, tolerance: float = 1e-12) -> bool:
    return a.shape == b.shape and bool((a - b).abs().max() <= tolerance)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("storage", ["device", "host", "scratch"])
def test_map_of_a_convolution_equals_it_on_the_whole_map(tile: tuple[int, int] | None, storage: str) -> None:
    image = noise(2, 3, 13, 22)
    field = Field.of(image, Tiling(tile, storage=storage))
    assert same(field.map(conv, halo=1).tensor, conv(image))
    assert same(field.tensor, image)


def test_a_halo_that_is_too_small_shows() -> None:
    image = noise(1, 3, 16, 16)
    short = Field.of(image, Tiling((4, 4))).map(conv, halo=0).tensor
    assert (short - conv(image)).abs().max() > 0.1


@pytest.mark.parametrize("tile", TILES)
def test_scale_enlarges_and_reduces(tile: tuple[int, int] | None) -> None:
    image = noise(1, 3, 12, 20)
    field = Field.of(image, Tiling(tile, multiple=4))
    wide = field.map(lambda t: F.pixel_shuffle(conv(t).repeat(1, 2, 1, 1), 2), halo=1, scale=2)
    assert same(wide.tensor, F.pixel_shuffle(conv(image).repeat(1, 2, 1, 1), 2))
    small = field.map(lambda t: F.avg_pool2d(t, 2), scale=Fraction(1, 2))
    assert same(small.tensor, F.avg_pool2d(image, 2))
    back = small.map(lambda t, image: F.interpolate(t, scale_factor=2.0) - image, field, scale=2)
    assert same(back.tensor, F.interpolate(F.avg_pool2d(image, 2), scale_factor=2.0) - image)


def test_tiles_of_a_smaller_map_cover_the_same_pixels_of_the_input() -> None:
    seen = []
    field = Field.of(noise(1, 3, 32, 32), Tiling((16, 8), multiple=8))
    small = field.map(lambda t: F.avg_pool2d(t, 2), scale=Fraction(1, 2))
    small.map(lambda t: seen.append(t.shape[2:]) or t)
    assert set(seen) == {(8, 4)}


def test_a_map_that_does_not_fall_on_whole_pixels_is_refused() -> None:
    field = Field.of(noise(1, 3, 9, 9), Tiling())
    with pytest.raises(ValueError, match="whole pixels"):
        field.map(lambda t: t[:, :, ::2, ::2], scale=Fraction(1, 2))


@pytest.mark.parametrize("tile", TILES)
def test_map_in_place_uses_its_own_room(tile: tuple[int, int] | None) -> None:
    image, other = noise(1, 3, 12, 20), noise(1, 3, 12, 20) + 1
    tiling = Tiling(tile)
    field, beside = Field.of(image.clone(), tiling).map(lambda t: 2 * t), Field.of(other, tiling)
    room = field._store.data.data_ptr()
    result = field.map(lambda t, u: t + conv(u)[:, :3] * 0 + u, beside, into=field)
    assert same(result.tensor, 2 * image + other)
    assert same(beside.tensor, other)
    if tile:
        assert result._store.data.data_ptr() == room
    assert same(result.mean(), (2 * image + other).mean((2, 3), keepdim=True))


@pytest.mark.parametrize("mode", ["reflect", "circular", "constant"])
@pytest.mark.parametrize("tile", TILES)
def test_a_frame_shows_what_pad_gives(mode: str, tile: tuple[int, int] | None) -> None:
    image = noise(1, 3, 12, 20)
    windows = []

    def take(t: Tensor) -> Tensor:
        windows.append(t)
        return t

    out = Field.of(image, Tiling(tile, multiple=4)).map(take, padding=Padding(2, 4, mode))
    assert same(out.tensor, image)
    padded = F.pad(image, (2, 2, 2, 2), mode=mode)
    tall, wide = (tile or (16, 24))[0], (tile or (16, 24))[1]
    tall, wide = -(-min(tall, 16) // 4) * 4, -(-min(wide, 24) // 4) * 4
    expected = [padded[:, :, y : y + tall, x : x + wide] for y in range(0, 16, tall) for x in range(0, 24, wide)]
    assert len(windows) == len(expected)
    assert all(same(a, b) for a, b in zip(windows, expected, strict=True))


def test_reflection_works_on_the_smallest_maps() -> None:
    image = noise(1, 2, 2, 1)
    seen = []
    Field.of(image, Tiling()).map(lambda t: seen.append(t) or t, padding=Padding(4, 4, "reflect"))
    rows = [0, 1, 0, 1, 0, 1, 0, 1]
    assert same(seen[0][:, :, :, 0], image[:, :, rows, 0])


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("padding", [None, Padding(2, 4, "constant")])
def test_a_placed_function_is_told_what_it_sees(padding: Padding | None, tile: tuple[int, int] | None) -> None:
    rows, columns = torch.meshgrid(torch.arange(13.0), torch.arange(22.0), indexing="ij")
    seen = []

    def places(t: Tensor, box: Box) -> Tensor:
        seen.append((t.shape[2:], (box.height, box.width)))
        y, x = torch.meshgrid(torch.arange(box.top, box.bottom), torch.arange(box.left, box.right), indexing="ij")
        return torch.stack([y, x])[None].to(t.dtype)

    field = Field.of(noise(1, 3, 13, 22), Tiling(tile, multiple=4))
    out = field.map(places, halo=3, padding=padding, placed=True)
    assert same(out.tensor, torch.stack([rows, columns])[None])
    assert all(shape == size for shape, size in seen)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("mean", [0.0, 1e3])
def test_gram_is_that_of_the_whole_map(mean: float, tile: tuple[int, int] | None) -> None:
    image, shares = mean + noise(2, 6, 13, 22), []
    whole = (2 * image).unflatten(1, (3, 2)).flatten(3)  # (B, 3 heads, 2, pixels)
    gram = Field.of(image, Tiling(tile, progress=shares.append)).gram(lambda t: 2 * t, heads=3)
    assert same(gram, whole @ whole.mT, 1e-9 * max(1, mean**2))
    assert sum(shares) == pytest.approx(1)
    single = Field.of(image.float(), Tiling(tile)).gram(lambda t: 2 * t, heads=3)
    assert single.dtype == torch.float32
    assert ((single - gram) / gram.abs().amax()).abs().max() < 1e-6


def flat(mean: float, std: float, dtype: torch.dtype) -> Tensor:
    return mean + std * noise(2, 5, 21, 34, dtype=dtype)


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1e6, 1e-3), (-3.0, 0.0), (0.0, 1e-9)])
def test_moments_are_those_of_the_whole_map(tile: tuple[int, int] | None, mean: float, std: float) -> None:
    image = flat(mean, std, torch.float64)
    field = Field.of(image, Tiling(tile)).map(lambda t: t)
    moments = field.moments(0.0)
    variance, centre = torch.var_mean(image, (1, 2, 3), correction=0, keepdim=True)
    assert same(moments.mean, centre, 1e-12 * max(1, abs(mean)))
    assert torch.allclose(moments.std**2, variance, rtol=1e-6, atol=1e-18)
    assert same(field.mean(), image.mean((2, 3), keepdim=True), 1e-12 * max(1, abs(mean)))
    assert same(field.moments(0.5).std, (variance + 0.5).sqrt())


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", ["noise", "grey", "gradient"])
def test_moments_of_pictures(tile: tuple[int, int] | None, name: str) -> None:
    image = dict(pictures(23, 31, batch=2))[name]
    moments = Field.of(image, Tiling(tile)).moments(1e-4)
    variance, centre = torch.var_mean(image, (1, 2, 3), correction=0, keepdim=True)
    assert same(moments.mean, centre)
    assert same(moments.std, (variance + 1e-4).sqrt())


@pytest.mark.parametrize("tile", TILES)
def test_float32_moments_survive_a_large_mean(tile: tuple[int, int] | None) -> None:
    image = flat(
        1000.0, 0.001, torch.float32
    )  # the mean of a tile, rounded to float32, is off by up to 0.03 deviations
    moments = Field.of(image, Tiling(tile)).map(lambda t: t.clone()).moments(0.0)
    variance, centre = torch.var_mean(image.double(), (1, 2, 3), correction=0, keepdim=True)
    assert moments.mean.dtype == torch.float32
    assert torch.allclose(moments.mean.double(), centre, rtol=1e-7)
    assert torch.allclose(moments.std.double() ** 2, variance, rtol=1e-5, atol=0)


def test_statistics_of_uneven_parts_merge_to_those_of_the_whole() -> None:
    tile = noise(2, 17, 9, 4) * torch.tensor([1e3, 1.0, 1e-3, 0.0]) + torch.tensor([5.0, -1e4, 1.0, 2.0])
    whole, merged = Statistics.of(tile), Statistics.of(tile[:, :1])
    for part in (tile[:, 1:4], tile[:, 4:16, :2], tile[:, 4:16, 2:], tile[:, 16:]):
        merged.merge(Statistics.of(part))
    assert merged.pixels == whole.pixels == 17 * 9
    assert torch.allclose(merged.mean, whole.mean, rtol=1e-12)
    assert torch.allclose(merged.m2, whole.m2, rtol=1e-9, atol=1e-20)


def test_statistics_count_owned_pixels_only() -> None:
    image = noise(1, 3, 12, 20)
    for padding in (None, Padding(2, 4, "reflect"), Padding(3, 4, "circular")):
        field = Field.of(image, Tiling((4, 4), multiple=4)).map(lambda t: t, padding=padding, halo=0 if padding else 2)
        assert same(field.mean(), image.mean((2, 3), keepdim=True))


def test_progress_adds_up_to_one_for_each_map() -> None:
    for padding in (None, Padding(2, 4, "reflect")):
        told: list[float] = []
        Field.of(noise(1, 3, 13, 22), Tiling((4, 8), multiple=4, progress=told.append)).map(
            lambda t: t, padding=padding
        )
        assert len(told) >= 12
        assert abs(sum(told) - 1) < 1e-12


def limited(limit: int, fn: Callable[..., Tensor], sizes: list[int]) -> Callable[..., Tensor]:
    """`fn` that takes no tile of more pixels than `limit`."""

    def run(t: Tensor, *others: Tensor) -> Tensor:
        sizes.append(t.shape[2] * t.shape[3])
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return fn(t, *others)

    return run


@pytest.mark.parametrize("padding", [None, Padding(2, 4, "reflect"), Padding(2, 4, "circular")])
@pytest.mark.parametrize("tile", [None, (20, 28), (8, 36)])
def test_a_tile_that_does_not_fit_is_split_and_nothing_starts_again(
    padding: Padding | None, tile: tuple[int, int] | None
) -> None:
    image, sizes, told = noise(1, 3, 24, 36), [], []
    tiling = Tiling(tile, multiple=4, progress=told.append)
    field = Field.of(image, tiling).map(limited(64, lambda t: 3 * t, sizes), padding=padding)
    assert same(field.tensor, 3 * image)
    assert same(field.mean(), 3 * image.mean((2, 3), keepdim=True))
    assert abs(sum(told) - 1) < 1e-12
    canvas = 24 * 36 if padding is None else 28 * 40
    assert sum(size for size in sizes if size <= 64) == canvas  # each pixel was computed once
    assert sizes.index(next(size for size in sizes if size <= 64)) == sum(
        size > 64 for size in sizes
    )  # failed first only
    assert tiling.tile is not None
    sizes.clear()
    Field.of(image, tiling).map(limited(64, lambda t: t, sizes), padding=padding)
    assert max(sizes) <= 64  # the smaller size is remembered


def test_moments_for_which_memory_runs_out_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    image, original = noise(1, 3, 24, 36), Statistics.of
    field = Field.of(image, Tiling())

    def limited_statistics(tile: Tensor) -> Statistics:
        if tile.shape[1] * tile.shape[2] > 99:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(tile)

    monkeypatch.setattr(Statistics, "of", limited_statistics)
    assert same(field.mean(), image.mean((2, 3), keepdim=True))
    assert same(field.moments(0.0).std ** 2, image.var((1, 2, 3), correction=0, keepdim=True))


def test_memory_that_runs_out_in_the_middle_keeps_what_is_done() -> None:
    image, done = noise(1, 3, 16, 16), []

    def run(t: Tensor) -> Tensor:
        if len(done) >= 2 and t.shape[2] > 4:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)")
        done.append(t.shape[2:])
        return -t

    field = Field.of(image.clone(), Tiling((8, 8), multiple=4)).map(lambda t: t.clone())
    assert same(field.map(run, into=field).tensor, -image)
    assert done == [(8, 8)] * 2 + [(4, 4)] * 8


def test_one_window_that_does_not_fit_is_an_error_that_says_so() -> None:
    field = Field.of(noise(1, 3, 16, 16), Tiling(multiple=8))
    with pytest.raises(OutOfMemoryError, match="a tile of 8x8 pixels does not fit into the memory of cpu") as caught:
        field.map(limited(32, lambda t: t, []))
    assert caught.value.__context__ is None  # holds no tensors of the failed tile


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), ValueError("no"), MemoryError("python's own")])
def test_other_errors_pass_through(error: Exception) -> None:
    def fail(t: Tensor) -> Tensor:
        raise error

    with pytest.raises(type(error)) as caught:
        Field.of(noise(1, 3, 8, 8), Tiling((4, 4))).map(fail)
    assert caught.value is error


def test_an_impossible_allocation_on_the_cpu_counts_as_out_of_memory() -> None:
    with pytest.raises(OutOfMemoryError):
        Field.of(noise(1, 3, 2, 2), Tiling()).map(lambda t: torch.empty(2**58))


def test_a_map_that_does_not_fit_lies_one_step_down(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> Store:
        raise torch.OutOfMemoryError("CUDA out of memory")

    image, tiling = noise(1, 3, 8, 8), Tiling((4, 4))
    field = Field.of(image, tiling)
    monkeypatch.setattr(Store, "memory", refuse)
    assert same(field.map(lambda t: t + 1).tensor, image + 1)
    assert tiling.storage == "scratch"


def test_maps_go_to_the_host_before_they_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    original, asked = Store.memory, []

    def refuse_once(*arguments: Any) -> Store:
        asked.append(arguments)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(*arguments)

    image, tiling = noise(1, 3, 8, 8), Tiling((4, 4))
    field = Field.of(image, tiling)
    monkeypatch.setattr(Store, "memory", refuse_once)
    assert same(field.map(lambda t: t + 1).tensor, image + 1)
    assert (tiling.storage, len(asked)) == ("host", 2)


def test_a_map_is_freed_with_its_field() -> None:
    field = Field.of(noise(1, 3, 8, 8), Tiling((4, 4))).map(lambda t: t)
    data = weakref.ref(field._store.data)
    field = field.map(lambda t: t)
    assert data() is None


def test_statistics_of_a_map_in_half_precision_are_of_float32() -> None:
    image = noise(1, 3, 16, 16, dtype=torch.float32) + 3
    field = Field.of(image, Tiling((8, 8))).map(lambda t: t.bfloat16())
    moments, kept = field.moments(1e-4), field.tensor.double()
    assert moments.mean.dtype == moments.std.dtype == field.mean().dtype == torch.float32
    assert torch.allclose(moments.mean.double(), kept.mean(), rtol=1e-6)
    assert torch.allclose(moments.std.double() ** 2 - 1e-4, kept.var(correction=0), rtol=1e-5, atol=0)


def test_a_map_of_another_type_does_not_take_the_room_of_one() -> None:
    image = noise(1, 3, 16, 16, dtype=torch.float32)
    half = Field.of(image, Tiling((8, 8))).map(lambda t: t.bfloat16())
    full = half.map(lambda t: t.float() / 3, into=half).tensor
    assert torch.equal(full, image.bfloat16().float() / 3)


@pytest.mark.parametrize("place", [0, 16, 21])
def test_variance_is_exact_where_the_sampled_rows_mislead(place: int) -> None:
    image = noise(1, 3, 33, 8, dtype=torch.float32)
    image[:, :, place] += 1000
    for tile in (None, (8, 8)):
        moments = Field.of(image, Tiling(tile)).moments(0.0)
        variance, centre = torch.var_mean(image.double(), (1, 2, 3), correction=0)
        assert torch.allclose(moments.mean.double(), centre, rtol=1e-6)
        assert torch.allclose(moments.std.double() ** 2, variance, rtol=3e-6)


def test_gradients_pass_through_an_untiled_map() -> None:
    image = noise(1, 2, 4, 6).requires_grad_()

    def fn(image: Tensor) -> Tensor:
        field = Field.of(image, Tiling())
        moments = field.moments(1e-2)
        return field.map(lambda t: (t - moments.mean) / moments.std * field.mean()).tensor

    assert torch.autograd.gradcheck(fn, image)
