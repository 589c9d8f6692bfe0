"""`irestore models`: what each command prints, and with which exit code."""

import json
import os
import zipfile
from pathlib import Path

import hub
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from machine import Machine, manifest

import irestore
from irestore import weights
from irestore.cli import main, root
from irestore.weights.manifest import builtin, read

COMMANDS = ["list", "download", "path", "verify", "rm", "info", "import"]
pytestmark = pytest.mark.usefixtures("home")
CONTENT = b"weights" * 1000


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    manifest(tmp_path / "m.toml", CONTENT)
    return Machine(tmp_path, more={"IRESTORE_MANIFEST": str(tmp_path / "m.toml")})


@pytest.mark.skipif(os.name == "nt", reason="has no such users")
def test_a_user_without_a_home_needs_none(monkeypatch, capsys):
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("pwd.getpwuid", lambda number: {}[number])
    assert main(["models"]) == 0
    assert "compact-x4" in capsys.readouterr().out


def test_the_list_shows_every_model_with_its_size_state_and_purpose(capsys):
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert capsys.readouterr().out == table
    lines = table.splitlines()
    assert lines[0].split() == ["NAME", "TASK", "SIZE", "STATE", "FOR", "MEASURED"]
    assert [line.split()[0] for line in lines[1:]] == [entry.name for entry in weights.entries()]
    row = next(line for line in lines if line.startswith("heart-x4-otf-v2"))
    for cell in ("sr x4", "~67 MB", "to download", "Faithful on damaged input"):
        assert cell in row
    assert "Set5 x4: " in next(line for line in lines if line.startswith("compact-x4"))
    assert main(["models", "-v"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("heart-x4-otf-v2"))
    for cell in ("Apache-2.0", "Phips/HEART@868878ce4c25/models/heart_4x_otf_v2"):
        assert cell in row


def test_the_list_as_json_holds_what_the_manifest_holds(capsys):
    assert main(["models", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    for shown, entry in zip(listed, weights.entries(), strict=True):
        assert {shown["name"], shown["sha256"], shown["licence"]} == {entry.name, entry.sha256, entry.licence}
        assert shown["config"] == entry.config
        assert shown["state"] in ("bundled", "cached", "to download")
        assert (shown["path"] is None) == (shown["state"] == "to download")


def test_info_shows_source_training_data_citation_and_config(capsys):
    assert main(["models", "info", "heart-x2"]) == 0
    shown = capsys.readouterr().out
    for text in ("huggingface.co/Phips/HEART", "CC0 photographs", "2504.06629", "16529687", "  window_size = 32"):
        assert text in shown
    assert main(["models", "info", "heart-x2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["revision"] == "868878ce4c253a8061300f923b620fdc6edf090a"


def test_a_model_lives_from_download_to_rm(machine):
    with hub.serving(CONTENT) as server:
        machine.endpoint = server.url
        assert machine.irestore("models", "path", "toy").code == 3
        assert machine.irestore("models", "verify", "toy").code == 3
        path = Path(machine.irestore("models", "download", "toy").out.strip())
    assert machine.irestore("models", "path", "toy").out.strip() == str(path)
    listed = json.loads(machine.irestore("models", "--json").out)
    assert {model["name"]: model["state"] for model in listed}["toy"] == "cached"
    verified = machine.irestore("models", "verify")
    assert (verified.code, [line.split() for line in verified.out.splitlines() if "toy" in line]) == (
        0,
        [["ok", "toy", str(path)]],
    )
    blob, stamp = path.resolve(), path.stat()
    blob.write_bytes(CONTENT[::-1])
    os.utime(blob, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # rot that leaves size and time as they were
    wrong = machine.irestore("models", "verify")
    assert wrong.code == 3
    assert "WRONG   toy" in wrong.out
    assert "irestore models rm toy && irestore models download toy" in wrong.err
    removed = machine.irestore("models", "rm", "toy")
    assert (removed.code, removed.err) == (0, "toy: 7 kB freed\n")
    assert machine.files() == []
    assert "was not in the cache" in machine.irestore("models", "rm", "toy").err


def test_no_path_reaches_the_terminal_as_it_is(tmp_path, capsys):
    folder = tmp_path / "red\x1b[31m\nirestore: all is well"
    folder.mkdir()
    (folder / "own.safetensors").write_bytes(CONTENT)
    path = manifest(folder / "m.toml", CONTENT, repo=None, revision=None, file="own.safetensors")
    for arguments in (["list", "-v"], ["path", "toy"], ["verify", "toy"]):
        assert main(["models", *arguments, "--manifest", str(path)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert "red\\x1b[31m\\nirestore" in "".join(lines)
        assert all(map(str.isprintable, lines))


def test_download_all_takes_what_comes_from_the_hub(machine, tmp_path):
    code = "import sys; from irestore.weights import manifest;"
    code += "from pathlib import Path; manifest.builtin = lambda: Path(sys.argv[1]); from irestore.cli import main;"
    code += "sys.exit(main(['models', 'download', '--all']))"
    with hub.serving(CONTENT) as server:
        machine.endpoint, machine.more = server.url, {}
        outcome = machine.python(code, tmp_path / "m.toml")
    assert outcome.code == 0, outcome.err
    assert Path(outcome.out.strip()).read_bytes() == CONTENT


def test_rm_keeps_content_that_another_revision_uses(tmp_path, capsys):
    folder = tmp_path / "hub" / "models--someone--toys"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "b").write_bytes(CONTENT)
    for revision in (hub.COMMIT, "f" * 40):
        (folder / "snapshots" / revision / "models").mkdir(parents=True)
        (folder / "snapshots" / revision / "models" / "toy.safetensors").symlink_to("../../../blobs/b")
    given = ["--manifest", str(manifest(tmp_path / "m.toml", CONTENT))]
    assert main(["models", "rm", "toy", *given]) == 0
    assert (folder / "blobs" / "b").exists()
    manifest(tmp_path / "m.toml", CONTENT, revision="f" * 40)
    assert main(["models", "rm", "toy", *given]) == 0
    assert not (folder / "blobs" / "b").exists()


def test_rm_touches_no_file_of_the_users_own(tmp_path, capsys):
    path = manifest(tmp_path / "m.toml", CONTENT, repo=None, revision=None, file="own.safetensors")
    (tmp_path / "own.safetensors").write_bytes(CONTENT)
    assert main(["models", "rm", "toy", "--manifest", str(path)]) == 2
    assert "not in the Hub cache" in capsys.readouterr().err
    assert (tmp_path / "own.safetensors").exists()


def test_a_config_that_json_cannot_hold_is_shown_all_the_same(tmp_path, capsys):
    path = manifest(tmp_path / "m.toml", CONTENT)
    path.write_text(path.read_text().replace("{ upscale = 4 }", "{ upscale = 4, since = 2026-01-02 }"))
    for arguments in (["info", "toy"], ["info", "toy", "--json"], ["list", "--json"]):
        assert main(["models", *arguments, "--manifest", str(path)]) == 0
        assert "2026-01-02" in capsys.readouterr().out


def test_mistakes_are_one_line_with_their_exit_code(tmp_path, capsys):
    for arguments, code, message in (
        (["download"], 2, "name the models to download, or give --all"),
        (["download", "--all", "heart-x2"], 2, "name the models to download, or give --all"),
        (["info", "hart-x2"], 3, "did you mean heart-x2"),
        (["verify", "heart-x2"], 3, "heart-x2: missing or not as the manifest says"),
        (["path", "heart-x2"], 3, "irestore models download heart-x2"),
        (["list", "--manifest", str(tmp_path / "none.toml")], 3, "none.toml: cannot read the manifest"),
    ):
        assert main(["models", *arguments]) == code
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1


def test_the_shell_completes_names_and_commands():
    def completed(*words: str) -> list[str]:
        *before, last = words
        return [item.value for item in ShellComplete(root, {}, "irestore", "_X").get_completions(before, last)]

    assert completed("models", "info", "heart-x4") == [
        e.name for e in weights.entries() if e.name.startswith("heart-x4")
    ]
    assert set(COMMANDS) <= set(completed("models", ""))


def test_the_help_names_every_command():
    shown = CliRunner().invoke(root, ["models", "--help"])
    assert shown.exit_code == 0
    assert [name for name in COMMANDS if f"  {name} " not in shown.output] == []


def test_listing_imports_neither_torch_nor_the_hub_client(machine):
    code = "import sys; from irestore.cli import main; main(['models']); print(*sys.modules, file=sys.stderr)"
    loaded = machine.python(code).err.split()
    assert not {"torch", "numpy", "PIL", "safetensors", "httpx", "httpx2", "requests"} & set(loaded)


def test_the_wheel_holds_the_manifest_the_bundled_weights_and_the_marker_and_lists_them(machine, tmp_path):
    wheel = pytest.importorskip(
        "hatchling.builders.wheel", reason="hatchling, which builds the wheel, is not installed"
    )
    root_folder = Path(irestore.__file__).parents[1]
    if not (root_folder / "pyproject.toml").is_file():
        pytest.skip("not run from a source tree")
    (built,) = wheel.WheelBuilder(str(root_folder)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(built) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
    bundled = {f"irestore/bundled/{entry.file}" for entry in read(builtin()) if entry.bundled}
    assert {"irestore/weights.toml", "irestore/py.typed", "irestore/page.html", *bundled} <= names
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import irestore; from irestore.cli import main;"
    )
    code += "assert irestore.__file__.startswith(sys.path[0]); sys.exit(main(['models', '--json']))"
    machine.more = {}
    outcome = machine.finish(machine.start("-I", "-c", code))
    assert outcome.code == 0, outcome.err
    assert [model["name"] for model in json.loads(outcome.out)] == [entry.name for entry in read(builtin())]
