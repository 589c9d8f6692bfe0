"""What a format cannot hold is said before anything is computed; what can be chosen is."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from image_samples import picture

import irestore.images
from irestore.errors import UsageError
from irestore.images import (
    FORMATS,
    Metadata,
    SaveOptions,
    check_target,
    default_format,
    encode,
    format_of,
    load,
    save,
    target_format,
)

PLAIN = SaveOptions()


@pytest.mark.parametrize(("name", "side"), [("jpg", 65500), ("webp", 16383), ("avif", 32768), ("gif", 65535)])
def test_sides_are_limited(name: str, side: int) -> None:
    check_target(name, side, 1, False, PLAIN)
    check_target(name, 1, side, False, PLAIN)
    for width, height in ((side + 1, 1), (1, side + 1)):
        with pytest.raises(UsageError, match=rf"{width} x {height} pixels are more than {name} can hold"):
            check_target(name, width, height, False, PLAIN)


@pytest.mark.parametrize(("name", "side"), [("jpg", 65500), ("webp", 16383), ("avif", 32768)])
def test_the_limits_are_true(name: str, side: int) -> None:
    """The encoders do write the largest picture that is allowed."""
    assert encode(picture(1, side), name)


@pytest.mark.parametrize(("name", "width", "height"), [("avif", 16384, 16384), ("bmp", 50_000, 20_000)])
def test_some_have_a_limit_of_area_too(name: str, width: int, height: int) -> None:
    check_target(name, width, height, False, PLAIN)
    with pytest.raises(UsageError, match=f"than {name} can hold"):
        check_target(name, width + 1, height, False, PLAIN)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("pcx", PLAIN, "unknown format 'pcx'; choose one of png, jpg"),
        ("jpg", SaveOptions(depth=16), "jpg is written with 8 bits a sample, not 16"),
        ("avif", SaveOptions(lossless=True), "avif cannot be written without loss"),
        ("jpg", SaveOptions(lossless=True), "jpg cannot be written without loss"),
        ("webp", SaveOptions(quality=0), "quality 0 is not in 1..100"),
        ("webp", SaveOptions(quality=101), "quality 101 is not in 1..100"),
        ("png", SaveOptions(background="sky"), "'sky' is no colour"),
    ],
)
def test_choices_that_make_no_sense(name: str, options: SaveOptions, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_target(name, 8, 8, False, options)
    with pytest.raises(UsageError, match=message):
        encode(picture(8, 8), name, options)


def test_transparency_needs_a_place() -> None:
    for name, known in FORMATS.items():
        if known.alpha and (name != "jxl" or find_spec("pillow_jxl")):
            check_target(name, 8, 8, True, PLAIN)
    with pytest.raises(UsageError, match="jpg has no transparency"):
        check_target("jpg", 8, 8, True, PLAIN)
    check_target("jpg", 8, 8, True, SaveOptions(background="white"))


def test_formats_by_suffix() -> None:
    expected = {"a.PNG": "png", "b.jpeg": "jpg", "c.tif": "tiff", "d.tiff": "tiff", "e.webp": "webp", "f": None}
    assert {name: format_of(name) for name in expected} == expected
    assert format_of(Path("folder.png") / "file") is None
    assert target_format("a.png", SaveOptions(format="jpg")) == "jpg"
    with pytest.raises(UsageError, match=r"a\.pcx: the suffix names no format that can be written; use one of \.png"):
        target_format("a.pcx", PLAIN)


@pytest.mark.parametrize(
    ("source", "frames", "target"),
    [
        ("jpg", 1, "jpg"),
        ("bmp", 1, "png"),
        ("ppm", 1, "png"),
        ("heif", 1, "png"),
        ("gif", 1, "png"),
        ("gif", 5, "gif"),
        ("tiff", 3, "tiff"),
    ],
)
def test_default_format(source: str, frames: int, target: str) -> None:
    assert default_format(source, frames) == target


def test_a_comment_that_jpeg_cannot_hold_is_dropped_with_a_word(tmp_path: Path) -> None:
    given = picture(8, 8, metadata=Metadata(comment=b"a" * 70_000))
    notes = save(given, tmp_path / "a.jpg")
    assert notes == ("its comment is larger than jpg can hold and was not kept",)
    assert load(tmp_path / "a.jpg").metadata.comment is None
    assert save(given, tmp_path / "a.gif") == ()
    assert load(tmp_path / "a.gif").metadata.comment == b"a" * 70_000


def test_quality_is_quality() -> None:
    for name in ("jpg", "webp", "avif"):
        low, high = (encode(picture(64, 64), name, SaveOptions(quality=q)) for q in (20, 95))
        assert len(low) < len(high)


def test_every_public_name_is_there() -> None:
    for name in irestore.images.__all__:
        assert getattr(irestore.images, name) is not None
    assert set(irestore.images.__all__) <= set(dir(irestore.images))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = irestore.images.nothing


def test_options_and_names_need_neither_numpy_nor_pillow() -> None:
    code = (
        "import sys, irestore.images as images; images.SaveOptions(); images.LoadOptions(); images.FORMATS;"
        "images.check_target('png', 1, 1, False, images.SaveOptions());"
        "assert not {'numpy', 'PIL', 'torch'} & set(sys.modules)"
    )
    root = Path(irestore.images.__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(root)})
