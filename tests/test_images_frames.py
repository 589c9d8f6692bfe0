"""Animations and pages come back whole, in order and in time; a single picture is never taken from them in silence."""

import io
from pathlib import Path

import numpy as np
import pytest
from image_samples import noise, picture
from PIL import Image

from irestore.errors import ReadError, UsageError, WriteError
from irestore.images import LoadOptions, Metadata, Picture, SaveOptions, load, load_frames, probe, save, save_frames

ALL, FIRST = LoadOptions(frames="all"), LoadOptions(frames="first")
DURATIONS = (40, 100, 250)
ANIMATED = ("png", "webp", "gif", "avif")
EXACT = ("png", "webp", "tiff")


def frames(alpha: bool = False, grey: bool = False) -> list[Picture]:
    shades = [np.full((12, 16, 3), value, np.float32) for value in (0.2, 0.6, 1.0)]
    planes = [np.ones((12, 16), np.float32) for _ in shades]
    for i, plane in enumerate(planes):
        plane[:, : 4 * i + 2] = 0
    if not grey:
        for i, shade in enumerate(shades):
            shade[..., i] = 0
    return [
        picture(
            12, 16, pixels=shade, grey=grey, alpha=plane if alpha else None, metadata=Metadata(duration=time, loop=3)
        )
        for shade, plane, time in zip(shades, planes, DURATIONS, strict=True)
    ]


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("name", ANIMATED)
def test_animations_come_back_with_their_timing(tmp_path: Path, name: str, alpha: bool) -> None:
    path = tmp_path / f"clip.{name}"
    given = frames(alpha)
    save_frames(iter(given), path, SaveOptions(lossless=True if name in EXACT else None))
    assert probe(path).frames == 3
    found = list(load_frames(path, ALL))
    assert [frame.metadata.duration for frame in found] == list(DURATIONS)
    if name != "avif":  # which has no place for a count
        assert {frame.metadata.loop for frame in found} == {3}
    for before, after in zip(given, found, strict=True):
        seen = before.alpha > 0 if before.alpha is not None else np.ones((12, 16), bool)
        assert np.abs(after.pixels - before.pixels)[seen].max() < (0.5 / 255 if name != "avif" else 0.1)
        if alpha:
            assert after.alpha is not None
            assert np.array_equal(after.alpha > 0.5, before.alpha)


def test_pages_come_back_each_as_it_was(tmp_path: Path) -> None:
    """Pages differ in size, depth and kind."""
    given = [
        picture(5, 7, metadata=Metadata(dpi=(300, 300), icc=b"not read here" * 20)),
        picture(9, 4, depth=16, alpha=np.full((9, 4), 0.5, np.float32)),
        picture(6, 6, grey=True, pixels=np.full((6, 6, 3), 0.5, np.float32)),
    ]
    path = tmp_path / "pages.tif"
    save_frames(given, path)
    assert probe(path).frames == 3
    found = list(load_frames(path, ALL))
    for before, after in zip(given, found, strict=True):
        assert (after.depth, after.grey) == (before.depth, before.grey)
        assert np.abs(after.pixels - before.pixels).max() < 0.51 / (2**before.depth - 1) + 1e-6
    assert found[0].metadata.icc == given[0].metadata.icc
    assert found[1].metadata.icc is None
    with Image.open(path) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize("name", [*ANIMATED, "tif"])
def test_several_frames_are_refused_unless_asked_for(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"clip.{name}"
    given = frames()
    save_frames(given, path)
    with pytest.raises(ReadError, match="has 3 frames or pages; choose the first or all of them"):
        load(path)
    first = load(path, FIRST)
    assert np.abs(first.pixels - given[0].pixels).max() < 0.1
    assert len(list(load_frames(path, FIRST))) == 1
    with pytest.raises(ReadError, match="has 3 frames"):
        list(load_frames(path, LoadOptions()))


def test_one_frame_is_a_picture_like_any_other(tmp_path: Path) -> None:
    save(picture(4, 5), tmp_path / "one.png")
    found = list(load_frames(tmp_path / "one.png", ALL))
    assert len(found) == 1
    assert found[0].metadata.duration is None


def test_the_pixel_limit_is_for_all_frames_together(tmp_path: Path) -> None:
    save_frames(frames(), tmp_path / "clip.gif")
    assert len(list(load_frames(tmp_path / "clip.gif", LoadOptions(frames="all", max_pixels=3 * 16 * 12)))) == 3
    with pytest.raises(ReadError, match=r"16 x 12 pixels x 3 frames are more than the 575 allowed"):
        list(load_frames(tmp_path / "clip.gif", LoadOptions(frames="all", max_pixels=3 * 16 * 12 - 1)))


def test_frames_of_several_kinds_become_alike(tmp_path: Path) -> None:
    given = [frames(grey=True)[0], frames()[1], frames(alpha=True)[2]]
    save_frames(given, tmp_path / "clip.png")
    found = list(load_frames(tmp_path / "clip.png", ALL))
    assert np.abs(found[1].pixels - given[1].pixels).max() < 0.5 / 255


def test_a_format_of_single_pictures_refuses_frames(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="jpg holds one frame, the picture has several"):
        save_frames(frames(), tmp_path / "clip.jpg")
    assert list(tmp_path.iterdir()) == []


def test_no_frame_at_all(tmp_path: Path) -> None:
    for name in ("a.png", "a.tif"):
        with pytest.raises(UsageError, match="no picture to write"):
            save_frames([], tmp_path / name)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [None, 0, 1, 2])
