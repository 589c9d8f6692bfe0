"""Transparency: colours nobody sees do not bleed, alpha grows without halos, a background is put behind exactly."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_samples import picture

from irestore.errors import UsageError
from irestore.images import Picture, SaveOptions, encode, fill_transparent, load, resize_alpha


def cut_out(height: int = 24, width: int = 31) -> Picture:
    """An orange disc on black that is wholly transparent, as painting programs leave it."""
    rows, columns = np.mgrid[:height, :width]
    inside = (rows - 11) ** 2 + (columns - 14) ** 2 < 64
    pixels = np.where(inside[..., None], np.float32([1, 0.5, 0.1]), np.float32(0)).astype(np.float32)
    return picture(height, width, pixels=pixels, alpha=inside.astype(np.float32))


def test_hidden_colours_come_from_their_neighbours() -> None:
    filled = fill_transparent(cut_out())
    assert np.abs(filled.pixels - np.float32([1, 0.5, 0.1])).max() < 1e-6, "one colour is seen, so it is everywhere"


@given(seed=st.integers(0, 1000), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=60, deadline=None)
def test_filling_touches_only_what_is_hidden_and_invents_nothing(seed: int, height: int, width: int) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.random((height, width, 3), np.float32)
    alpha = (rng.random((height, width), np.float32) * (rng.random((height, width)) < 0.3)).astype(np.float32)
    before = picture(height, width, pixels=pixels, alpha=alpha)
    after = fill_transparent(before)
    seen = alpha > 0
    assert np.array_equal(after.pixels[seen], pixels[seen])
    assert after.alpha is before.alpha
    assert after.pixels.dtype == np.float32
    if seen.any():
        low, high = pixels[seen].min(axis=0) - 1e-5, pixels[seen].max(axis=0) + 1e-5
        assert ((after.pixels >= low) & (after.pixels <= high)).all()


def test_nothing_to_fill_costs_nothing() -> None:
    opaque, hidden = np.ones((3, 4), np.float32), np.zeros((3, 4), np.float32)
    for alpha in (None, opaque, hidden):
        before = picture(3, 4, alpha=alpha)
        assert fill_transparent(before) is before


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_alpha_grows(scale: int) -> None:
    alpha = cut_out().alpha
    assert alpha is not None
    grown = resize_alpha(alpha, 24 * scale, 31 * scale)
    assert grown.shape == (24 * scale, 31 * scale)
    assert grown.dtype == np.float32
    assert 0 <= grown.min() < 1e-6
    assert 1 - 1e-6 < grown.max() <= 1
    centre = grown[11 * scale : 12 * scale, 14 * scale : 15 * scale]
    assert centre.min() > 1 - 1e-6
    means = grown.reshape(24, scale, 31, scale).mean(axis=(1, 3))
    assert np.abs(means - alpha).mean() < 0.02


def test_alpha_has_no_second_outline() -> None:
    """Three pixels away from an edge it is 0 or 1 exactly: no ringing that shows as a ghost of the outline."""
    edge = np.zeros((8, 32), np.float32)
    edge[:, 16:] = 1
    grown = resize_alpha(edge, 32, 128)
    assert (grown[:, : 4 * 13] == 0).all()
    assert (grown[:, 4 * 19 :] == 1).all()


@pytest.mark.parametrize("value", [0, 0.3, 1])
def test_constant_alpha_stays_that_constant(value: float) -> None:
    grown = resize_alpha(np.full((5, 6), value, np.float32), 15, 18)
    assert grown.shape == (15, 18)
    assert (grown == np.float32(value)).all()


def test_background_is_put_behind() -> None:
    alpha = np.float32([[0, 0.5, 1]])
    pixels = np.broadcast_to(np.float32([0.2, 0.4, 0.6]), (1, 3, 3)).copy()
    found = load_png(picture(1, 3, pixels=pixels, alpha=alpha), SaveOptions(background="#ff0000"))
    assert found.alpha is None
    expected = np.float32([[[1, 0, 0], [0.6, 0.2, 0.3], [0.2, 0.4, 0.6]]])
    assert np.abs(found.pixels - expected).max() < 0.6 / 255


def test_grey_over_grey_stays_grey() -> None:
    grey = picture(4, 4, grey=True, pixels=np.full((4, 4, 3), 0.5, np.float32), alpha=np.full((4, 4), 0.5, np.float32))
    assert load_png(grey, SaveOptions(background="white")).grey
    assert not load_png(grey, SaveOptions(background="red")).grey


def load_png(given: Picture, options: SaveOptions) -> Picture:
    import io

    return load(io.BytesIO(encode(given, "png", options)))


def test_jpeg_needs_a_background_where_something_shines_through() -> None:
    with pytest.raises(UsageError, match="jpg has no transparency, the picture has; give it a --background"):
        encode(cut_out(), "jpg")
    assert encode(cut_out(), "jpg", SaveOptions(background="white"))
    opaque = dataclasses.replace(cut_out(), alpha=np.ones((24, 31), np.float32))
    assert not opaque.transparent
    assert encode(opaque, "jpg")
