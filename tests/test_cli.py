"""The command line: quick, complete, and every exit code by the installed command."""

import os
import re
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from tiny import IRESTORE, Ran, environment, finish, interrupt, irestore, results, start, write_picture, write_weights

import irestore as package
from irestore.cli import COMMANDS, main, root
from irestore.cli.values import byte_size, device, tile
from irestore.tasks import TASKS

HEAVY = {"torch", "numpy", "PIL", "huggingface_hub", "tqdm", "safetensors"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_weights(tmp_path_factory.mktemp("weights") / "tiny.safetensors")


# --- start-up


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["--version"], [], ["sr", "--help"], ["doctor", "--help"], ["completion", "zsh"], ["nonsense"]],
)
def test_nothing_heavy_is_imported_to_be_told_something(tmp_path: Path, arguments: list[str]) -> None:
    code = (
        "import sys; from irestore.cli import main; main(sys.argv[1:]); print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    ran = finish(start(tmp_path, [sys.executable, "-c", code, *arguments]))
    assert HEAVY.isdisjoint(ran.err.splitlines()), HEAVY.intersection(ran.err.splitlines())


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_while_they_wait_unless_the_user_says_otherwise(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    """On a busy machine a spinning thread takes the processor from the one that it waits for."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert main(["--version"]) == 0
    assert os.environ["OMP_WAIT_POLICY"] == expected


def test_completion_of_a_model_imports_nothing_heavy_and_names_the_models_of_the_task(tmp_path: Path) -> None:
    more = {"_IRESTORE_COMPLETE": "bash_complete", "COMP_WORDS": "irestore sr -m he", "COMP_CWORD": "3"}
    assert b"heart-x4-otf-v2" in irestore(tmp_path, more=more).out
    told = "atexit.register(lambda: print(*sys.modules, sep='\\n'))"
    code = f"import atexit, sys; {told}; from irestore.cli import main; main()"
    ran = finish(start(tmp_path, [sys.executable, "-c", code], more=more))
    assert HEAVY.isdisjoint(ran.out.decode().splitlines())


def test_help_takes_little_longer_than_python_itself(tmp_path: Path) -> None:
    """The bound is 0.25 s between medians on a quiet machine; here the best of five, whatever else runs beside."""

    def seconds(*command: Any) -> float:
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment(tmp_path))
        return time.perf_counter() - began

    pairs = [(seconds(sys.executable, "-c", "pass"), seconds(IRESTORE, "--help")) for _ in range(5)]
    assert min(help_ for _, help_ in pairs) - min(bare for bare, _ in pairs) < 0.25


def test_every_command_is_listed_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", listed, re.MULTILINE)
        assert main([name, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"Usage: irestore {name}")
    assert set(COMMANDS) == set(root.list_commands(click.Context(root)))


@pytest.mark.parametrize("words", [["help"], ["help", "sr"], ["help", "models", "download"]])
def test_help_is_a_command_too(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    told = capsys.readouterr().out
    assert main([*words[1:], "--help"]) == 0
    assert capsys.readouterr().out == told


def test_help_on_what_is_no_command_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["help", "nosuch"]) == 2
    assert "no such command 'nosuch'" in capsys.readouterr().err


def test_the_version_is_the_package_s(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"irestore, version {package.__version__}"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert finish(start(tmp_path, [sys.executable, "-m", "irestore", "-h"])).out == irestore(tmp_path, "-h").out


# --- options


def task(name: str) -> click.Command:
    command = root.get_command(click.Context(root), name)
    assert command is not None
    return command


SAMPLES = {"scale": "2", "config": "a=1", "manifest": "m.toml", "device": "cpu", "tile": "64", "max_memory": "1G"}
SAMPLES |= {"model_dir": "."}
SAMPLES |= {"threads": "2", "quality": "80", "lossless": "1", "max_pixels": "9", "strength": "0.5", "precision": "bf16"}
SAMPLES |= {"width": "3840", "height": "2160", "fit": "3840x2160", "megapixels": "24"}
SAMPLES |= {"format": "webp", "depth": "16", "metadata": "strip", "alpha": "drop", "frames": "all", "shard": "1/2"}


@pytest.mark.parametrize("name", TASKS)
def test_every_option_can_be_set_in_the_environment(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command = task(name)
    options = [param for param in command.params if isinstance(param, click.Option)]
    without = command.make_context(name, ["a.png"]).params
    for option in options:
        assert option.name is not None
        value = SAMPLES.get(option.name, "1" if option.is_flag else "text")
        monkeypatch.setenv(f"IRESTORE_{option.name.upper()}", value)
    with_ = command.make_context(name, ["a.png"]).params
    assert {key for key in with_ if with_[key] != without[key]} == {option.name for option in options}


def test_an_option_on_the_command_line_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRESTORE_TILE", "64")
    assert task("sr").make_context("sr", ["a.png"]).params["tile"] == 64
    assert task("sr").make_context("sr", ["-t", "off", "a.png"]).params["tile"] == "off"


@pytest.mark.parametrize("arguments", [["-x4"], ["-x", "4"], ["--scale", "4"], ["--scale=4"]])
def test_the_scale_can_be_written_in_every_usual_way(arguments: list[str]) -> None:
    assert task("sr").make_context("sr", [*arguments, "a.png"]).params["scale"] == 4


@pytest.mark.parametrize(
    ("text", "size"),
    [("6G", 6 * 2**30), ("1.5 GiB", 3 * 2**29), ("800mb", 800 * 2**20), ("4096000", 4096000), ("2t", 2**41)],
)
def test_sizes_of_memory(text: str, size: int) -> None:
    assert byte_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "0", "1X", "1.2.3", "0.1", "9" * 400])
def test_what_is_no_size_of_memory_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="6G"):
        byte_size(text)
    with pytest.raises(click.BadParameter, match="'200' needs a unit; write 200M or 200G"):
        byte_size("200")


def test_tiles_and_devices() -> None:
    assert [tile(text) for text in ("auto", "off", "64")] == ["auto", "off", 64]
    for text in ("0", "-1", "1.5", "on", "٣", "9" * 5000):
        with pytest.raises(click.BadParameter, match="off"):
            tile(text)
    for text in ("auto", "cpu", "mps", "cuda", "cuda:3", "cuda:all", "cuda:0,cuda:1", "cpu,cpu"):
        assert device(text) == text
    for text in ("gpu", "cuda:", "cuda:x", "CPU", "cuda:0,", "auto,cpu", "cuda:all,cuda:0"):
        with pytest.raises(click.BadParameter, match="cuda:0"):
            device(text)


# --- exit codes, by the installed command


def test_0_when_all_is_done_and_again_when_all_is_there(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    ran = irestore(tmp_path, "sr", "-x2", "--weights", weights, "a.png")
    assert (ran.code, ran.out) == (0, b"")
    assert ran.err.startswith("irestore: 1 done, 0 skipped, 0 failed in ")
    before = results(tmp_path)
    again = irestore(tmp_path, "sr", "-x2", "--weights", weights, "a.png")
    assert (again.code, again.err.splitlines()[-1]) == (0, "irestore: 0 done, 1 skipped, 0 failed")
    assert results(tmp_path) == before


def test_1_when_a_picture_fails_and_the_others_are_done(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    truncated = write_picture(tmp_path / "cut.png", (40, 40))
    truncated.write_bytes(truncated.read_bytes()[:900])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    (tmp_path / "folder").mkdir()
    bad = ["cut.png", "text.png", "empty.png", "folder", "missing.png"]
    ran = irestore(tmp_path, "sr", "--weights", weights, *bad, "a.png", "-o", "out")
    assert ran.code == 1
    assert list(results(tmp_path / "out")) == ["a_x2.png"]
    for name in bad:
        first, again = [line for line in ran.err.splitlines() if name in line]
        assert first.startswith(f"irestore: {name}: ")
        assert again == first.replace("irestore: ", "irestore: failed: ", 1)
    assert ran.err.splitlines()[-1].startswith("irestore: 1 done, 0 skipped, 5 failed")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["upscale", "a.png"], "no such command 'upscale'; there are: sr, "),
        (["dejpeg,sr", "a.jpg"], "several tasks at once: irestore sr --first dejpeg"),
        (["denoize", "a.png"], "did you mean denoise?"),
        (["a.png"], "a.png is no command: say first what to do with it, as in: irestore sr a.png"),
        (["sr", "a.png", "--model-dir", "nowhere"], "nowhere"),
        (["sr", "a.png", "a.jpg", "-o", "b.png"], "b.png: is the name of one picture"),
        (["sr", "--nonsense", "a.png"], "--nonsense"),
        (["sr", "-x1", "a.png"], "irestore denoise"),
        (["sr", "-t", "0", "a.png"], "'0'"),
        (["sr", "--max-memory", "lots", "a.png"], "'lots'"),
        (["sr", "-d", "gpu", "a.png"], "'gpu'"),
        (["sr"], "no pictures"),
        (["sr", "a.png", "--name", "{nothing}"], "{nothing}"),
        (["sr", "a.png", "-o", "a.png", "--overwrite"], "a.png"),
        (["sr", "a.png", "a.jpg", "-f", "webp"], "a_x4.webp"),
        (["sr", "a.png", "-o", "b.jpg", "-f", "png"], "b.jpg"),
        (["sr", "a.png", "-f", "jpg", "--lossless"], "jpg"),
        (["sr", "a.png", "-o", "b.jpg", "--depth", "16"], "jpg"),
        (["sr", "a.png", "--background", "greenish"], "greenish"),
        (["sr", "a.png", "--architecture", "heart"], "--weights"),
        (["sr", "a.png", "-m", "x", "--weights", "y"], "--model"),
        (["sr", "-", "--files-from", "-", "-o", "-"], "standard input"),
        (["sr", "-"], "-o"),
        (["sr", "a.png", "-o", "-", "--json"], "standard output"),
        (["sr", "a.png", "a.jpg", "-o", "-"], "one picture"),
        (["sr", "--files-from", "nolist"], "nolist"),
        (["denoise", "--strength", "2", "a.png"], "2"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_2_when_the_command_makes_no_sense(
    tmp_path: Path, arguments: list[str], said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_picture(tmp_path / "a.png")
    write_picture(tmp_path / "a.jpg")
    before = results(tmp_path)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert results(tmp_path) == before


def test_2_by_the_installed_command(tmp_path: Path) -> None:
    ran = irestore(tmp_path, "sr", "-x17", "a.png")
    assert (ran.code, ran.out) == (2, b"")
    assert "'17' is not how many times larger" in ran.err


def test_3_when_the_model_cannot_be_had(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    unknown = irestore(tmp_path, "sr", "-m", "heart-x4-otf", "a.png")
    assert unknown.code == 3
    assert "heart-x4-otf-v2" in unknown.err  # the nearest names
    named = irestore(tmp_path, "sr", "-x4", "-m", "heart-x4-otf-v2", "a.png", "--offline")
    assert named.code == 3
    assert "irestore models download heart-x4-otf-v2" in named.err
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"<html>")
    assert irestore(tmp_path, "sr", "--weights", broken, "a.png").code == 3
    assert list(results(tmp_path)) == ["a.png", "broken.safetensors"]


def test_130_and_143_when_stopped_and_the_same_command_does_the_rest(tmp_path: Path, weights: Path) -> None:
    for number in range(60):
        write_picture(tmp_path / "in" / f"{number:02}.png", (40, 40))
    command = [IRESTORE, "sr", "--weights", weights, "-r", "in", "-o"]
    for name, number, code in (("int", signal.SIGINT, 130), ("term", signal.SIGTERM, 143)):
        out = tmp_path / name
        process = start(tmp_path, [*command, name])
        ran = interrupt(process, number, lambda out=out: any(out.glob("*.png")))  # type: ignore[misc]
        assert (ran.code, ran.out) == (code, b"")
        done = len(list(out.glob("*.png")))
        assert 0 < done < 60
        assert list(out.glob(".*")) == []
        assert f"irestore: {done} done, 0 skipped, 0 failed" in ran.err
        assert "the same command does the rest" in ran.err
        assert "Traceback" not in ran.err
    rest = irestore(tmp_path, *command[1:], "int")
    assert (rest.code, len(list((tmp_path / "int").glob("*.png")))) == (0, 60)


def test_130_while_still_starting(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    process = start(tmp_path, [IRESTORE, "sr", "--weights", weights, "a.png"])
    time.sleep(0.6)  # importing torch
    process.send_signal(signal.SIGINT)
    ran = finish(process)
    assert ran.code in (130, 0), ran.err
    assert "Traceback" not in ran.err


# --- one line, whatever happens


def in_shell(folder: Path, command: str, more: dict[str, str] | None = None) -> Ran:
    """A shell's command, in which `irestore` is the installed one."""
    path = {"PATH": f"{IRESTORE.parent}:/usr/bin:/bin"}
    return finish(start(folder, ["sh", "-c", command], more=path | (more or {})))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_data_that_standard_output_does_not_take_are_an_error_of_one_line(
    tmp_path: Path, weights: Path, redirection: str, unbuffered: str
) -> None:
    write_picture(tmp_path / "a.png")
    for command in ("--help", "models", f"sr -q --json --weights {weights} a.png -o out/"):
        ran = in_shell(tmp_path, f"exec irestore {command} {redirection}", {"PYTHONUNBUFFERED": unbuffered})
        assert ran.code == 1, command
        (line,) = ran.err.splitlines()
        assert line.startswith("irestore: standard output: cannot be written: "), command


def test_closed_streams_that_nobody_needs_are_no_error(tmp_path: Path, weights: Path) -> None:
    write_picture(tmp_path / "a.png")
    closed = in_shell(tmp_path, f"irestore sr --weights {weights} a.png -o b.png <&- >&- 2>&-")
    assert (closed.code, closed.out, closed.err) == (0, b"", "")
    assert in_shell(tmp_path, f"irestore sr --weights {weights} a.png -o c.png").code == 0
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_closed_standard_input_is_an_empty_picture(tmp_path: Path, weights: Path) -> None:
    ran = in_shell(tmp_path, f"irestore sr -q --weights {weights} - -o b.png <&-")
    assert (ran.code, len(ran.err.splitlines())) == (1, 1)
    assert "stdin" in ran.err


@pytest.mark.parametrize(
    "arguments", [["sr", "a\0.png"], ["sr", "a.png", "--name", "{stem:\0>9}{ext}"], ["models", "path", "\0"]]
)
def test_nul_in_an_argument_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err == "irestore: an argument contains a NUL character, which no file name can contain\n"


@pytest.mark.parametrize("nested", ["[" * 100_000, '{"a":' * 100_000])
@pytest.mark.parametrize("form", ["deep.json", "deep.toml", "rank"])
def test_a_config_that_is_nested_too_deeply_is_a_usage_error(
    tmp_path: Path, weights: Path, form: str, nested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / form
    file.write_text(f"a = {nested.replace(':', '=')}" if form == "deep.toml" else nested)
    item = f"rank={nested}" if form == "rank" else str(file)
    assert main(["sr", "--weights", str(weights), "--config", item, "a.png"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("irestore: --config ")
    assert line.endswith("nested too deeply")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "there is not enough memory"),
        (ImportError("libtorch.so: cannot allocate memory"), "a library cannot be loaded (libtorch.so: cannot"),
        (PermissionError(13, "Permission denied", "x\n.lock"), "[Errno 13] Permission denied: 'x"),
    ],
)
def test_errors_of_the_machine_are_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("irestore.cli.job.restore_files", fail)
    assert main(["sr", "a.png"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"irestore: {said}")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["sr", "-m", "EVIL", "a.png"], 3),
        (["sr", "--weights", "EVIL", "a.png"], 3),
        (["sr", "--manifest", "EVIL", "a.png"], 3),
        (["sr", "EVIL", "b/EVIL", "-o", "out", "-m", "compact-x4"], 2),
        (["sr", "-n", "-v", "EVIL", "-m", "compact-x4", "-d", "cpu"], 0),
        (["sr", "a.png", "--name", "EVIL{}"], 2),
        (["sr", "a.png", "--weights", "w", "--config", "EVIL"], 2),
        (["sr", "--EVIL"], 2),
        (["EVIL"], 2),
        (["eval", "sr", "--hr", "EVIL", "--lr", "EVIL"], 2),
        (["eval", "sr", "EVIL", "--hr", "."], 2),
        (["models", "info", "EVIL"], 3),
    ],
)
def test_no_name_reaches_the_terminal_as_it_is(
    tmp_path: Path, arguments: list[str], code: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    evil = "\x1b[31mred\nirestore: all is well\x9b.png"
    for name in (evil, f"b/{evil}", "a.png"):
        write_picture(tmp_path / name)
    assert main([argument.replace("EVIL", evil) for argument in arguments]) == code
    out, err = capsys.readouterr()
    assert "\\x1b[31mred\\nirestore" in out + err
    for line in (out + err).splitlines():
        assert line.isprintable()
        assert not line.startswith("irestore: all is well")


# --- the other commands


def test_bash_takes_the_completion_script(tmp_path: Path) -> None:
    script = 'eval "$(irestore completion bash)" && complete -p irestore'
    path = {"PATH": f"{IRESTORE.parent}:/usr/bin:/bin"}
    ran = finish(start(tmp_path, ["bash", "-c", script], more=path))
    assert (ran.code, ran.err) == (0, "")
    assert b"irestore" in ran.out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert f"_IRESTORE_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_the_doctor_tells_everything_and_checks_exactness(tmp_path: Path) -> None:
    ran = irestore(tmp_path, "doctor", "--device", "cpu")
    assert ran.code == 0
    assert ran.err in ("", "irestore: asking 127.0.0.1:9 ...\n")  # where a busy machine takes a second for it
    lines = dict(line.split(maxsplit=1) for line in ran.out.decode().splitlines())
    assert set(lines) >= {"irestore", "packages", "cpu", "chosen", "models", "cache", "Hub", "self-check"}
    assert "torch" in lines["packages"]
    assert "127.0.0.1:9" in lines["Hub"]
    assert "not usable" in lines["Hub"]
    assert lines["self-check"].startswith("ok: tiled and whole differ by ")
    assert lines["derain"] == "default=best=fast compact-derain (bundled)"


def test_the_doctor_measures_the_models_that_are_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    doctor = import_module("irestore.cli.doctor")
    monkeypatch.setattr("irestore.weights.hub.cached", lambda entry: None)
    monkeypatch.setattr(doctor, "BENCH_SIDE", 16)
    assert main(["doctor", "--offline", "-d", "cpu", "--bench"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = [line for line in lines if line.startswith("sr x4 ")]
    told = r"default=fast compact-x4 \(bundled, \d[^,]* a megapixel\), "
    assert re.search(told + r"best heart-x4-otf-v2 \(to download, not measured, about \d", line), line


def test_the_doctor_fails_where_tiles_change_the_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = import_module("irestore.runner")
    restore = module.restore

    def inexact(model: Any, image: Any, settings: Any) -> Any:
        result = restore(model, image, settings)
        return result + 1e-3 if settings.tile == "off" else result

    monkeypatch.setattr(module, "restore", inexact)
    assert main(["doctor", "--offline", "-d", "cpu"]) == 1
    assert "WRONG" in capsys.readouterr().out
