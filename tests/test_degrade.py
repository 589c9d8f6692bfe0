"""Bicubic resizing against its definition and MATLAB; noise, JPEG, blur and rain against what they should be."""

import numpy as np
import pytest
from bench import bench_folder
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from irestore import degrade, metrics
from training import kernels
from training.blur import Blur
from training.degrade import Jpeg, Noise, build
from training.pixels import LINEAR, camera_noise, compress, from_linear, to_linear
from training.rain import Rain

CAT = np.ascontiguousarray(data.chelsea()[60:188, 120:248])  # 128 x 128
FLAT = np.full((128, 128, 3), 120, np.uint8)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


# --- bicubic


def bicubic_matrix(size: int, scale: float) -> np.ndarray:
    """The definition: output pixel x lies at (x + 1/2) / scale - 1/2; input pixels, mirrored for ever, are weighed."""
    stretch = max(1.0, 1 / scale)
    matrix = np.zeros((round(size * scale), size))
    for row in range(len(matrix)):
        centre = (row + 0.5) / scale - 0.5
        for tap in range(-4 * size, 5 * size):
            x = abs(centre - tap) / stretch
            weight = 0.0
            if x <= 1:
                weight = 1.5 * x**3 - 2.5 * x**2 + 1
            elif x <= 2:
                weight = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
            folded = tap % (2 * size)
            matrix[row, folded if folded < size else 2 * size - 1 - folded] += weight
    return matrix / matrix.sum(1, keepdims=True)


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("size", [(24, 36), (12, 12), (4, 5)])
def test_resizing_floats_is_the_definition(factor, size):
    image = generator().uniform(0, 255, (*size, 2))
    for scale, resize in ((factor, degrade.enlarge), (1 / factor, degrade.shrink)):
        cut = degrade.cut_to_multiple(image, factor) if scale < 1 else image
        rows, columns = (bicubic_matrix(side, scale) for side in cut.shape[:2])
        assert np.allclose(resize(image, factor), np.einsum("yh,xw,hwc->yxc", rows, columns, cut), atol=1e-9)


def test_enlarging_an_impulse_twice_shows_keys_weights():
    impulse = np.zeros((9, 9))
    impulse[:, 4] = 128
    assert degrade.enlarge(impulse, 2)[6, 5:13] == pytest.approx([-3, -9, 29, 111, 111, 29, -9, -3])


@given(st.integers(0, 255), st.integers(2, 4))
def test_a_flat_picture_stays_flat(level, factor):
    image = np.full((12, 24), level, np.uint8)
    assert (degrade.shrink(image, factor) == level).all()
    assert (degrade.enlarge(image, factor) == level).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_resizing_commutes_with_turning_over(factor):
    image = CAT[:120, :96].astype(float)
    for resize in (degrade.shrink, degrade.enlarge):
        assert np.allclose(resize(image[::-1, ::-1], factor), resize(image, factor)[::-1, ::-1])


def test_bytes_are_rounded_half_up_after_each_direction():
    image = np.zeros((2, 2), np.uint8)
    image[0, 0] = 201
    rows = np.floor(np.clip(bicubic_matrix(2, 0.5) @ image, 0, 255) + 0.5)
    assert degrade.shrink(image, 2) == np.floor(bicubic_matrix(2, 0.5) @ rows.T + 0.5)
    assert degrade.shrink(CAT, 4).dtype == np.uint8


@pytest.mark.parametrize("name", ["Set5", "Set14"])
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_shrinking_is_matlab_s_bit_for_bit(name, factor):
    folder = bench_folder(f"{name}/HR_x{factor}")
    for path in sorted(folder.glob("*.png")):
        small = np.asarray(Image.open(folder.with_name(f"LR_x{factor}") / path.name))
        assert np.array_equal(degrade.shrink(np.asarray(Image.open(path)), factor), small), path.name


