"""The page on quality: what it says is what was measured."""

import json
from pathlib import Path

import pytest
from PIL import Image
from skimage import data
from tiny import write_weights

from benchmarks import quality, sheets
from irestore import degrade, weights
from irestore.tasks import TASKS


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    """A folder with two small sets."""
    for name, pixels in (("a", data.chelsea()[:60, :48]), ("b", data.coffee()[:48, :60])):
        for factor, image in ((1, pixels), (2, degrade.shrink(pixels, 2))):
            folder = tmp_path / "sets" / ("Set5/HR_x2" if factor == 1 else "Set5/LR_x2")
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{name}.png")
        grey = tmp_path / "sets/Classic5"
        grey.mkdir(exist_ok=True)
        Image.fromarray(pixels[..., 1].copy()).save(grey / f"{name}.png")
    return tmp_path / "sets"


def test_the_page_has_a_row_for_each_set_that_is_there(tmp_path: Path, bench: Path, capsys):
    files = [
        write_weights(tmp_path / "twice.safetensors"),
        write_weights(tmp_path / "unjpeg.safetensors", "dejpeg", upscale=1, upsampler="pixelshuffledirect"),
    ]
    page, results = tmp_path / "page/quality.md", tmp_path / "results.json"
    page.parent.mkdir()
    arguments = [str(bench), "--out", str(page), "--json", str(results), "--sheets", str(tmp_path / "docs")]
    quality.main([*arguments, "--weights", str(files[0]), "--weights", str(files[1])])
    rows = json.loads(results.read_text())
    assert [(row["model"], row["set"], row["pictures"]) for row in rows] == [
        ("twice", "Set5 x2", 2),
        ("unjpeg", "Classic5, quality 10", 2),
        ("unjpeg", "Classic5, quality 40", 2),
    ]
    text = page.read_text()
    for row in rows:
        before, after = row["before"]["psnr"], row["after"]["psnr"]
        assert f"| {row['set']} | 2 | {before:.2f} / {row['before']['ssim']:.4f} | {after:.2f} / " in text
    assert "FSRCNN 37.00, CARN 37.76, SwinIR-light 38.14" in text
    for file in files:
        assert f"](../docs/{file.stem}.png)" in text
        with Image.open(tmp_path / "docs" / f"{file.stem}.png") as sheet:
            assert sheet.size == (3 * 2 * sheets.CROP, 3 * 2 * sheets.CROP)
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert "Set14 x2 is left out" in err


def test_every_task_has_sets_and_the_bundled_models_are_what_is_measured():
    assert {each.task for each in quality.SETS} == set(TASKS)
    assert {each.scale for each in quality.SETS if each.task == "sr"} == {2, 3, 4}
    assert all(entry.bundled for entry in quality.entries([]))


def test_the_manifest_says_what_was_measured():
    rows = json.loads((Path(quality.__file__).parent / "quality.json").read_text())
    told = set()
    for row in rows:
        if row["before"]["psnr"] is not None:
            gain = row["after"]["psnr"] - row["before"]["psnr"]
            told.add(f"{row['set']}: {row['after']['psnr']:.2f} dB ({gain:+.2f})")
    assert {entry.quality for entry in weights.entries() if entry.bundled} <= told
