"""What is done to a picture: which networks, in which order, and the exact size of the result."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny import size_of, write_picture, write_weights

from irestore import images
from irestore.batch.chain import Size, Step, chain_of
from irestore.cli import main

KNOWN = [Step("dejpeg", 1), Step("sr", 2), Step("sr", 3), Step("sr", 4)]
OFFLINE = ["--offline", "-d", "cpu", "-q"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path / ".home"))
    return tmp_path


# --- the rule


@pytest.mark.parametrize(
    ("size", "scales", "result"),
    [
        (Size(factor=4), [4], (400, 600)),
        (Size(factor=1.5), [2], (150, 225)),
        (Size(factor=2.5), [3], (250, 375)),
        (Size(factor=6), [4, 2], (600, 900)),
        (Size(factor=16), [4, 4], (1600, 2400)),
        (Size(width=450), [3], (300, 450)),
        (Size(width=451), [4], (301, 451)),
        (Size(height=101), [2], (101, 152)),
        (Size(width=900, height=200), [2], (200, 300)),
        (Size(width=300, height=900), [2], (200, 300)),
        (Size(megapixels=0.06), [2], (200, 300)),
        (Size(width=150), [], (100, 150)),
        (Size(width=15), [], (10, 15)),
        (Size(width=1), [], (1, 1)),
    ],
)
def test_the_smallest_network_that_reaches_the_size_and_then_a_reduction(
    size: Size, scales: list[int], result: tuple[int, int]
) -> None:
    chain = chain_of(["sr"], KNOWN, size, 100, 150)
    assert [step.scale for step in chain.steps] == scales
    assert chain.size == result
    assert chain.restored[0] >= result[0]
    assert chain.restored[1] >= result[1]


def test_every_side_can_be_had_exactly_and_is_never_more_than_networks_give() -> None:
    for side in range(1, 60):
        for target in range(1, 16 * side + 1, 7):
            chain = chain_of(["sr"], KNOWN, Size(width=target), 37, side)
            assert chain.size[1] == target
            assert chain.size[0] <= chain.restored[0]
            assert chain.size[1] <= chain.restored[1]


def test_a_model_that_is_named_does_all_the_enlarging_and_tasks_keep_their_order() -> None:
    chain = chain_of(["dejpeg", "sr"], [Step("dejpeg", 1), Step("sr", 2)], Size(factor=5), 10, 20)
    assert chain.steps == (Step("dejpeg", 1), *[Step("sr", 2)] * 3)
    assert chain.pixels == 200 * (1 + 1 + 4 + 16)
    assert str(chain) == "dejpeg, sr x2, sr x2, sr x2, reduced"


# --- results


@pytest.mark.parametrize(
    ("arguments", "name", "size"),
    [
        (["-x1.5"], "a_x1.5.png", (15, 18)),
        (["-x", "6"], "a_x6.png", (60, 72)),
        (["--width", "31"], "a_w31.png", (26, 31)),
        (["--height", "25"], "a_h25.png", (25, 30)),
        (["--fit", "40x20"], "a_40x20.png", (20, 24)),
        (["--megapixels", "0.001"], "a_0.001mp.png", (29, 35)),
        (["--width", "6"], "a_w6.png", (5, 6)),
        (["--width", "12"], "a_w12.png", (10, 12)),
        (["--width", "20", "--name", "{stem}-{scale}-{model}{ext}"], "a-w20-compact-x2.png", (17, 20)),
        (["--first", "dejpeg", "-x2"], "a_dejpeg_x2.png", (20, 24)),
        (["-x3", "-m", "compact-x2"], "a_x3.png", (30, 36)),
    ],
)
def test_results_have_the_size_and_the_name_that_was_asked_for(
    here: Path, arguments: list[str], name: str, size: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (10, 12))
    assert main(["sr", *arguments, "a.png", "--json", *OFFLINE]) == 0
    assert [path.name for path in here.glob("*.png") if path.name != "a.png"] == [name]
    assert size_of(here / name) == size
    record = json.loads(capsys.readouterr().out)
    assert record["output_size"] == {"height": size[0], "width": size[1]}
    assert (record["model"] is None) == (size[1] <= 12)


def test_one_run_takes_for_each_picture_what_it_needs_and_says_what_it_did_not_enlarge(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, size in (("a.png", (8, 9)), ("b.png", (8, 20)), ("c.png", (8, 40))):
        write_picture(here / name, size)
    arguments = ["sr", "--width", "30", "a.png", "b.png", "c.png", "-o", "out/", "--offline", "-d", "cpu"]
    assert main([*arguments, "-n"]) == 0
    out, err = capsys.readouterr()
    assert "9x8 -> 30x27 (sr x4, reduced)" in out
    assert "20x8 -> 30x12 (sr x2, reduced)" in out
    assert "40x8 -> 30x6 (reduced)" in out
    assert "3 to do with compact-x4 (bundled) and compact-x2 (bundled)" in err
    assert main([*arguments, "--json"]) == 0
    out, err = capsys.readouterr()
    models = {record["input"]: record["model"] for record in map(json.loads, out.splitlines())}
    assert models == {"a.png": "compact-x4", "b.png": "compact-x2", "c.png": None}
    assert "1 picture not enlarged, only reduced: large enough already" in err
    assert [size_of(here / "out" / f"{name}_w30.png")[1] for name in "abc"] == [30, 30, 30]
    capsys.readouterr()
    assert main(["sr", "--width", "30", "-r", "out", "-n", *OFFLINE]) == 0
    assert capsys.readouterr().out == "", "what irestore only reduced it has made all the same"


def test_redo_goes_by_the_networks_of_the_picture_not_by_those_of_any(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (10, 12))
    assert main(["sr", "-x4", "-m", "compact-x2", "a.png", *OFFLINE]) == 0
    for status in ("done", "skipped"):
        assert main(["sr", "-x4", "--redo", "--json", "a.png", *OFFLINE]) == 0
        assert json.loads(capsys.readouterr().out)["status"] == status
    assert " model=compact-x4 " in (images.probe(here / "a_x4.png").provenance or "")


def test_16_bits_transparency_and_resolution_are_kept(here: Path) -> None:
    slope = np.linspace(0, 65535, 30 * 40).reshape(30, 40).astype(np.uint16)
    alpha = np.zeros((30, 40), np.float32)
    alpha[:, 20:] = 1
    pixels = np.repeat((slope / 65535).astype(np.float32)[..., None], 3, axis=2)
    deep = images.Picture(pixels, alpha, grey=False, depth=16, format="png", metadata=images.Metadata(dpi=(72, 72)))
    images.save(deep, "deep.png")
    for width, dpi in ((60, 108), (20, 36)):
        assert main(["sr", "--width", str(width), "deep.png", *OFFLINE]) == 0
        result = images.load(f"deep_w{width}.png")
        assert (result.height, result.width, result.depth) == (width * 3 // 4, width, 16)
        assert result.alpha is not None
        assert (result.alpha[:, : width // 2 - 4] == 0).all()
        assert (result.alpha[:, width // 2 + 4 :] == 1).all()
        assert result.metadata.dpi == pytest.approx((dpi, dpi), abs=0.1)
        assert np.abs(result.pixels * 255 - np.rint(result.pixels * 255)).max() > 0.4


def test_pages_of_other_sizes_stay_in_proportion(here: Path) -> None:
    first, second = (images.load(write_picture(here / f"{side}.png", (side, side))) for side in (8, 16))
    images.save_frames([first, second], "pages.tif")
    assert main(["sr", "--width", "20", "--frames", "all", "pages.tif", *OFFLINE]) == 0
    with Image.open("pages_w20.tif") as file:
        sizes = []
        for page in range(2):
            file.seek(page)
            sizes.append(file.size)
    assert sizes == [(20, 20), (40, 40)]


# --- several tasks


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_tasks_in_one_go_equal_one_by_one_with_a_16_bit_file_between(here: Path, mode: str) -> None:
    write_picture(here / "a.png", (20, 24), mode)
    deep = ["--depth", "16", *OFFLINE]
    assert main(["dejpeg", "a.png", "-o", "middle.png", *deep]) == 0
    assert main(["sr", "-x1.5", "middle.png", "-o", "two.png", *deep]) == 0
    assert main(["sr", "-x1.5", "--first", "dejpeg", "a.png", "-o", "one.png", *deep]) == 0
    one, two = images.load("one.png"), images.load("two.png")
    assert one.pixels.shape == two.pixels.shape == (30, 36, 3)
    assert np.abs(one.pixels - two.pixels).max() < 16 / 65535
    assert one.grey == two.grey == (mode == "L")
    if mode == "RGBA":
        assert np.array_equal(one.alpha, two.alpha)  # type: ignore[arg-type]


def test_results_of_several_tasks_are_known_as_made_by_each(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png")
    assert main(["denoise", "--first", "compact-dejpeg", "a.png", *OFFLINE]) == 0
    tag = images.probe(here / "a_dejpeg_denoise.png").provenance or ""
    assert " model=compact-dejpeg weights=sha256:" in tag
    assert " model=compact-denoise weights=sha256:" in tag
    assert tag.endswith(" task=dejpeg task=denoise")
    for task, made in (("dejpeg", False), ("denoise", False), ("deblur", True)):
        capsys.readouterr()
        assert main([task, "a.png", "a_dejpeg_denoise.png", "-n", "-o", "out/", *OFFLINE]) == 0
        assert ("a_dejpeg_denoise.png ->" in capsys.readouterr().out) == made


def test_strength_is_that_of_the_last_task(here: Path) -> None:
    write_picture(here / "a.png")
    assert main(["dejpeg", "a.png", "-o", "first.png", *OFFLINE]) == 0
    assert main(["denoise", "--strength", "0", "--first", "dejpeg", "a.png", "-o", "both.png", *OFFLINE]) == 0
    assert np.array_equal(np.asarray(Image.open("first.png")), np.asarray(Image.open("both.png")))


def test_a_dry_run_counts_every_step(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png", (40, 40))

    def planned(*arguments: str) -> dict[str, Any]:
        assert main(["sr", "-n", "--json", "a.png", *arguments, *OFFLINE]) == 0
        record: dict[str, Any] = json.loads(capsys.readouterr().out)
        return record

    one, both = planned("-m", "compact-x2"), planned("-m", "compact-x2", "-x4", "--first", "dejpeg")
    assert both["model"] == "compact-dejpeg+compact-x2+compact-x2"
    assert both["seconds"] > one["seconds"]
    assert both["peak_bytes"] > one["peak_bytes"]


# --- what makes no sense


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["sr", "-x1"], 2, "1 keeps the size; to restore without enlarging: irestore restore, irestore denoise"),
        (["sr", "-x0.5"], 2, "'0.5' is not how many times larger; write a number above 1, at most 16"),
        (["sr", "-x17"], 2, "at most 16"),
        (["sr", "-xnan"], 2, "at most 16"),
        (["sr", "--width", "0"], 2, "'0' is not a number of pixels"),
        (["sr", "--fit", "3840"], 2, "'3840' is not a width and a height in pixels, such as 3840x2160"),
        (["sr", "--megapixels", "-1"], 2, "'-1' is not a number of megapixels"),
        (["sr", "--width", "40", "--height", "30"], 2, "--width and --height: give one of them; --fit WIDTHxHEIGHT"),
        (["sr", "-x2", "--fit", "40x30"], 2, "--scale and --fit: give one of them"),
        (["sr", "--width", "200"], 1, "a.png: would have to grow 20 times for the size wanted; 16 times is the most"),
        (["sr", "--first", "sr"], 2, "--first sr: sr is to be done already"),
        (["denoise", "--first", "sr"], 2, "--first sr: enlarges, so it comes last: irestore sr --first denoise"),
        (["sr", "--first", "dejpg"], 3, "did you mean compact-dejpeg?"),
        (["denoise", "--width", "40"], 2, "No such option"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_remedy(
    here: Path, arguments: list[str], code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (12, 10))
    assert main([*arguments, "a.png", *OFFLINE]) == code
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in here.glob("*.png")) == ["a.png"]


def test_a_size_that_is_typed_beats_another_in_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRESTORE_SCALE", "4")
    weights = write_weights(here / ".tiny.safetensors")
    write_picture(here / "a.png", (12, 10))
    assert main(["sr", "--width", "15", "--weights", str(weights), "a.png"]) == 0
    assert size_of(here / "a_w15.png") == (18, 15)


@pytest.mark.parametrize(
    ("factor", "steps"),
    [
        (2, [Step("sr", 2, lossy=True)]),
        (3, [Step("sr", 4, lossy=True)]),  # and then reduced
        (8, [Step("sr", 4, lossy=True), Step("sr", 2)]),  # what one has restored is not lossy any more
    ],
)
def test_a_lossy_picture_gets_a_network_for_lossy_ones_where_there_is_one(factor: int, steps: list[Step]) -> None:
    known = [*KNOWN, Step("sr", 2, lossy=True), Step("sr", 4, lossy=True)]
    assert list(chain_of(["sr"], known, Size(factor=factor), 10, 20, lossy=True).steps) == steps
    plain = chain_of(["sr"], known, Size(factor=factor), 10, 20).steps
    assert not any(step.lossy for step in plain)
    assert chain_of(["sr"], KNOWN, Size(factor=factor), 10, 20, lossy=True).steps == plain
    first, *rest = chain_of(["dejpeg", "sr"], known, Size(factor=factor), 10, 20, lossy=True).steps
    assert (first, *rest) == (Step("dejpeg", 1), *plain)


def test_lossy_pictures_are_enlarged_by_the_photo_model_and_others_by_the_clean_one(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.jpg", "b.png"):
        write_picture(here / name)
    assert main(["sr", "-x3", "-n", "--json", "-d", "cpu", "a.jpg", "b.png"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["model"] for record in records] == ["compact-x4-photo", "compact-x3"]
    assert main(["sr", "-x4", "-v", "-d", "cpu", "a.jpg", "b.png", "-o", "out/"]) == 0
    assert "for pictures compressed with loss, unless -m names a model" in capsys.readouterr().err
    for model, used in (("compact-x4", "compact-x4"), ("fast", "compact-x4-photo"), ("best", "heart-x4-otf-v2")):
        assert main(["sr", "-x4", "-n", "--json", "-d", "cpu", "-m", model, "a.jpg"]) == 0
        assert json.loads(capsys.readouterr().out)["model"] == used


def test_a_jpeg_for_a_model_that_is_made_for_clean_sources_is_told_the_remedy(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.jpg")
    write_picture(here / "b.png")
    for model, more, remedy in (
        ("compact-x3", [], "--first dejpeg mostly gives a better result"),
        ("compact-x4", [], "-m compact-x4-photo is"),
        ("compact-x3", ["--first", "dejpeg"], None),
    ):
        assert main(["sr", "-m", model, "-n", "a.jpg", "b.png", "-d", "cpu", *more]) == 0
        err = capsys.readouterr().err
        assert ("compressed with loss" in err) == (remedy is not None)
        assert remedy is None or f"1 picture compressed with loss: {model} is not made for that, {remedy}" in err