PUBLISHED = {  # bicubic, PSNR on Y: SRCNN and every paper since
    ("Set5", 2): 33.66, ("Set5", 3): 30.39, ("Set5", 4): 28.42,
    ("Set14", 2): 30.24, ("Set14", 3): 27.55, ("Set14", 4): 26.00,
}  # fmt: skip


@pytest.mark.parametrize(("name", "factor"), list(PUBLISHED))
def test_bicubic_has_the_published_psnr_in_the_papers_own_procedure(name, factor):
    scores = []
    for path in sorted(bench_folder(f"{name}/HR_x{factor}").glob("*.png")):
        image = np.asarray(Image.open(path))
        clean = np.round(metrics.luma(image)) if image.ndim == 3 else image.astype(float)  # rgb2ycbcr of bytes
        result = np.clip(np.round(degrade.enlarge(degrade.shrink(clean, factor), factor)), 0, 255)
        scores.append(metrics.psnr(result, clean, border=factor))
    assert np.mean(scores) == pytest.approx(PUBLISHED[name, factor], abs=0.01)


# --- noise


def test_noise_has_the_deviation_asked_for_and_repeats():
    image = np.full((200, 200, 3), 0.5, np.float32)
    noise = degrade.add_noise(image, 25 / 255, generator()) - image
    assert noise.std() * 255 == pytest.approx(25, rel=0.01)
    assert abs(noise.mean()) * 255 < 0.3
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.02
    assert np.array_equal(noise, degrade.add_noise(image, 25 / 255, generator()) - image)
    assert not np.array_equal(noise, degrade.add_noise(image, 25 / 255, generator(1)) - image)


def test_blind_noise_covers_its_range_evenly():
    damage = Noise(sigma=(0, 50), camera=0, clean=0, rounded=0)
    random = generator()
    levels = [float((damage(FLAT, random) - FLAT.astype(np.float32)).std()) for _ in range(200)]
    assert min(levels) < 3
    assert 47 < max(levels) < 51
    assert np.mean(levels) == pytest.approx(25, abs=3)


def test_camera_noise_grows_with_the_light_as_asked():
    shot, read = 4e-3, 1e-4
    for level in (60, 120, 200):
        image = np.full((300, 300), level, np.uint8)
        light = LINEAR[camera_noise(image, shot, read, generator())]
        assert light.var() == pytest.approx(shot * LINEAR[level] + read, rel=0.08)
        assert light.mean() == pytest.approx(LINEAR[level], rel=0.03)


def test_coarse_camera_noise_has_equal_strength_and_like_neighbours():
    image = np.full((300, 300), 150, np.uint8)
    fine = camera_noise(image, 1e-3, 1e-5, generator()).astype(float)
    coarse = camera_noise(image, 1e-3, 1e-5, generator(), kernels.disc(0.6, 1)).astype(float)
    assert coarse.std() == pytest.approx(fine.std(), rel=0.05)
    alike = [np.corrcoef(noise[:, 1:].ravel(), noise[:, :-1].ravel())[0, 1] for noise in (fine, coarse)]
    assert abs(alike[0]) < 0.02
    assert alike[1] > 0.1


def test_light_and_srgb_are_inverse():
    levels = np.arange(256) / 255
    assert from_linear(to_linear(levels)) == pytest.approx(levels, abs=1e-5)
    assert to_linear(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 0.21404, 1], abs=1e-5)


# --- JPEG


def test_jpeg_is_pillow_s_and_worse_at_lower_quality():
    errors = [np.abs(compress(CAT, quality).astype(float) - CAT).mean() for quality in (5, 20, 50, 95)]
    assert errors == sorted(errors, reverse=True)
    once = Jpeg(quality=(10, 10), double=0, shifted=0, full_chroma=0, clean=0)(CAT, generator())
    assert np.array_equal(once, compress(CAT, 10))


