"""The page of `irestore compare` in a real browser."""

import io
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from browser import CHROMIUM, Browser
from image_samples import noise
from PIL import Image

from irestore.compare import Shown, save_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
INTERACTIVE_SECONDS = 10  # of a page with a picture of 50 megapixels; on a quiet machine it takes less than 1
DECODED_SECONDS = 30  # until both are to be seen; about 2
STEP_SECONDS = 3
HOSTILE = '"><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def pictures() -> list[Shown]:
    large = noise(300, 400, 3)
    return [Shown("before", large[::4, ::4]), Shown(HOSTILE, large, "PNG", "-m fast"), Shown("third", large[::2, ::2])]


@pytest.fixture
def page(browser: Browser, pictures: list[Shown], tmp_path: Path) -> Iterator[Browser]:
    save_page(tmp_path / "a.html", "compare", [("one", pictures), ("two", pictures[:2])], overwrite=False)
    browser.errors.clear()
    browser.open(tmp_path / "a.html")
    yield browser
    assert browser.errors == []
    assert browser.run("window.hacked") is None


def divider(page: Browser) -> int:
    return int(page.run("+document.querySelector('[role=slider]').getAttribute('aria-valuenow')"))


def shown(page: Browser) -> list[str]:
    """The names of the pictures that are to be seen: on the left and on the right, or all."""
    figures = "[...document.querySelectorAll('.scene:not([hidden]) figure:not([hidden])')]"
    names = page.run(f"{figures}.sort((a, b) => (a.className > b.className) - (a.className < b.className))"
                     ".map(figure => figure.querySelector('img').alt)")  # fmt: skip
    assert isinstance(names, list)
    return names


def pixels(page: Browser) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)


def is_blocks(seen: np.ndarray) -> bool:
    """Whether it is made of squares of 4 x 4 equal pixels."""
    return bool((seen == seen[::4, ::4].repeat(4, axis=0).repeat(4, axis=1)).all())


def test_the_divider_follows_mouse_touch_and_keys(page: Browser, pictures: list[Shown]) -> None:
    assert divider(page) == 50
    page.drag((640, 400), (440, 400))
    moved = divider(page)
    assert moved < 35
    page.key("ArrowRight")
    assert divider(page) == moved + 2
    page.call("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": 700, "y": 300}])
    page.call("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": 900, "y": 300}])
    page.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.painted()
    assert divider(page) > 70
    page.key("End")
    assert divider(page) == 100
    page.run("document.getElementById('zooms').children[1].click()")  # 1:1: the first picture is all that is seen
    page.painted()
    colours = {tuple(colour) for colour in pictures[0].samples.reshape(-1, 3).tolist()}
    assert {tuple(colour) for colour in pixels(page)[350:440, 560:720].reshape(-1, 3).tolist()} <= colours


def test_at_4_to_1_every_pixel_is_a_sharp_square_and_dragging_moves_the_picture(
    page: Browser, pictures: list[Shown]
) -> None:
    page.run("document.getElementById('zooms').children[3].click()")
    page.key("Home")  # only the right picture
    page.painted()
    seen = pixels(page)[200:600, 100:900]
    corner = next((y, x) for y in range(4) for x in range(4) if is_blocks(seen[y : y + 384, x : x + 784]))
    block = seen[corner[0] :: 4, corner[1] :: 4][:90, :190]
    large = pictures[1].samples.astype(int)
    places = [(y, x) for y in range(211) for x in range(211) if (large[y, x] == block[0, 0]).all()]
    (top, left) = next((y, x) for y, x in places if (large[y : y + 90, x : x + 190] == block).all())
    page.drag((900, 500), (900 - 40, 500 - 80))
    moved = pixels(page)[200:600, 100:900][corner[0] :: 4, corner[1] :: 4][:80, :180]
    assert (moved == large[top + 20 : top + 100, left + 10 : left + 190]).all()


def test_zoom_by_wheel_keys_and_buttons(page: Browser) -> None:
    zoom = "document.getElementById('zoom').textContent"
    fit = page.run(zoom)
    page.key("z")
    assert page.run(zoom) == "1:1"
    page.key("+")
    assert page.run(zoom) == "2:1"
    page.run("document.getElementById('zooms').children[3].click()")
    page.painted()
    assert page.run(zoom) == "4:1"
    page.mouse("mouseWheel", 500, 400, deltaX=0, deltaY=120)
    page.painted()
    assert page.run(zoom) == fit  # between 4:1 and 2:1
    page.key("-")
    assert page.run(zoom) == "2:1"
    page.key("f")
    assert page.run(zoom) == fit


def test_any_two_are_under_the_slider_or_all_side_by_side_at_the_same_place(page: Browser) -> None:
    assert shown(page) == ["before", HOSTILE]
    page.key("3", "Digit3")
    assert shown(page) == ["before", "third"]
    page.key("@", "Digit2", shift=True)
    assert shown(page) == [HOSTILE, "third"]
    page.key("x")
    assert shown(page) == ["third", HOSTILE]
    page.key("v")
    page.key("z")
    page.drag((300, 300), (250, 260))
    assert set(shown(page)) == {"before", HOSTILE, "third"}
    styles = "[...document.querySelectorAll('.scene:not([hidden]) img')].map(img => img.style.cssText)"
    assert len(set(page.run(styles))) == 1
    page.key(".")
    assert set(shown(page)) == {"before", HOSTILE}
    assert page.run("document.querySelector('#cards code').textContent") == "-m fast"


def test_the_legend_opens_and_closes_by_keys_and_everything_has_a_name(page: Browser) -> None:
    page.key("?")
    assert page.run("document.querySelector('dialog').open")
    assert page.run("document.activeElement.textContent") == "Close"
    page.key("Escape")
    assert not page.run("document.querySelector('dialog').open")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    tree = [node for node in tree if not node.get("ignored")]
    roles = ("button", "slider", "combobox", "image", "dialog", "main", "status")
    nameless = [node for node in tree if node["role"]["value"] in roles and not node["name"]["value"]]
    assert nameless == []
    assert {"slider", "combobox", "image", "main"} <= {node["role"]["value"] for node in tree}


def test_light_and_dark_differ(page: Browser, tmp_path: Path) -> None:
    luminance = []
    for scheme in ("light", "dark"):
        page.open(tmp_path / "a.html", prefers_color_scheme=scheme)
        luminance.append(pixels(page)[[5, 60, 790]].mean())
    assert luminance[0] > 180 > 80 > luminance[1]


def test_50_megapixels_do_not_freeze_it(browser: Browser, tmp_path: Path) -> None:
    rows, columns = np.ogrid[:6144, :8192]
    plane = ((rows * columns) >> 12).astype(np.uint8)
    before = np.dstack([plane, plane[::-1], plane[:, ::-1]])
    save_page(
        tmp_path / "large.html", "compare", [("", [Shown("a", before[::4, ::4]), Shown("b", before)])], overwrite=True
    )
    assert browser.open(tmp_path / "large.html") < INTERACTIVE_SECONDS
    deadline = time.monotonic() + DECODED_SECONDS
    while min(pixels(browser)[300:500, columns].std() for columns in (slice(400, 600), slice(700, 900))) < 20:
        assert time.monotonic() < deadline
    browser.key("z")
    for act in (
        lambda: browser.key("ArrowRight"),
        lambda: browser.drag((900, 500), (700, 300)),
        lambda: browser.key("+"),
        lambda: browser.key("f"),
    ):
        act()
        assert browser.painted() < STEP_SECONDS
    assert browser.errors == []
    assert divider(browser) == 52
    assert math.isclose(browser.run("scale()"), browser.run("fitting()"))
