"""`--preview`: results of a run and of its alternatives on a page, and nothing written besides."""

from pathlib import Path

import numpy as np
import pytest
from browser import Page
from PIL import Image
from tiny import results, write_picture, write_weights

from irestore.cli import main


@pytest.fixture(scope="module")
def denoiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "same.safetensors", task="denoise", upscale=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return tmp_path


def test_every_strength_is_on_the_page_with_what_to_type(here: Path, denoiser: Path) -> None:
    for number in range(6):
        write_picture(here / "in" / f"{number}.png", (20, 30))
    before = results(here)
    common = ["denoise", "--weights", str(denoiser), "-r", "in"]
    assert main([*common, "--preview", "page.html", "--strength", "0.5", "--strength", "1", "-o", "out/"]) == 0
    assert results(here).keys() - before.keys() == {"page.html"}
    page = Page(here / "page.html")
    assert [scene["aria-label"] for scene in page.all("section")] == ["0.png", "1.png", "2.png", "3.png"]
    assert len(page.pictures) == 12
    assert page.text.count("--strength 0.5") == page.text.count("--strength 1") == 4
    assert main([*common, "--strength", "0.5", "-o", "out/"]) == 0
    assert (page.pictures[1] == np.asarray(Image.open(here / "out" / "0_denoise.png"))).all()


def test_models_are_compared_and_one_that_cannot_be_had_does_not_stop_the_others(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.jpg", (16, 16))
    assert main(["sr", "a.jpg", "-x2", "-m", "none", "-m", "compact-x2", "--preview", "page.html"]) == 3
    told = capsys.readouterr().err
    assert "preview 1 of 2: -m none" in told
    assert "page.html: open it in a browser; nothing else was written" in told
    page = Page(here / "page.html")
    assert [each["alt"] for each in page.all("img")] == ["a.jpg", "compact-x2"]
    assert "-m compact-x2" in page.text
    assert [shown.shape for shown in page.pictures] == [(16, 16, 3), (32, 32, 3)]


def test_what_would_be_equal_is_computed_and_shown_once(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png", (16, 16))
    wanted = ["sr", "a.png", "-x2", "--first", "dejpeg", "-m", "fast", "-m", "compact-x2"]
    assert main([*wanted, "--preview", "page.html"]) == 0
    told = "--first dejpeg -m compact-x2 gives the same as --first dejpeg -m fast, which is shown"
    assert told in capsys.readouterr().err
    page = Page(here / "page.html")
    assert [each["alt"] for each in page.all("img")] == ["a.png", "compact-dejpeg then compact-x2"]
    assert "--first dejpeg -m fast" in page.text


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-m", "a", "-m", "b"], "several are compared by --preview page.html"),
        (["--strength", "0.2", "--strength", "0.3"], "several are compared by --preview page.html"),
        (["--preview", "page.png"], "page.png: a page ends in .html"),
        (["--preview", "mine.html"], "mine.html: exists already"),
        (["--preview", "page.html", "-n"], "leave out -, --ray, --dry-run and --json"),
        (["--preview", "page.html", *(f"--strength=0.{digit}" for digit in range(9))], "a page shows up to 8"),
    ],
)
def test_refused_before_anything_is_computed(
    here: Path, arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png")
    (here / "mine.html").touch()
    assert main(["denoise", "a.png", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert sorted(path.name for path in here.iterdir()) == ["a.png", "mine.html"]
