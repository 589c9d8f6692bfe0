"""`irestore eval`: its figures, its formats, and what it refuses."""

import csv
import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench import bench_folder
from PIL import Image
from skimage import data
from tiny import write_weights

from irestore import degrade, metrics
from irestore.cli import main

SMALL = {"cat": data.chelsea()[100:148, 130:178], "coffee": data.coffee()[100:150, 200:249]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with clean pictures in `hr`, and no settings."""
    for name in [name for name in os.environ if name.startswith("IRESTORE_") and name != "IRESTORE_BENCH"]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    write("hr", SMALL)
    return tmp_path


@pytest.fixture(scope="session")
def weights_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], str]:
    """A tiny network for a task and scale."""
    folder = tmp_path_factory.mktemp("weights")

    def make(task: str, scale: int) -> str:
        return str(
            write_weights(folder / f"{task}{scale}.safetensors", task, upscale=scale, upsampler="pixelshuffledirect")
        )

    return make


@pytest.fixture
def measured(weights_of, capsys) -> Callable[..., dict[str, Any]]:
    """What `irestore eval --json` prints."""

    def run(task: str, *arguments: str, scale: int = 1) -> dict[str, Any]:
        command = ["eval", task, "--hr", "hr", "--weights", weights_of(task, scale), "-d", "cpu", "--json"]
        assert main([*command, *arguments]) == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return run


def write(folder: str, pictures: dict[str, np.ndarray]) -> None:
    Path(folder).mkdir(exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(Path(folder, f"{name}.png"))


def baselines(found: dict[str, Any]) -> list[float]:
    return [picture["baseline"]["psnr"] for picture in found["pictures"]]


def test_sr_is_measured_on_luma_without_the_border_beside_bicubic(measured):
    found = measured("sr", scale=2)
    assert [picture["name"] for picture in found["pictures"]] == ["cat", "coffee"]
    for picture, clean in zip(found["pictures"], SMALL.values(), strict=True):
        clean = degrade.cut_to_multiple(clean, 2)
        pair = [metrics.luma(x) for x in (degrade.enlarge(degrade.shrink(clean, 2), 2), clean)]
        assert picture["baseline"]["psnr"] == pytest.approx(metrics.psnr(*pair, border=2))
        assert picture["baseline"]["ssim"] == pytest.approx(metrics.ssim(*pair, border=2))
    for side in ("baseline", "restored"):
        for score in ("psnr", "ssim"):
            expected = np.mean([picture[side][score] for picture in found["pictures"]])
            assert found["mean"][side][score] == pytest.approx(expected)
    assert (found["task"], found["scale"], found["model"], found["baseline"]) == ("sr", 2, "sr2", "bicubic")
    assert found["measure"] == "Y of BT.601, border of 2 pixels left out"


def test_given_small_pictures_count_as_those_made(measured):
    write("lr", {name: degrade.shrink(pixels, 3) for name, pixels in SMALL.items()})
    assert measured("sr", "--lr", "lr", scale=3)["pictures"] == measured("sr", scale=3)["pictures"]


def test_the_restored_picture_is_what_the_command_writes(measured, weights_of):
    write("lr", {name: degrade.shrink(pixels, 2) for name, pixels in SMALL.items()})
    assert main(["sr", "--weights", weights_of("sr", 2), "lr/cat.png", "-o", "cat.png", "-q", "-d", "cpu"]) == 0
    pair = [metrics.luma(x) for x in (np.asarray(Image.open("cat.png")), SMALL["cat"])]
    restored = measured("sr", "--lr", "lr", scale=2)["pictures"][0]["restored"]
    assert restored["psnr"] == pytest.approx(metrics.psnr(*pair, border=2), abs=1e-9)


def test_noise_is_that_of_the_papers_and_the_same_each_time(measured):
    found = measured("denoise", "--sigma", "25")
    assert found == measured("denoise", "--sigma", "25")
    assert baselines(found) == pytest.approx([20.2, 20.2], abs=0.4)  # 20 log10(255 / 25) = 20.17
    assert len(set(baselines(found))) == 2
    assert found["measure"] == "RGB"
    assert found["baseline"] == "input"


def test_jpeg_is_worse_at_lower_quality(measured):
    means = [measured("dejpeg", "--quality", q)["mean"]["baseline"]["psnr"] for q in ("5", "40", "95")]
    assert means == sorted(means)
    assert means[0] < 30 < 38 < means[2]


@pytest.mark.parametrize("task", ["deblur", "derain"])
def test_other_tasks_take_damaged_pictures(measured, task):
    damaged = {name: pixels // 2 for name, pixels in SMALL.items()}
    write("lr", damaged)
    planes = metrics.luma if task == "derain" else np.asarray
    expected = [metrics.psnr(planes(damaged[name]), planes(SMALL[name])) for name in SMALL]
    assert baselines(measured(task, "--lr", "lr")) == pytest.approx(expected)


def test_grey_pictures_are_measured_as_they_are(measured):
    grey = {"a": SMALL["cat"][..., 1].copy()}
    for name in SMALL:
        Path("hr", f"{name}.png").unlink()
    write("hr", grey)
    write("lr", {"a": grey["a"] // 2})
    for task in ("derain", "deblur", "dejpeg"):
        assert baselines(measured(task, "--lr", "lr")) == pytest.approx([metrics.psnr(grey["a"] // 2, grey["a"])])


def test_colour_pictures_can_be_measured_as_grey_ones(measured):
    luma = np.round(metrics.luma(SMALL["cat"])).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(luma).save(stream, "JPEG", quality=10)
    expected = metrics.psnr(np.asarray(Image.open(stream)), luma)
    assert baselines(measured("dejpeg", "--quality", "10", "--grey"))[0] == pytest.approx(expected)


def test_clean_pictures_have_infinite_psnr_which_json_writes_as_null(measured, weights_of, capsys):
    found = measured("denoise", "--lr", "hr")
    assert baselines(found) == [None, None]
    assert found["mean"]["baseline"] == {"psnr": None, "ssim": pytest.approx(1)}
    assert 5 < found["mean"]["restored"]["psnr"] < 80
    command = ["eval", "denoise", "--hr", "hr", "--sigma", "0", "--weights", weights_of("denoise", 1), "-d", "cpu"]
    assert main(command) == 0
    assert " inf " in capsys.readouterr().out


def test_table_and_csv_hold_what_json_holds(measured, weights_of, capsys):
    found = measured("sr", scale=2)
    command = ["eval", "sr", "--hr", "hr", "--weights", weights_of("sr", 2), "-d", "cpu"]
    rows = [*found["pictures"], found["mean"]]
    assert main([*command, "--csv"]) == 0
    written = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["name"] for row in written] == ["cat", "coffee", "mean"]
    for row, expected in zip(written, rows, strict=True):
        assert float(row["baseline_psnr"]) == expected["baseline"]["psnr"]
        assert float(row["ssim"]) == expected["restored"]["ssim"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    head, *lines = out.splitlines()
    assert head.split() == ["NAME", "BICUBIC", "SSIM", "SR2", "SSIM"]
    for line, expected in zip(lines, rows, strict=True):
        (before, before_ssim), (after, after_ssim) = (expected[side].values() for side in ("baseline", "restored"))
        assert line.split() == [
            expected["name"],
            f"{before:.3f}",
            f"{before_ssim:.4f}",
            f"{after:.3f}",
            f"{after_ssim:.4f}",
        ]
    assert err == "irestore: sr2: PSNR in dB and SSIM, on Y of BT.601, border of 2 pixels left out\n"


def test_limit_takes_the_first_pictures(measured):
    assert [picture["name"] for picture in measured("sr", "--limit", "1", scale=2)["pictures"]] == ["cat"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["denoise"], "denoise: say how strong the damage is (--sigma N), or give damaged pictures (--lr DIR)"),
        (["dejpeg"], "(--quality N)"),
        (["derain"], "derain: there is no agreed way to make damaged pictures; give them (--lr DIR)"),
        (["deblur", "--sigma", "5"], "--sigma is for denoise, not for deblur"),
        (["denoise", "--sigma", "5", "--quality", "5"], "--quality is for dejpeg, not for denoise"),
        (["denoise", "--sigma", "5", "--lr", "hr"], "leave out --sigma and --quality"),
        (["denoise", "--sigma", "5", "-x", "2"], "--scale is for sr; denoise keeps the size"),
        (["denoise", "--sigma", "5", "--json", "--csv"], "--json and --csv"),
        (["denoise", "--sigma", "-1"], "--sigma"),
        (["denoise", "--lr", "nowhere"], "nowhere: no such folder"),
        (["denoise", "--lr", "few"], "hr: cat.png without a picture of that name in few"),
        (["denoise", "--lr", "small"], "small/cat.png: 24x24 is not 1/1 of 48x48, the size of hr/cat.png"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(weights_of, arguments, message, capsys):
    write("few", {"coffee": SMALL["coffee"]})
    write("small", {name: pixels[::2, ::2] for name, pixels in SMALL.items()})
    task, *rest = arguments
    assert main(["eval", task, "--hr", "hr", "--weights", weights_of(task, 1), "-d", "cpu", *rest]) == 2
    assert message in capsys.readouterr().err


def test_a_picture_too_small_for_ssim_is_named(weights_of, capsys):
    write("hr", {"dot": SMALL["cat"][:10, :20]})
    command = ["eval", "denoise", "--hr", "hr", "--sigma", "5", "--weights", weights_of("denoise", 1), "-d", "cpu"]
    assert main(command) == 2
    assert "dot: too small to measure; SSIM needs 11 pixels" in capsys.readouterr().err


def test_a_model_for_another_task_is_refused(weights_of, capsys):
    assert main(["eval", "derain", "--hr", "hr", "--lr", "hr", "--weights", weights_of("denoise", 1)]) == 2
    assert "made for denoise" in capsys.readouterr().err


def test_a_damaged_file_ends_the_measurement(weights_of, capsys):
    Path("hr/cat.png").write_bytes(b"no picture")
    command = ["eval", "denoise", "--hr", "hr", "--sigma", "5", "--weights", weights_of("denoise", 1), "-d", "cpu"]
    assert main(command) == 1
    assert "cat.png" in capsys.readouterr().err


def test_settings_of_restoring_do_not_change_the_measurement(measured, monkeypatch):
    before = measured("denoise", "--sigma", "10")
    for name, value in (("QUALITY", "5"), ("SCALE", "2"), ("CSV", "1")):
        monkeypatch.setenv(f"IRESTORE_{name}", value)
    assert measured("denoise", "--sigma", "10") == before


@pytest.mark.parametrize(("name", "published"), [("Set5", 28.42), ("Set14", 26.00)])
def test_bicubic_has_the_published_psnr(name, published):
    from irestore.evaluate import Trial, baseline, couples, read, score

    trial, folder = Trial(task="sr", scale=4), bench_folder(name)
    cases = (read(trial, *couple) for couple in couples(trial, folder / "HR_x4", folder / "LR_x4"))
    assert np.mean([score(trial, case, baseline(trial, case.damaged)).psnr for case in cases]) == pytest.approx(
        published, abs=0.01
    )


@pytest.mark.parametrize(("quality", "published"), [(10, 27.82), (40, 32.43)])
def test_jpeg_has_the_published_psnr(quality, published):
    from irestore.evaluate import Trial, baseline, couples, read, score

    trial = Trial(task="dejpeg", quality=quality)
    cases = (read(trial, *couple) for couple in couples(trial, bench_folder("Classic5"), None))
    assert np.mean([score(trial, case, baseline(trial, case.damaged)).psnr for case in cases]) == pytest.approx(
        published, abs=0.01
    )