def test_a_gif_says_how_often_it_is_played_as_before(tmp_path: Path, count: int | None) -> None:
    """It counts the times after the first; an APNG counts all of them."""
    first = Image.fromarray(noise(8, 8, 3) // 64 * 64)
    said = {} if count is None else {"loop": count}
    first.save(tmp_path / "a.gif", save_all=True, append_images=[first.rotate(90)], duration=30, **said)
    pictures = list(load_frames(tmp_path / "a.gif", ALL))
    assert pictures[0].metadata.loop == {None: 1, 0: 0, 1: 2, 2: 3}[count]
    for name in ("again.gif", "other.png"):
        save_frames(pictures, tmp_path / name)
    with Image.open(tmp_path / "again.gif") as image:
        assert image.info.get("loop") == count
    with Image.open(tmp_path / "other.png") as image:
        assert image.info["loop"] == pictures[0].metadata.loop


@pytest.mark.parametrize(("name", "longest", "most"), [("gif", 655_350, 65_536), ("webp", 800_000, 65_535)])
def test_no_timing_is_too_long_to_be_written(tmp_path: Path, name: str, longest: float, most: int) -> None:
    given = [picture(4, 5, metadata=Metadata(duration=800_000, loop=100_000)) for _ in range(2)]
    given[1].pixels[:] = 0
    notes = save_frames(given, tmp_path / f"a.{name}")
    assert ("its time of a frame was cut to the 655.35 s that the format can hold" in notes) == (name == "gif")
    found = [frame.metadata for frame in load_frames(tmp_path / f"a.{name}", ALL)]
    assert [(each.duration, each.loop) for each in found] == [(longest, most)] * 2


@pytest.mark.parametrize("name", ANIMATED)
def test_frames_of_several_sizes_are_refused_where_one_size_is_meant(tmp_path: Path, name: str) -> None:
    given = [picture(12, 16), picture(16, 12)]
    with pytest.raises(WriteError, match="its frames differ in size; choose tiff"):
        save_frames(given, tmp_path / f"a.{name}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2])
def test_the_picture_of_an_apng_for_other_viewers_is_no_frame(tmp_path: Path, count: int) -> None:
    other, *shown = (Image.new("RGB", (8, 6), colour) for colour in ("red", "lime", "blue")[: count + 1])
    path = tmp_path / "a.png"
    other.save(path, save_all=True, append_images=shown, default_image=True, duration=[100 * i for i in (1, 2)][:count])
    assert probe(path).frames == count
    found = list(load_frames(path, ALL))
    assert [tuple(frame.pixels[0, 0]) for frame in found] == [(0, 1, 0), (0, 0, 1)][:count]
    assert [frame.metadata.duration for frame in found] == ([100, 200] if count == 2 else [None])
    assert found[0].notes == ("its separate picture for viewers without animation was not kept",)


def test_a_second_picture_for_cameras_is_no_frame() -> None:
    """Phones put a depth map or a gain map behind the photograph; that is one photograph."""
    stream = io.BytesIO()
    photo, preview = Image.fromarray(noise(16, 16, 3)), Image.fromarray(noise(8, 8, 3))
    photo.save(stream, "MPO", save_all=True, append_images=[preview])
    stream.seek(0)
    assert probe(stream).frames == 1
    stream.seek(0)
    found = load(stream)
    assert (found.format, found.width) == ("jpg", 16)


def test_a_smaller_copy_is_no_page() -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(noise(16, 16, 3), photometric="rgb")
        writer.write(noise(8, 8, 3), photometric="rgb", subfiletype=1)
    content = stream.getvalue()
    assert probe(io.BytesIO(content)).frames == 1
    assert load(io.BytesIO(content)).width == 16


def test_readers_can_take_turns(tmp_path: Path) -> None:
    """Between two frames another file can be read, in another thread too: no lock is held."""
    import threading

    save_frames(frames(), tmp_path / "clip.gif")
    save(picture(4, 5), tmp_path / "one.png")
    for _ in load_frames(tmp_path / "clip.gif", ALL):
        found: list[Picture] = []
        thread = threading.Thread(target=lambda into=found: into.append(load(tmp_path / "one.png")))
        thread.start()
        thread.join(timeout=20)
        assert len(found) == 1


def test_a_failure_between_frames_is_not_taken_for_one_of_writing(tmp_path: Path) -> None:
    class MineError(Exception):
        pass

    def failing() -> object:
        yield frames()[0]
        raise MineError

    for name in ("a.png", "a.tif"):
        with pytest.raises(MineError):
            save_frames(failing(), tmp_path / name)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_note_is_told_once(tmp_path: Path) -> None:
    cmyk = [Image.fromarray(noise(8, 8, 3)).convert("CMYK") for _ in range(3)]
    cmyk[0].save(tmp_path / "pages.tif", save_all=True, append_images=cmyk[1:])
    told = [frame.notes for frame in load_frames(tmp_path / "pages.tif", ALL)]
    assert told == [("CMYK without a CMYK profile; colours were converted by the plain formula",), (), ()]
