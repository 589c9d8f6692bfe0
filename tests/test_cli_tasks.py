"""Tasks by their files and streams: what goes in, what comes out, and what is said about it."""

import contextlib
import io
import json
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import CONFIG, Ran, finish, interrupt, irestore, results, size_of, start, write_picture, write_weights

from irestore import images
from irestore import weights as weights_package
from irestore.batch import progress
from irestore.batch.files import RunOptions
from irestore.batch.inputs import Item
from irestore.batch.report import Outcome, Report
from irestore.batch.restorer import Restorer
from irestore.cli import main
from irestore.cli.options import Computing
from irestore.weights import hub
from irestore.weights import manifest as models


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


@pytest.fixture(scope="module")
def same_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "same.safetensors", task="denoise", upscale=1)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("IRESTORE_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / ".home"))
    return tmp_path


# --- standard input and output


def test_a_picture_goes_through_standard_input_and_output(tmp_path: Path, weights: Path) -> None:
    picture = write_picture(tmp_path / "a.png", (7, 9))
    ran = irestore(tmp_path, "sr", "--weights", weights, "-", "-o", "-", "--quiet", stdin=picture.read_bytes())
    assert (ran.code, ran.err) == (0, "")
    assert main(["sr", "--weights", str(weights), str(picture), "-o", str(tmp_path / "b.png")]) == 0
    assert ran.out == (tmp_path / "b.png").read_bytes()


def test_standard_output_is_in_the_format_asked_for(
    here: Path, weights: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write_picture(here / "a.png", (7, 9))
    assert main(["sr", "--weights", str(weights), "a.png", "-o", "-", "-f", "jpg"]) == 0
    with Image.open(io.BytesIO(capfdbinary.readouterr().out)) as image:
        assert (image.format, image.size) == ("JPEG", (18, 14))


def test_bad_standard_input_is_named(tmp_path: Path, weights: Path) -> None:
    for stdin in (b"", b"no picture"):
        ran = irestore(tmp_path, "sr", "--weights", weights, "-", "-o", "a.png", stdin=stdin)
        assert (ran.code, ran.out) == (1, b"")
        assert "stdin" in ran.err
    assert results(tmp_path) == {}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_closed_or_full_standard_output_is_an_error(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png", (7, 9))
    ran = finish(start(tmp_path, ["sh", "-c", 'exec "$@" >/dev/full', "sh", *command(weights), "a.png", "-o", "-"]))
    assert ran.code == 1
    assert "standard output: cannot be written: No space left on device" in ran.err
    assert "None" not in ran.err


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP")
@pytest.mark.parametrize(("name", "ignored"), [("HUP", False), ("HUP", True), ("INT", True)])
def test_a_closed_terminal_stops_as_sigterm_does_but_what_is_ignored_stays_so(
    tmp_path: Path, weights: Path, name: str, ignored: bool
) -> None:
    """`nohup` ignores SIGHUP, and a shell SIGINT for what a script starts in the background."""
    for number in range(40):
        write_picture(tmp_path / "in" / f"{number:02}.png", (60, 60))
    trap = f"trap '' {name}; " if ignored else ""
    shell = ["sh", "-c", trap + 'exec "$@"', "sh"]
    process = start(tmp_path, [*shell, *command(weights), "-r", "in", "-o", "out"])
    ran = interrupt(process, signal.Signals[f"SIG{name}"], lambda: any((tmp_path / "out").glob("*.png")))
    made = len(list((tmp_path / "out").glob("*.png")))
    assert not list((tmp_path / "out").glob(".*"))
    if ignored:
        assert (ran.code, made) == (0, 40)
    else:
        assert ran.code == 129
        assert "stopped before the end; what is done is kept" in ran.err
        assert 0 < made < 40


def command(weights: Path) -> list[str]:
    return [sys.executable, "-m", "irestore", "sr", "--weights", str(weights)]


def test_a_list_of_names_with_newlines_comes_through_standard_input(tmp_path: Path, weights: Path) -> None:
    names = ["new\nline.png", "-dash.png", "two words.png", "ünïcödé.png", os.fsdecode(b"\xff.png")]
    for name in names:
        write_picture(tmp_path / name)
    stdin = b"\0".join(map(os.fsencode, names))
    ran = irestore(tmp_path, "sr", "--weights", weights, "--files-from", "-", "-o", "out", "-v", "--json", stdin=stdin)
    assert ran.code == 0
    assert sorted(results(tmp_path / "out")) == sorted(f"{Path(name).stem}_x2.png" for name in names)
    assert {record["input"] for record in ran.records} == set(names)
    assert len(ran.err.splitlines()) == 8  # the model, each picture, the slowest, the summary: no newline broke one


def test_an_empty_list_is_nothing_to_do(here: Path, weights: Path) -> None:
    (here / "list").touch()
    assert main(["sr", "--weights", str(weights), "--files-from", "list", "-o", "out"]) == 0
    assert results(here) == {"list": b""}


def test_names_with_a_leading_dash_come_after_two_dashes(here: Path, weights: Path) -> None:
    write_picture(here / "-x4.png")
    assert main(["sr", "--weights", str(weights), "--", "-x4.png"]) == 0
    assert size_of(here / "-x4_x2.png") == (24, 20)


# --- what becomes of pictures


def test_a_tree_is_restored_into_a_tree(here: Path, weights: Path) -> None:
    for name in ("a.png", "deep/b.jpg", "deep/er/c.webp"):
        write_picture(here / "in" / name, (8, 9))
    assert main(["sr", "--weights", str(weights), "-r", "in", "-o", "out"]) == 0
    assert list(results(here / "out")) == ["a_x2.png", "deep/b_x2.jpg", "deep/er/c_x2.webp"]


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_every_kind_of_picture_keeps_its_kind(here: Path, weights: Path, mode: str) -> None:
    write_picture(here / "a.png", (9, 11), mode)
    assert main(["sr", "--weights", str(weights), "a.png"]) == 0
    with Image.open("a_x2.png") as image:
        assert (image.mode, image.size) == (mode, (22, 18))


def test_fp16_is_refused_on_a_cpu(here: Path, weights: Path) -> None:
    write_picture(here / "a.png", (7, 9))
    ran = irestore(here, "sr", "--weights", weights, "a.png", "-d", "cpu", "--precision", "fp16")
    assert ran.code == 2
    assert "this CPU takes several times as long" in ran.err
    assert not (here / "a_x4.png").exists()


def test_a_cluster_computes_in_a_precision_that_this_machine_is_slow_in(
    here: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Workers:
        threads = 1

        def __init__(self, device: str) -> None:
            self.device, self.precision = device, ""

        def run(self, items: Sequence[Item], restorer: Restorer, report: Report, _: RunOptions) -> None:
            (loaded,) = restorer._loaded.values()
            self.precision = loaded.settings.precision
            for item in items:
                report.add(Outcome("done", item.input.path, item.target))

    write_picture(here / "a.png")
    for device, code, precision in (("cuda", 0, "fp16"), ("cpu", 2, "")):
        workers = Workers(device)
        monkeypatch.setattr("irestore.cli.job._connected", lambda options, _, w=workers: replace(options, workers=w))
        assert main(["sr", "--weights", str(weights), "a.png", "--precision", "fp16"]) == code
        assert workers.precision == precision


def test_several_cpus_are_a_cpu() -> None:
    assert Computing(device="cpu,cpu").on_cpu()
    assert not Computing(device="cuda:0,cuda:1").on_cpu()


def test_results_do_not_depend_on_the_tile(here: Path, weights: Path) -> None:
    write_picture(here / "a.png", (37, 50))
    for tile in ("auto", "off", "8", "16"):
        assert main(["sr", "--weights", str(weights), "-t", tile, "a.png", "-o", f"{tile}.png"]) == 0
    whole = np.asarray(Image.open("off.png"), dtype=np.int16)
    for tile in ("auto", "8", "16"):
        assert np.abs(np.asarray(Image.open(f"{tile}.png")) - whole).max() <= 1


def test_transparency_needs_a_format_that_has_it_or_a_background(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (9, 11), "RGBA")
    arguments = ["sr", "--weights", str(weights), "a.png", "-f", "jpg"]
    assert main(arguments) == 1
    assert "a.png: jpg has no transparency" in capsys.readouterr().err
    assert main([*arguments, "--background", "white"]) == 0
    assert main([*arguments, "--alpha", "drop", "--overwrite"]) == 0
    assert size_of(here / "a_x2.jpg") == (18, 22)


def test_strength_blends_the_tasks_that_keep_the_size(here: Path, same_size: Path) -> None:
    source = write_picture(here / "a.png", (9, 11))
    for strength in ("0", "1"):
        assert (
            main(["denoise", "--weights", str(same_size), "--strength", strength, "a.png", "-o", f"{strength}.png"])
            == 0
        )
    assert np.array_equal(np.asarray(Image.open("0.png")), np.asarray(Image.open(source)))
    assert not np.array_equal(np.asarray(Image.open("1.png")), np.asarray(Image.open(source)))
    assert main(["denoise", "--weights", str(same_size), "a.png"]) == 0
    assert (here / "a_denoise.png").exists()


def test_results_say_who_made_them_and_are_known_again(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.jpg", "c.webp", "d.tif"):
        write_picture(here / name)
    everything = ["sr", "--weights", str(weights), "-r", "."]
    assert main(everything) == 0
    tag = images.probe(here / "a_x2.png").provenance
    assert tag is not None
    assert tag.startswith("irestore/")
    assert " model=tiny weights=sha256:" in tag
    before = results(here)
    capsys.readouterr()
    assert main(everything) == 0
    assert results(here) == before
    err = capsys.readouterr().err
    assert "4 skipped: made by irestore itself; --include-restored" in err
    assert "0 done, 8 skipped, 0 failed" in err


def test_results_of_another_model_are_kept_and_told_or_made_again(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = here / "other.safetensors"
    shutil.copy(weights, other)
    for name in ("a.png", "b.png", "c.png"):
        write_picture(here / name)
    command = ["sr", "-o", "out/", "a.png", "b.png", "c.png", "d.png"]
    assert main([*command[:4], "-m", str(other)]) == 0
    assert main([*command[:3], "b.png", "-m", str(weights)]) == 0
    write_picture(here / "out/c_x2.png")  # nobody knows by what
    write_picture(here / "d.png")
    os.mkfifo(here / "out/d_x2.png")
    before = results(here / "out")
    capsys.readouterr()
    assert main([*command, "-m", str(weights), "--json"]) == 0
    out, err = capsys.readouterr()
    assert "4 skipped: the result exists already; --overwrite makes it again" in err
    assert "1 of those made by other; --redo replaces what another model made" in err
    assert [json.loads(line)["model"] for line in out.splitlines()] == ["other", "tiny", None, None]
    assert results(here / "out") == before
    assert main([*command, "-m", str(weights), "--redo"]) == 0
    assert "1 done, 3 skipped, 0 failed" in capsys.readouterr().err
    changed = {name for name, content in results(here / "out").items() if content != before[name]}
    assert changed == {"a_x2.png"}
    assert " model=tiny " in (images.probe(here / "out/a_x2.png").provenance or "")


def test_what_changes_unasked_is_said(here: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.jp2")
    Image.new("RGB", (9, 9), "red").convert("P").save(here / "b.png")
    Image.new("CMYK", (9, 9)).save(here / "c.jpg")
    assert main(["sr", "--weights", str(weights), "a.jp2", "b.png", "c.jpg"]) == 0
    err = capsys.readouterr().err
    assert "irestore: 1 picture of format jpeg2000 will be png; -f chooses another format" in err
    assert "b.png: its palette became full colour (RGB)" in err
    assert "c.jpg: CMYK without a CMYK profile; colours were converted" in err
    assert main(["sr", "--weights", str(weights), "a.jp2", "-o", "d.png"]) == 0
    assert "will be" not in capsys.readouterr().err


def test_verbose_says_how_and_why(here: Path, weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png", (40, 40))
    assert main(["sr", "--weights", str(weights), "a.png", "-d", "cpu", "-t", "16", "-v"]) == 0
    first, _, last = capsys.readouterr().err.splitlines()
    assert first.startswith("irestore: tiny (0.0 M parameters) on cpu, threads: ")
    assert "; fp32 (auto: the exact one); tiles of 16x16 for 40x40, about " in first
    assert "megapixels read, computing " in last
    assert last.endswith("): a_x2.png, made by tiny")


def test_a_long_run_says_at_its_start_what_would_be_faster(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in {"LONG_SECONDS": 0.0, "TRUST_SECONDS": 0.0, "DRAW_SECONDS": 0.01}.items():
        monkeypatch.setattr(progress, name, seconds)
    monkeypatch.setattr("irestore.devices.KNOWS_BF16", True)
    near = models.find("compact-deblur", models.entries())
    for module in (weights_package, models):
        monkeypatch.setattr(
            module,
            "entries",
            lambda manifests=(): (replace(near, name="far", cpu_seconds=550.0, size_bytes=10**9), near),
        )
    write_picture(here / "a.png", (90, 90))
    assert main(["deblur", "-m", "far", "--ensemble", "-d", "cpu", "a.png"]) == 0
    told = r"irestore: this will take about \S+ s with far on cpu; -m compact-deblur: about \S+ s; "
    told += "--precision bf16 is faster and within 1 of 255; without --ensemble: "
    err = capsys.readouterr().err
    assert len(re.findall(told, err)) == 1, err


def test_frames_are_refused_or_taken_as_asked(here: Path, weights: Path) -> None:
    first, *rest = (Image.new("RGB", (9, 8), (shade, 0, 0)) for shade in (0, 99, 200))
    first.save("moving.gif", save_all=True, append_images=rest, duration=50)
    arguments = ["sr", "--weights", str(weights), "moving.gif"]
    assert main(arguments) == 1
    assert main([*arguments, "--frames", "all"]) == 0
    with Image.open("moving_x2.gif") as image:
        assert (image.n_frames, image.size) == (3, (18, 16))
    assert main([*arguments, "--frames", "first"]) == 0
    assert size_of(here / "moving_x2.png") == (16, 18)


# --- models


@pytest.mark.parametrize("task", ["denoise", "dejpeg", "deblur", "derain"])
def test_a_task_without_any_model_says_so(
    here: Path, task: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = tuple(entry for entry in models.entries() if entry.task != task)
    monkeypatch.setattr(models, "entries", lambda manifests=(): known)
    write_picture(here / "a.png")
    assert main([task, "a.png"]) == 3
    assert f"no model for {task}" in capsys.readouterr().err


@pytest.mark.parametrize("task", ["denoise", "dejpeg", "deblur", "derain"])
def test_every_task_works_offline_with_its_bundled_model(
    here: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (20, 33))
    assert main([task, "--offline", "-d", "cpu", "a.png"]) == 0
    assert size_of(here / f"a_{task}.png") == (20, 33)
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_sr_works_offline_with_its_bundled_model(
    here: Path, scale: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "cached", lambda entry: None)  # whatever this machine's own cache holds
    write_picture(here / "a.png", (20, 33))
    assert main(["sr", f"-x{scale}", "--offline", "-d", "cpu", "a.png"]) == 0
    assert size_of(here / f"a_x{scale}.png") == (20 * scale, 33 * scale)
    told = capsys.readouterr().err.count(f"compact-x{scale} is used on a CPU, where heart-x")
    assert told == (0 if scale == 3 else 1), "x3 has no other model than the bundled one"


@pytest.mark.parametrize("quiet", [[], ["-q"]])
def test_a_gpu_falls_back_to_the_bundled_model_and_says_so_even_when_quiet(
    here: Path, quiet: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "cached", lambda entry: None)
    monkeypatch.setattr(Computing, "on_cpu", lambda self: False)
    write_picture(here / "a.png", (20, 33))
    assert main(["sr", "--offline", "a.png", *quiet]) == 0
    err = capsys.readouterr().err
    assert "Using the bundled model compact-x4 instead" in err
    assert "to insist: -m heart-x4-otf-v2" in err
    assert len(err.splitlines()) == (1 if quiet else 2)


def test_what_will_be_downloaded_is_said_with_its_size_and_how_to_avoid_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from irestore import weights as models

    monkeypatch.setattr(hub, "is_offline", lambda: False)
    monkeypatch.setattr(hub, "cached", lambda entry: None)
    monkeypatch.setattr(hub, "endpoint", lambda: "https://hub.example")
    monkeypatch.setattr(models, "obtain", lambda wanted, **_: models.Found(wanted[0], Path("none"), None))
    write_picture(here / "a.png", (20, 33))
    assert main(["sr", "-m", "best", "a.png", "-d", "cpu"]) == 3  # the file is not there after all
    told = "heart-x4-otf-v2 is not on this machine: downloading ~67 MB from hub.example (Phips/HEART), once"
    assert f"irestore: {told}; -m fast needs none\n" in capsys.readouterr().err


def manifest(folder: Path, weights: Path, **changes: str) -> Path:
    """A manifest whose first model must be fetched, and whose second one lies beside it."""
    import hashlib

    shutil.copy(weights, folder / "tiny.safetensors")
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    config = "\n".join(f"{key} = {json.dumps(value)}" for key, value in CONFIG.items())
    common = f'task = "sr"\nscale = 3\narchitecture = "heart"\nlicence = "CC0-1.0"\nsha256 = "{sha256}"\n'
    remote = f'repo = "someone/toys"\nrevision = "{"0" * 40}"\nfile = "far.safetensors"\n'
    text = f'[[model]]\nname = "far"\n{common}{remote}[model.config]\n{config}\n'
    text += f'[[model]]\nname = "near"\n{common}file = "tiny.safetensors"\n[model.config]\n{config}\n'
    path = folder / "models.toml"
    path.write_text(text.replace("scale = 3", "scale = 2"))
    return path


def test_a_model_of_one_s_own_manifest_is_used_by_name(here: Path, weights: Path) -> None:
    write_picture(here / "a.png")
    arguments = ["sr", "-x2", "--manifest", str(manifest(here, weights)), "a.png", "--name", "{stem}-{model}{ext}"]
    assert main([*arguments, "-m", "near"]) == 0
    assert size_of(here / "a-near.png") == (24, 20)
    assert main([*arguments, "-m", "far"]) == 3


def test_falling_back_warns_once_and_names_the_results_after_the_model_that_made_them(
    here: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from irestore import weights as models

    far, near = (models.find(name, models.entries([manifest(here, weights)])) for name in ("far", "near"))
    monkeypatch.setattr(models, "candidates", lambda *_: (far, near))
    fallback = models.Found(near, here / "tiny.safetensors", "no connection; using near instead")
    monkeypatch.setattr(models, "obtain", lambda *_, **__: fallback)
    for name in ("a.png", "b.png"):
        write_picture(here / name)
    assert main(["sr", "-x2", "a.png", "b.png", "--name", "{stem}-{model}{ext}"]) == 0
    err = capsys.readouterr().err
    assert err.count("using near instead") == 1
    assert (here / "a-near.png").exists()
    assert (here / "b-near.png").exists()


def test_one_s_own_weights_can_be_described_by_options(here: Path, weights: Path) -> None:
    from safetensors.torch import load_file, save_file

    save_file(load_file(weights), here / "bare.safetensors")
    write_picture(here / "a.png")
    (here / "config.json").write_text(json.dumps(CONFIG | {"upscale": 4}))
    described = ["--architecture", "heart", "--config", "config.json", "--config", "upscale=2"]
    assert main(["sr", "--weights", "bare.safetensors", "a.png"]) == 2
    assert main(["sr", "--weights", "bare.safetensors", *described, "a.png"]) == 0
    assert size_of(here / "a_x2.png") == (24, 20)
    assert main(["sr", "--weights", "bare.safetensors", *described, "--config", "rank=3", "a.png", "--overwrite"]) == 3


@pytest.mark.parametrize("option", ["-m", "--weights"])
def test_a_reference_to_the_hub_is_taken_by_both_options(
    here: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png")
    assert main(["sr", option, "hf:someone/toys/toy.safetensors", "a.png"]) == 2
    assert "commit" in capsys.readouterr().err
    assert main(["sr", option, f"hf:someone/toys/toy.safetensors@{'0' * 40}", "a.png", "--offline"]) == 3


def test_weights_for_another_task_or_an_unusual_scale_are_refused(
    here: Path, weights: Path, same_size: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png")
    assert main(["sr", "--weights", str(same_size), "a.png"]) == 2
    assert "irestore denoise" in capsys.readouterr().err
    assert main(["dejpeg", "--weights", str(weights), "a.png"]) == 2
    assert "irestore sr" in capsys.readouterr().err
    large = write_weights(here / "x8.safetensors", upscale=8)
    assert main(["sr", "--weights", str(large), "a.png"]) == 2
    assert "enlarges 8 times" in capsys.readouterr().err


@pytest.mark.parametrize("config", ["nofile.json", "[1]", "rank"])
def test_a_config_that_is_none_is_a_usage_error(
    here: Path, weights: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "[1]").write_text("[1]")
    (here / "rank").write_text("{")
    write_picture(here / "a.png")
    assert main(["sr", "--weights", str(weights), "--config", config, "a.png"]) == 2
    assert config in capsys.readouterr().err


# --- what is said


def test_json_is_the_only_thing_on_standard_output(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png", (7, 9))
    (tmp_path / "b.png").write_text("no picture")
    (tmp_path / "c_x2.png").touch()
    write_picture(tmp_path / "c.png")
    ran = irestore(tmp_path, "sr", "--weights", weights, "a.png", "b.png", "c.png", "--json", "-q")
    by_input = {record["input"]: record for record in ran.records}
    assert ran.code == 1
    assert {name: record["status"] for name, record in by_input.items()} == {
        "a.png": "done",
        "b.png": "failed",
        "c.png": "skipped",
    }
    done = by_input["a.png"]
    assert done["output_size"] == {"height": 14, "width": 18}
    assert done["peak_bytes"] > 2**20
    assert done["model"] == "tiny"
    assert by_input["b.png"]["error"].startswith("b.png: ")
    assert ran.err.splitlines() == [f"irestore: {by_input['b.png']['error']}"]


def test_a_dry_run_tells_sizes_memory_and_time_and_does_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png", (7, 9))
    (here / "b.png").touch()
    before = results(here)
    assert (
        main(["sr", "-x2", "-n", "a.png", "-o", "out/", "-d", "cpu", "--config", "x=1", "--weights", "no.safetensors"])
        == 3
    )
    capsys.readouterr()
    weights = write_weights(here / ".w.safetensors")
    assert main(["sr", "-n", "a.png", "b.png", "-o", "out/", "--weights", str(weights), "-d", "cpu"]) == 1
    out, err = capsys.readouterr()
    assert out.startswith("a.png -> out/a_x2.png  9x7 -> 18x14  ")
    assert " MiB " in out
    assert out.rstrip().endswith(" s")
    assert "1 to do with " in err
    assert "b.png: the file is empty" in err
    assert main(["sr", "-n", "--json", "-q", "a.png", "b.png", "-o", "out/", "-m", str(weights), "-d", "cpu"]) == 1
    record, failed = map(json.loads, capsys.readouterr().out.splitlines())
    assert (failed["status"], failed["error"]) == ("failed", "b.png: the file is empty")
    assert failed.keys() == record.keys()
    assert (record["status"], record["output_size"]) == ("planned", {"height": 14, "width": 18})
    assert record["peak_bytes"] > 0
    weights.unlink()
    assert results(here) == before


def test_a_dry_run_without_a_connection_names_the_model_that_will_be_used(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "cached", lambda entry: None)
    write_picture(here / "a.png", (7, 9))
    assert main(["sr", "-n", "--offline", "a.png", "-d", "cpu"]) == 0
    err = capsys.readouterr().err
    assert "compact-x4 is used on a CPU" in err
    assert "1 to do with compact-x4 (bundled)" in err
    monkeypatch.setattr(Computing, "on_cpu", lambda self: False)
    assert main(["sr", "-n", "--offline", "a.png", "-d", "cpu"]) == 0
    assert "Using the bundled model compact-x4 instead" in capsys.readouterr().err
    assert main(["sr", "-n", "--offline", "-m", "heart-x4-otf-v2", "a.png", "-d", "cpu"]) == 3


@pytest.mark.parametrize(
    ("inputs", "side_by_side"), [(["a.png"], False), (["a.png", "b.png"], True), (["a.png", "--shard", "1/2"], True)]
)
def test_what_is_computed_side_by_side_follows_from_the_command_and_not_from_what_is_left_to_do(
    here: Path, monkeypatch: pytest.MonkeyPatch, inputs: list[str], side_by_side: bool
) -> None:
    """A command that is run again computes the rest as it would have the first time, to the last bit."""
    write_picture(here / "a.png")
    write_picture(here / "b.png")
    write_picture(here / "b_x2.png")
    weights = write_weights(here / "w.safetensors")
    seen: list[RunOptions] = []

    def run(items: object, pool: object, report: Report, options: RunOptions) -> None:
        seen.append(options)
        report.totals.done += 1

    monkeypatch.setattr("irestore.batch.run.run", run)
    assert main(["sr", *inputs, "--weights", str(weights), "-d", "cpu"]) == 0
    assert [options.side_by_side for options in seen] == [side_by_side]


def test_a_model_that_is_named_says_the_scale_and_is_used_as_often_as_another_one_needs(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png", (7, 9))
    assert main(["sr", "-n", "-m", "compact-x2", "a.png", "-d", "cpu"]) == 0
    assert "18x14" in capsys.readouterr().out
    assert main(["sr", "-n", "-x4", "-m", "compact-x2", "a.png", "-d", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "36x28 (sr x2, sr x2)" in out
    assert "several networks for 1 picture, because one does not enlarge so much: sr x2, sr x2" in err
    assert main(["sr", "-n", "-x1.5", "-m", "compact-x2", "a.png", "-d", "cpu"]) == 0
    out, err = capsys.readouterr()
    assert "14x10 (sr x2, reduced)" in out
    assert "by several" not in err


def test_results_that_exist_and_nothing_at_all_are_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png")
    write_picture(here / "a_x2.png")
    (here / "empty").mkdir()
    assert main(["sr", "a.png", "-m", "compact-x2"]) == 0
    assert "1 skipped: the result exists already; --overwrite" in capsys.readouterr().err
    assert main(["sr", "-r", "empty", "-m", "compact-x2"]) == 0
    assert "no pictures found in empty" in capsys.readouterr().err


def test_values_that_make_no_sense_are_refused_in_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png")
    for arguments, said in (
        (["denoise", "a.png", "--strength", "nan"], "'nan' is not a number from 0 to 1"),
        (["denoise", "a.png", "--strength", "50%"], "'50%' is not a number from 0 to 1"),
        (["denoise", "a.png", "--threads", "9999999999"], "not in the range"),
    ):
        assert main(arguments) == 2
        assert said in capsys.readouterr().err
    assert main(["denoise", "a.png", "-o", f"{'x' * 300}.png"]) == 1
    assert "File name too long" in capsys.readouterr().err


def test_a_folder_whose_name_looks_like_a_file_is_told_before_it_is_made(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_picture(here / "a.png")
    for output, told in (("new.xyz", True), ("new.xyz", False), ("other.d/", False), ("out", False), ("b.png", False)):
        assert main(["denoise", "a.png", "-o", output]) == 0
        assert (f"-o {output}: is a folder, since .xyz is no picture's suffix" in capsys.readouterr().err) == told
    assert (here / "new.xyz/a_denoise.png").is_file()


def test_a_result_named_like_an_input_is_told_how_to_name_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_picture(here / "a.png")
    assert main(["sr", "-n", "a.png", "large.png", "-m", "compact-x2"]) == 1
    assert "large.png: no such file; if it is to be the result, write -o large.png" in capsys.readouterr().err


def test_pictures_of_one_name_are_told_apart_by_folder_or_suffix(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("u/a.png", "v/a.png", "v/a.bmp"):
        write_picture(here / name)
    assert main(["sr", "-n", "u/a.png", "v/a.png", "v/a.bmp", "-f", "png", "-o", "out", "-m", "compact-x2"]) == 2
    assert "{inext}" in capsys.readouterr().err
    template = "{parent}-{stem}-{inext}{ext}"
    assert main(["sr", "-n", "-r", ".", "-f", "png", "-o", "out", "-m", "compact-x2", "--name", template]) == 0
    told = capsys.readouterr().out
    assert all(f"{name}.png" in told for name in ("u-a-png", "v-a-png", "v-a-bmp"))


def test_progress_is_shown_on_a_terminal(tmp_path: Path, weights: Path) -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    for number in range(3):
        write_picture(tmp_path / f"{number}.png", (600, 500))
    arguments = [*command(weights), "0.png", "1.png", "2.png", "--overwrite"]

    def on_terminal(*more: str, term: str = "xterm") -> str:
        told, end = pty.openpty()
        termios.tcsetwinsize(end, (24, 100))
        text = bytearray()

        def read() -> None:
            with contextlib.suppress(OSError):  # the other end is closed
                while block := os.read(told, 4096):
                    text.extend(block)

        reader = threading.Thread(target=read)  # meanwhile: a terminal that nobody reads makes programs wait
        reader.start()
        shell = ["sh", "-c", f'exec "$@" 2>{os.ttyname(end)}', "sh"]
        ran: Ran = finish(start(tmp_path, [*shell, *arguments, *more], more={"TERM": term}))
        os.close(end)
        reader.join()
        os.close(told)
        assert ran.code == 0
        return text.decode(errors="replace")

    shown = on_terminal()
    assert "1/3 " in shown
    assert "%" in shown
    assert "3 done" in shown
    assert "Warning" not in shown
    assert "::" not in shown
    for plain in (on_terminal("--no-progress"), on_terminal(term="dumb")):
        assert "%" not in plain
        assert "\x1b" not in plain
        assert len(plain.replace("\r\n", "\n").splitlines()) == 2  # the slowest, and the counts


def test_a_pipe_as_input_is_refused_not_waited_for(tmp_path: Path, weights: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    write_picture(tmp_path / "a.png")
    ran = irestore(tmp_path, "sr", "--weights", weights, "pipe.png", "a.png")
    assert ran.code == 1
    assert "pipe.png: is not a regular file" in ran.err
    assert (tmp_path / "a_x2.png").exists()


def test_nothing_is_loaded_where_nothing_is_to_be_computed(here: Path) -> None:
    write_picture(here / "a.png")
    write_picture(here / "a_x2.png")
    code = "import sys; from irestore.cli import main; main(sys.argv[1:]); print('torch' in sys.modules)"
    ran = finish(start(here, [sys.executable, "-c", code, "sr", "-x2", "-m", "compact-x2", "a.png"]))
    assert (ran.code, ran.out.split()) == (0, [b"False"])
