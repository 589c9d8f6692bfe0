"""`irestore inspect`: features of blocks, as they are of the whole picture, in a table, JSON and a drawing."""

import json
from math import log
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from networks import BASES, network, pictures, run
from tiny import write_picture, write_weights

from irestore.cli import main
from irestore.field import Field
from irestore.inspect import Features, blocks, watched
from irestore.plot import Panel, svg

COUNT = {"heart": 4, "hat-iln": 6, "unet": 4, "dat-iln": 5}


@pytest.mark.parametrize("architecture", BASES)
@pytest.mark.parametrize("tile", [(4, 4), (8, 12), None])
@pytest.mark.parametrize(("dtype", "exact"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_features_are_those_of_the_whole_map(architecture: str, tile: tuple[int, int] | None, dtype, exact: float):
    model, image = network(architecture, dtype=dtype), dict(pictures(18, 27))["gradient"].to(dtype)
    seen: dict[str, tuple[Features, np.ndarray]] = {}

    def see(name: str, x: Field) -> None:
        seen[name] = Features.of(x), x.tensor.double().numpy().copy()

    with watched(model, see):
        run(model, image, tile)
    assert list(seen) == list(blocks(model))
    assert len(seen) == COUNT[architecture]
    for features, x in seen.values():
        share = np.square(x) / np.square(x).sum(1, keepdims=True)
        entropy = -(share * np.log(share)).sum(1).mean()
        expected = [x.shape[1], np.abs(x).mean(), np.abs(x).max(), x.std(), entropy]
        np.testing.assert_allclose(features, expected, rtol=exact)
    with torch.no_grad():
        run(model, image, tile)
    assert len(seen) == COUNT[architecture]  # no longer watched


@pytest.mark.parametrize(("x", "entropy"), [([3.0, -3, 3, -3], log(4)), ([0.0, 0, 5, 0], 0), ([0.0] * 4, 0)])
def test_entropy_tells_how_even_the_channels_are(x: list[float], entropy: float):
    from irestore.tiling import Tiling

    tensor = torch.tensor(x)[None, :, None, None].expand(1, 4, 3, 5)
    features = Features.of(Field.of(tensor, Tiling()))
    assert features.entropy == pytest.approx(entropy, abs=1e-6)
    assert features.std == pytest.approx(np.std(x))
    assert features.magnitude == pytest.approx(np.abs(x).mean())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_picture(tmp_path / "a.png", (20, 30))
    write_weights(tmp_path / "tiny.safetensors")
    return tmp_path


def test_the_command_prints_a_line_for_each_block_and_draws_them(here: Path, capsys: pytest.CaptureFixture[str]):
    command = ["inspect", "a.png", "-m", "tiny.safetensors", "-d", "cpu"]
    assert main([*command, "-o", "blocks.svg", "--json", "-t", "8"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["block"] for each in told["blocks"]] == [f"layers.0.residual_group.blocks.{i}" for i in (0, 1)]
    assert {each["channels"] for each in told["blocks"]} == {8}
    drawing = ElementTree.parse(here / "blocks.svg").getroot()
    assert {"largest", "mean", "entropy", "block"} <= {each.text for each in drawing}
    assert main(command) == 0
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["BLOCK", "CHANNELS", "MAGNITUDE", "LARGEST", "STD", "ENTROPY", "MOST"]
    for row, each in zip(rows, told["blocks"], strict=True):
        name, *numbers = row.split()
        assert name == each["block"]
        shown = [each[kind] for kind in ("channels", "magnitude", "largest", "std", "entropy")]
        assert list(map(float, numbers)) == pytest.approx([*shown, log(8)], rel=1e-3)


@pytest.mark.parametrize("model", [[], ["-m", "compact-denoise"], ["-m", "fast"]])
def test_bundled_models_are_inspected_whatever_their_task(here: Path, model: list[str]):
    write_picture(here / "grey.png", (9, 7), "L")
    assert main(["inspect", "grey.png", *model, "-d", "cpu"]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["none.png"], 1, "none.png: no such file"),
        (["a.png", "-m", "nothing"], 3, "there is no model 'nothing'"),
        (["a.png", "-o", "a.txt"], 2, "a.txt: a drawing ends in .svg; write a.svg"),
        (["a.png", "-o", "mine.svg"], 2, "mine.svg: exists already; give another name, or --overwrite"),
        (["a.png", "-o", "none/a.svg"], 1, "none/a.svg: the folder none does not exist"),
        (["a.png", "--max-pixels", "100"], 1, "a.png: "),
    ],
)
def test_refused(here: Path, arguments: list[str], code: int, told: str, capsys: pytest.CaptureFixture[str]):
    (here / "mine.svg").touch()
    assert main(["inspect", *arguments, "-d", "cpu"]) == code
    assert told in capsys.readouterr().err


def test_curves_are_drawn_on_common_axes_and_named():
    one, two = [(0, 10.0), (10, 1000.0)], [(0, 100.0), (10, 100.0), (20, float("nan"))]
    drawing = ElementTree.fromstring(svg([Panel("up", "across", {"<1>": one, "two": two}, log=True)]))
    lines = [each.get("points", "").split() for each in drawing if each.tag.endswith("polyline")]
    first, second = ([tuple(map(float, point.split(","))) for point in line] for line in lines)
    assert (first[0][0], first[1][0]) == (second[0][0], second[1][0])
    assert first[0][1] > second[0][1] > first[1][1]  # upwards, and 100 in the middle of 10 and 1,000
    assert second[0][1] == pytest.approx((first[0][1] + first[1][1]) / 2, abs=0.2)
    assert {"<1>", "two", "up", "across", "10", "100", "1,000"} <= {each.text for each in drawing}
    with pytest.raises(ValueError, match="up: there is nothing to draw"):
        svg([Panel("up", "across", {"one": [(0, 0.0)]}, log=True)])


def test_features_are_seen_in_bf16_too(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("irestore.devices.KNOWS_BF16", True)
    seen = []
    for precision in ("fp32", "bf16"):
        assert (
            main(["inspect", "a.png", "-m", "tiny.safetensors", "-d", "cpu", "--precision", precision, "--json"]) == 0
        )
        seen.append([each["std"] for each in json.loads(capsys.readouterr().out)["blocks"]])
    assert seen[0] != seen[1]
    assert seen[0] == pytest.approx(seen[1], rel=0.02)