def test_shifted_jpeg_has_its_grid_elsewhere_and_leaves_only_the_margin_untouched():
    damage = Jpeg(quality=(5, 5), double=0, shifted=1, full_chroma=1, clean=0)
    shifts = set()
    for seed in range(20):
        result = damage(CAT[..., 1].copy(), generator(seed)).astype(float)
        inside = slice(damage.margin, -damage.margin)
        assert (result[inside, inside] != CAT[inside, inside, 1]).mean() > 0.5
        steps = np.abs(np.diff(result[inside, inside], axis=1)).mean(axis=0)  # largest across the borders of blocks
        shifts.add(int(np.argmax([steps[phase::8].mean() for phase in range(8)])))
    assert len(shifts) > 4


def test_double_jpeg_is_not_single_jpeg():
    single, double = (Jpeg(quality=(20, 20), double=share, shifted=0, clean=0) for share in (0, 1))
    assert not np.array_equal(single(CAT, generator()), double(CAT, generator()))


# --- blur


@given(st.floats(0.5, 10))
def test_a_disc_is_round_and_as_large_as_its_radius(radius):
    kernel = kernels.disc(radius, 12)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert np.allclose(kernel, kernel.T)
    assert np.allclose(kernel, kernel[::-1])
    area = 1 / kernel.max()
    assert area == pytest.approx(np.pi * radius**2, rel=0.25 if radius > 1.5 else 0.7)


@given(st.floats(0, np.pi), st.floats(5, 20))
def test_a_line_has_its_length_and_angle(angle, length):
    kernel = kernels.line(length, angle, 1, 15)
    y, x = np.mgrid[-15:16, -15:16]
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    along = x * np.cos(angle) - y * np.sin(angle)
    across = x * np.sin(angle) + y * np.cos(angle)
    assert np.sqrt((kernel * along**2).sum()) == pytest.approx(length / 12**0.5, rel=0.12)
    assert np.sqrt((kernel * across**2).sum()) < 0.8


@given(st.integers(0, 1000), st.floats(1, 24))
def test_a_shaken_path_keeps_the_light_and_its_centre(seed, length):
    kernel = kernels.shake(length, 15, generator(seed))
    axis = np.arange(-15, 16)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    assert kernel.min() >= 0
    assert abs((kernel.sum(0) * axis).sum()) < 0.5
    spread = np.sqrt((kernel * (axis[:, None] ** 2 + axis**2)).sum())
    assert 0.2 < spread <= length / 12**0.5 + 1


@pytest.mark.parametrize("shape", [(40, 33), (40, 33, 3)])
@pytest.mark.parametrize("reach", [1, 4])
def test_convolution_is_the_sum_over_the_kernel(shape, reach):
    image = generator().uniform(0, 1, shape)
    kernel = kernels.shake(3, reach, generator(1))
    expected = np.zeros(shape)
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            expected += kernel[y + reach, x + reach] * np.roll(image, (y, x), (0, 1))
    assert np.allclose(kernels.convolve(image, kernel), expected, atol=1e-5)


def test_an_even_motion_is_the_line_it_follows_and_a_turn_keeps_the_middle():
    spot = np.zeros((65, 65), np.float32)
    spot[32, 32] = spot[32, 58] = 1
    moved = kernels.sweep(spot, (0.0, 10.0), 0.0, 0.0)
    assert moved[32, 27:38].min() > 0.05
    assert moved[31:34, 26:39].sum() == pytest.approx(1, abs=0.05)
    turned = kernels.sweep(spot, (0.0, 0.0), 0.0, 0.2)
    assert turned[32, 32] == pytest.approx(1, abs=1e-3)
    rows, columns = np.nonzero(turned[:, 40:] > 0.01)
    assert np.ptp(rows) >= 5 > np.ptp(columns)
    nearer = kernels.sweep(spot, (0.0, 0.0), 0.2, 0.0)
    rows, columns = np.nonzero(nearer[:, 40:] > 0.01)
    assert np.ptp(columns) >= 5 > np.ptp(rows)
    flat = np.full((20, 30, 3), 0.4, np.float32)
    np.testing.assert_allclose(kernels.sweep(flat, (3.0, -5.0), 0.04, 0.04), flat, atol=1e-6)


