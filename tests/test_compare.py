"""Pictures compared: what the page holds, what the sheet shows, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest
from browser import Page
from icc_profiles import linear_grey, wide_rgb
from image_samples import noise
from PIL import Image
from tiny import finish, size_of, start, write_picture

from irestore import images
from irestore.cli import main
from irestore.images import screen


def compared(*arguments: object) -> int:
    return main(["compare", *map(str, arguments)])


def test_a_page_is_one_file_with_the_pictures_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [write_picture(tmp_path / "a.png", (8, 12)), write_picture(tmp_path / "b.png", (32, 48))]
    assert compared(*paths, "-o", tmp_path / "page.html") == 0
    assert "page.html: 29 kB" in capsys.readouterr().err
    page = Page(tmp_path / "page.html")
    for shown, path in zip(page.pictures, paths, strict=True):
        assert (shown == np.asarray(Image.open(path))).all()
    assert [each["alt"] for each in page.all("img")] == ["a.png", "b.png"]
    assert "12 × 8, PNG" in page.text
    assert "48 × 32, PNG" in page.text
    assert "://" not in page.source
    assert not page.all("link")
    assert all((each["src"] or "").startswith("data:") for each in page.all("img"))


def test_a_name_cannot_change_the_page(tmp_path: Path) -> None:
    name = "\"><script>alert('{scenes}{heading}')<&amp;\n.png"
    for folder in ("a", "b"):
        write_picture(tmp_path / folder / name.replace("/", ""))
    paths = [tmp_path / folder / name.replace("/", "") for folder in ("a", "b")]
    assert compared(*paths, "-o", tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    shown = str(paths[0]).replace("\n", "\\n")
    assert page.all("img")[0]["alt"] == shown  # the folder too, since both have one name
    assert shown in page.text
    assert (len(page.all("script")), len(page.all("img"))) == (1, 2)


def test_what_a_large_picture_is_shown_as_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "LOSSLESS_PIXELS", 100)
    paths = [write_picture(tmp_path / "a.png", (8, 12)), write_picture(tmp_path / "b.png", (32, 48))]
    assert compared(*paths, "-o", tmp_path / "page.html") == 0
    page = Page(tmp_path / "page.html")
    assert [(each["src"] or "")[:11] for each in page.all("img")] == ["data:image/", "data:image/"]
    assert [(each["src"] or "")[11:15] for each in page.all("img")] == ["webp", "jpeg"]
    assert page.text.count("shown as JPEG 95") == 1


def test_a_picture_may_be_longer_than_webp_allows(tmp_path: Path) -> None:
    paths = [write_picture(tmp_path / "a.png", (2, 16384)), write_picture(tmp_path / "b.png", (4, 32768))]
    assert compared(*paths, "-o", tmp_path / "page.html", "--sheet", tmp_path / "sheet.png") == 0
    shown = Page(tmp_path / "page.html").pictures
    assert [each.shape for each in shown] == [(2, 16384, 3), (4, 32768, 3)]


def test_pictures_are_shown_upright_opaque_and_in_srgb(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (64, 96), "red").save(tmp_path / "turned.png", exif=exif)
    Image.new("RGB", (96, 64), (80, 160, 80)).save(tmp_path / "wide.png", icc_profile=wide_rgb())
    Image.new("L", (96, 64), 55).save(tmp_path / "linear.png", icc_profile=linear_grey())
    Image.new("CMYK", (96, 64), (0, 0, 0, 255)).save(tmp_path / "cmyk.jpg")
    Image.new("RGBA", (96, 64), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    images.save(images.load(tmp_path / "clear.png"), tmp_path / "deep.png", images.SaveOptions(depth=16))
    names = ("turned.png", "wide.png", "linear.png", "cmyk.jpg", "clear.png", "deep.png")
    assert compared(*(tmp_path / name for name in names), "-o", tmp_path / "page.html") == 0
    turned, wide, linear, cmyk, clear, deep = Page(tmp_path / "page.html").pictures
    assert turned.shape == (64, 96, 3)
    assert wide[0, 0, 0] < 70  # a green that sRGB just holds: less red in it
    assert abs(linear.astype(int) - 128).max() <= 2
    assert cmyk.max() < 60
    assert set(clear.ravel().tolist()) == {204, 242}  # the checkerboard
    assert (deep == clear).all()


@pytest.mark.parametrize(
    ("small", "large", "fits"),
    [((8, 12), (32, 48), True), ((100, 67), (300, 200), True), ((8, 12), (12, 8), False), ((60, 90), (62, 90), False)],
)
def test_only_the_same_proportions_can_be_compared(
    tmp_path: Path, small: tuple[int, int], large: tuple[int, int], fits: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [write_picture(tmp_path / "a.png", small), write_picture(tmp_path / "b.png", large)]
    for order in (paths, paths[::-1]):
        assert compared(*order, "-o", tmp_path / f"{order[0].stem}.html") == (0 if fits else 2)
        told = capsys.readouterr().err
        sizes = (f"{large[1]} × {large[0]}", f"{small[1]} × {small[0]}")
        assert fits or all(part in told for part in ("a.png", "b.png", *sizes))


def test_the_sheet_shows_where_pictures_differ_most(tmp_path: Path) -> None:
    """A square of noise, and a far larger change of brightness that is no detail."""
    before = (np.indices((600, 800)).sum(0) // 12 + 20).astype(np.uint8)[..., None].repeat(3, 2)
    after = before.copy()
    after[:, 600:] += 100
    after[233:301, 111:170] = noise(68, 59, 3)
    for name, pixels in (("before.png", before), ("after.png", after), ("small.png", before[::4, ::4])):
        Image.fromarray(pixels).save(tmp_path / name)
    sheet = tmp_path / "sheet.png"
    assert compared(tmp_path / "before.png", tmp_path / "after.png", tmp_path / "small.png", "--sheet", sheet) == 0
    shown = np.asarray(Image.open(sheet))
    assert shown.shape == (52 + 4 * 268, 280 + 3 * 268, 3)
    first, second, third = (shown[52 : 52 + 256 : 2, x : x + 256 : 2].astype(int) for x in (280, 548, 816))
    assert abs(first - third)[20:, 20:].max() < 8  # enlarged to the same place; in the corner is the number
    expected, changed = (
        abs(a - b).max(axis=2) >= 8 for a, b in ((after.astype(int)[:, :600], before[:, :600]), (second, third))
    )
    assert changed.sum() > 0.98 * expected.sum()


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (9, 10), (70, 64), (20, 2000)])
def test_a_sheet_is_made_of_pictures_of_any_size(tmp_path: Path, size: tuple[int, int]) -> None:
    paths = [write_picture(tmp_path / name, size) for name in ("a.png", f"{'long' * 30}.png")]
    assert compared(*paths, "--sheet", tmp_path / "sheet.webp") == 0
    assert size_of(tmp_path / "sheet.webp")[1] > 2 * min(size)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.png", "b.png"], "say -o page.html for a page, or --sheet sheet.png"),
        (["a.png", "-o", "new.html"], "compare takes 2 to 9 pictures, not 1"),
        (["a.png", "b.png", "-o", "b.png"], "exists already"),
        (["a.png", "b.png", "--sheet", "b.png", "--overwrite"], "if it is not an input"),
        (["a.png", "b.png", "-o", "c.png"], "c.png: a page ends in .html; write c.html"),
        (["a.png", "b.png", "--sheet", "c.txt"], "the suffix names no format"),
        (["a.png", "b.png", "-o", "page.html"], "page.html: exists already; give another name, or --overwrite"),
        (["a.png", "none.png", "-o", "new.html"], "none.png: no such file"),
        (["a.png", "b.png", "-o", "none/new.html"], "none/new.html: the folder none does not exist"),
    ],
)
def test_refused(
    tmp_path: Path,
    arguments: list[str],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = {write_picture(Path(name)): Path(name).read_bytes() for name in ("a.png", "b.png")}
    Path("page.html").write_text("mine")
    assert compared(*arguments) != 0
    assert told in capsys.readouterr().err
    assert {path: path.read_bytes() for path in kept} == kept
    assert Path("page.html").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "page.html"]


def test_nothing_of_it_needs_torch(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name)
    code = "import sys; from irestore.cli import main; code = main(sys.argv[1:]); print(code, 'torch' in sys.modules)"
    arguments = ["compare", "a.png", "b.png", "-o", "page.html", "--sheet", "sheet.png"]
    assert finish(start(tmp_path, [sys.executable, "-c", code, *arguments])).out.split() == [b"0", b"False"]
