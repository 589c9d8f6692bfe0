"""Bad files end in one line that names the file and the cause; writing is all or nothing."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from irestore.errors import ReadError, UsageError, WriteError
from irestore.images import LoadOptions, Picture, SaveOptions, encode, load, probe, save, save_frames


def picture(height: int = 6, width: int = 9) -> Picture:
    pixels = np.random.default_rng(height * 100 + width).random((height, width, 3), np.float32)
    return Picture(pixels=pixels, alpha=None, grey=False, depth=8, format="png")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    save(picture(), path)
    return path


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_written_file_is_read_again(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"photo{suffix}"
    save(picture(48, 40), path)
    info, again = probe(path), load(path)
    assert (info.format, info.width, info.height, info.frames) == (suffix[1:], 40, 48, 1)
    assert again.pixels.dtype == np.float32
    assert again.pixels.shape == (48, 40, 3)
    assert encode(picture(48, 40), info.format) == path.read_bytes()


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match=r"gone\.png: no such file"):
        load(tmp_path / "gone.png")


def test_folder(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="is a folder, not a picture"):
        load(tmp_path)


def test_name_with_a_nul() -> None:
    with pytest.raises(ReadError, match="cannot be opened"):
        load("a\0b.png")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ReadError, match=r"empty\.jpg: the file is empty"):
        load(tmp_path / "empty.jpg")


def test_text_file(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("this is no picture")
    with pytest.raises(ReadError, match="not a picture"):
        load(tmp_path / "text.jpg")


@pytest.mark.parametrize("name", ["png", "jpg"])
def test_truncated_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"cut.{name}"
    whole = encode(picture(64, 64), name)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ReadError, match=rf"cut\.{name}: cannot be decoded .*damaged or incomplete") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_stream(photo: Path) -> None:
    assert np.array_equal(load(io.BytesIO(photo.read_bytes())).pixels, load(photo).pixels)
    with pytest.raises(ReadError, match="no data"):
        load(io.BytesIO())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_endless_stream_is_refused_in_bounded_memory() -> None:
    class Endless(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            assert size >= 0, "asked for everything"
            return bytes(size)

    with pytest.raises(ReadError, match="bytes, no picture within the pixel limit"):
        load(Endless(), LoadOptions(max_pixels=1))  # type: ignore[arg-type]


def test_pixel_limit_is_exact_and_named(photo: Path) -> None:
    assert load(photo, LoadOptions(max_pixels=54)).width == 9
    for read in (load, probe):
        with pytest.raises(ReadError, match=r"9 x 6 pixels are more than the 53 allowed"):
            read(photo, LoadOptions(max_pixels=53))


def test_pillow_is_left_as_it_was(photo: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    load(photo, LoadOptions(max_pixels=54))
    with pytest.raises(ReadError):
        load(photo, LoadOptions(max_pixels=1))
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_no_numbers_are_never_written(photo: Path, wrong: float) -> None:
    bad = picture()
    bad.pixels[3, 4, 1] = wrong
    before = photo.read_bytes()
    with pytest.raises(WriteError, match="NaN or infinity"):
        save(bad, photo)
    assert photo.read_bytes() == before
    assert names(photo.parent) == ["photo.png"]


def test_an_interrupted_save_leaves_the_old_file_alone(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    before = photo.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(picture(), photo)
    assert photo.read_bytes() == before
    assert names(photo.parent) == ["photo.png"]


def test_a_full_disk_is_named(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"photo\.png: cannot be written \(No space left on device\)"):
        save(picture(), photo)
    assert names(photo.parent) == ["photo.png"]


def test_unwritable_targets(tmp_path: Path) -> None:
    with pytest.raises(WriteError, match=r"the folder .* does not exist"):
        save(picture(), tmp_path / "no" / "photo.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(WriteError, match="is a folder"):
        save(picture(), tmp_path / "folder.png")
    with pytest.raises(UsageError, match="the suffix names no format"):
        save(picture(), tmp_path / "photo.pcx")
    with pytest.raises(UsageError, match="unknown format 'pcx'"):
        save(picture(), tmp_path / "photo.png", SaveOptions(format="pcx"))


@pytest.mark.skipif(
    os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere"
)
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WriteError, match=r"photo\.png: cannot be written \(Permission denied\)"):
            save(picture(), tmp_path / "photo.png")
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_permissions_are_kept_and_a_link_is_replaced_itself(photo: Path) -> None:
    photo.chmod(0o640)
    before = photo.read_bytes()
    link = photo.parent / "link.png"
    for target in (photo, photo.parent / "nowhere"):
        link.symlink_to(target)
        save(picture(7, 7), link)
        assert not link.is_symlink()
        assert load(link).height == 7
        link.unlink()
    assert photo.read_bytes() == before
    save(picture(7, 7), photo)
    assert photo.stat().st_mode & 0o777 == 0o640
    assert load(photo).height == 7


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_there_is_kept_unless_overwriting(
    photo: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # a file system such as FAT

        def refused(*_: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refused)
    before = photo.read_bytes()
    dangling = photo.parent / "dangling.png"
    dangling.symlink_to("nowhere")
    for path in (photo, dangling):
        with pytest.raises(WriteError, match="File exists") as caught:
            save(picture(7, 7), path, SaveOptions(overwrite=False))
        assert isinstance(caught.value.__cause__, FileExistsError)
    assert photo.read_bytes() == before
    save(picture(7, 7), photo.parent / "new.png", SaveOptions(overwrite=False))
    assert load(photo.parent / "new.png").height == 7
    assert sorted(path.name for path in photo.parent.iterdir()) == sorted(["dangling.png", "new.png", photo.name])


def test_an_error_that_names_its_file_is_raised_as_it_is(tmp_path: Path):
    """And not as its own cause: whoever follows the causes would never come to the end."""
    target = tmp_path / "a.png"

    def frames():
        yield Picture(np.zeros((4, 4, 3), np.float32), alpha=None, grey=False, depth=8, format="png")
        raise WriteError(f"{target}: stopped")

    with pytest.raises(WriteError, match="stopped") as caught:
        save_frames(frames(), target)
    assert caught.value.__cause__ is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "options", "lossy"),
    [
        ("png", SaveOptions(), False),
        ("tiff", SaveOptions(), False),
        ("jpg", SaveOptions(), True),
        ("webp", SaveOptions(lossless=False), True),
        ("webp", SaveOptions(lossless=True), False),
    ],
)
def test_a_header_tells_whether_pixels_were_compressed_with_loss(name: str, options: SaveOptions, lossy: bool) -> None:
    assert probe(io.BytesIO(encode(picture(), name, options))).lossy == lossy