def test_blur_in_linear_light_spreads_bright_spots_further():
    spot = np.zeros((128, 128), np.uint8)
    spot[64, 64] = 255
    dark, bright = (
        Blur(motion=0, radius=(3, 3), linear=share, sigma=(0, 0), compressed=0, clean=0)(spot, generator())
        for share in (0, 1)
    )
    assert bright.max() > 3 * dark.max() > 0


def test_blur_is_local_within_its_margin():
    damage = Blur(sigma=(0, 0), compressed=0, clean=0)
    inside = slice(damage.margin, -damage.margin)
    for seed in range(5):
        other = CAT.copy()
        other[0, 0] = ~other[0, 0]
        results = [damage(image, generator(seed))[inside, inside].astype(int) for image in (CAT, other)]
        assert np.abs(results[0] - results[1]).max() <= 1


# --- rain


def test_rain_is_bright_streaks_of_the_direction_asked_for():
    upright = Rain(
        layers=(1, 1), angle=(0, 0), length=(30, 30), width=(1, 1), density=(2e-3, 2e-3), screen=0, veil=0, clean=0
    )
    rain = upright(FLAT, generator()).astype(float) - 120
    assert rain.min() >= 0
    assert 0.02 < (rain > 5).mean() < 0.2
    assert np.allclose(rain[..., 0], rain[..., 2])
    plane = rain[..., 0]
    down, across = np.abs(np.diff(plane, axis=0)).mean(), np.abs(np.diff(plane, axis=1)).mean()
    assert across > 3 * down


def test_rain_reaches_the_strength_of_the_heavy_sets():
    random = generator()
    damage = build({"name": "rain", "clean": 0.0})
    scores = [metrics.psnr(damage(CAT, random), CAT) for _ in range(60)]
    assert min(scores) < 13 < np.median(scores) < 25 < max(scores)


def test_a_sheet_of_rain_runs_along_its_direction_and_covers_more():
    settings = {"layers": (1, 1), "angle": (0, 0), "length": (30, 30), "width": (1, 1), "veil": 0.0, "clean": 0.0}
    sheet = Rain(**settings, sheets=1)(FLAT, generator()).astype(float)[..., 0] - 120
    assert sheet.min() >= 0
    assert (sheet > 5).mean() > 0.05
    assert np.abs(np.diff(sheet, axis=1)).mean() > 3 * np.abs(np.diff(sheet, axis=0)).mean()


# --- all


@pytest.mark.parametrize("name", ["noise", "jpeg", "blur", "rain"])
@pytest.mark.parametrize("image", [CAT, CAT[..., 1].copy()], ids=["colour", "grey"])
def test_every_degradation_keeps_shape_repeats_and_leaves_its_share_clean(name, image):
    damage = build({"name": name, "clean": 0.3})
    results = [damage(image, generator(seed)) for seed in range(60)]
    assert all(result.shape == image.shape for result in results)
    assert all(result.dtype in (np.uint8, np.float32) for result in results)
    assert np.array_equal(results[7], damage(image, generator(7)))
    assert 5 < sum(np.array_equal(result, image) for result in results) < 35
    assert np.array_equal(image, CAT if image.ndim == 3 else CAT[..., 1])  # the input is left alone


def test_a_config_names_what_it_does_not_know():
    assert build({"name": "jpeg", "quality": [10, 20]}) == Jpeg(quality=(10, 20))
    with pytest.raises(ValueError, match="'fog' is unknown: must be one of noise, jpeg, blur, rain"):
        build({"name": "fog"})
    with pytest.raises(ValueError, match="'rain' has no sigma; known: angle,"):
        build({"name": "rain", "sigma": [0, 1]})
