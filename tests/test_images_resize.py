"""A picture made smaller: exact, in full precision, with nothing drawn in from where it is transparent."""

import dataclasses

import numpy as np
import pytest
from image_samples import picture

from irestore.images import reduced


@pytest.mark.parametrize("size", [(24, 31), (23, 31), (1, 1), (7, 30)])
def test_a_reduced_picture_has_the_size_and_stays_what_it_is(size: tuple[int, int]) -> None:
    before = picture(24, 31, grey=True, pixels=np.full((24, 31, 3), 0.3, np.float32))
    after = reduced(before, *size)
    assert after.pixels.shape == (*size, 3)
    assert after.pixels.dtype == np.float32
    assert np.abs(after.pixels - np.float32(0.3)).max() < 1e-6
    assert dataclasses.replace(after, pixels=before.pixels, alpha=None, metadata=before.metadata) == before


def test_a_slope_keeps_its_values_and_fine_lines_become_grey() -> None:
    slope = np.linspace(0.1, 0.9, 400, dtype=np.float32)[None, :, None].repeat(60, 0).repeat(3, 2)
    small = reduced(picture(60, 400, pixels=slope), 30, 200).pixels
    expected = slope[::2].reshape(30, 200, 2, 3).mean(axis=2)
    assert np.abs(small - expected)[:, 8:-8].max() < 1e-5
    lines = np.zeros((60, 60, 3), np.float32)
    lines[::2] = 1
    assert np.abs(reduced(picture(60, 60, pixels=lines), 20, 20).pixels - 0.5)[2:-2].max() < 0.05


def test_hidden_colours_do_not_bleed_into_the_edge() -> None:
    alpha = np.zeros((40, 40), np.float32)
    alpha[:, 20:] = 1
    pixels = alpha[..., None].repeat(3, axis=2) * np.float32(0.7)
    small = reduced(picture(40, 40, pixels=pixels, alpha=alpha), 17, 17)
    assert small.alpha is not None
    assert np.abs(small.pixels[small.alpha > 0.01] - 0.7).max() < 1e-5
    assert 0 <= small.alpha.min() <= small.alpha.max() <= 1
