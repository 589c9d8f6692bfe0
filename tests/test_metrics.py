"""PSNR and SSIM against their definitions and against scikit-image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from irestore import metrics

COFFEE = data.coffee()[:120, 40:200]


def noisy(image: np.ndarray, sigma: float) -> np.ndarray:
    random = np.random.default_rng(1)
    return np.clip(np.round(image + random.normal(0, sigma, image.shape)), 0, 255).astype(np.uint8)


def test_luma_is_that_of_bt_601_in_studio_range():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    assert metrics.luma(colours)[0] == pytest.approx([16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966])
    grey = np.array([[0, 100, 255]], np.uint8)
    assert metrics.luma(grey) == pytest.approx(metrics.luma(np.repeat(grey[..., None], 3, axis=2)))


@pytest.mark.parametrize("sigma", [1, 10, 40])
def test_psnr_is_scikit_image_s(sigma):
    damaged = noisy(COFFEE, sigma)
    expected = peak_signal_noise_ratio(COFFEE[4:-4, 4:-4], damaged[4:-4, 4:-4], data_range=255)
    assert metrics.psnr(damaged, COFFEE, border=4) == pytest.approx(expected, abs=1e-9)


@given(st.integers(1, 254))
def test_a_difference_of_one_level_everywhere_is_48_13_db(level):
    image = np.full((9, 7, 3), level, np.uint8)
    assert metrics.psnr(image, image + 1) == pytest.approx(20 * np.log10(255))
    assert metrics.psnr(image, image) == float("inf")


@pytest.mark.parametrize("sigma", [1, 10, 40])
@pytest.mark.parametrize("border", [0, 3])
def test_ssim_is_scikit_image_s(sigma, border):
    damaged = noisy(COFFEE, sigma)
    inner = (slice(border, -border or None),) * 2
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    colour = structural_similarity(COFFEE[inner], damaged[inner], channel_axis=2, **settings)
    assert metrics.ssim(COFFEE, damaged, border=border) == pytest.approx(colour, abs=1e-7)
    luma = [metrics.luma(image)[inner] for image in (COFFEE, damaged)]
    grey = structural_similarity(*luma, **settings)
    assert metrics.ssim(*map(metrics.luma, (COFFEE, damaged)), border=border) == pytest.approx(grey, abs=1e-7)


def test_ssim_of_equal_pictures_is_one_and_falls_with_damage():
    scores = [metrics.ssim(COFFEE, noisy(COFFEE, sigma)) for sigma in (0, 5, 20, 80)]
    assert scores[0] == pytest.approx(1, abs=1e-12)
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize("score", [metrics.psnr, metrics.ssim])
def test_pictures_of_different_size_are_refused(score):
    with pytest.raises(ValueError, match=r"\(120, 160, 3\) and \(119, 160, 3\)"):
        score(COFFEE, COFFEE[1:])


def test_ssim_needs_eleven_pixels_inside_the_border():
    small = COFFEE[:18, :30]
    with pytest.raises(ValueError, match="10x22"):
        metrics.ssim(small, small, border=4)
    assert metrics.ssim(small, small, border=3) == pytest.approx(1)
