"""The manifest, the choice of a model, and strict loading: whatever is wrong is refused by name."""

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import hub
import pytest
import torch
from machine import Machine, manifest
from safetensors.torch import load_file, save_file

from irestore import models, weights
from irestore.errors import (
    DownloadError,
    ManifestError,
    OutOfMemoryError,
    UnknownModelError,
    UnreachableError,
    UsageError,
    WeightsError,
)
from irestore.planning import Settings
from irestore.runner import restore
from irestore.weights.manifest import builtin, read
from irestore.weights.paths import sha256

SMALL = {
    "upscale": 2, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8, "squeeze_factor": 4,
    "conv_scale": 0.1, "num_feat": 8, "rib_hidden_dim": 8, "rib_n_freqs": 2,
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No test sees the tester's own models, settings and stamps."""
    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "LOCALAPPDATA", "APPDATA"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    for name in ("IRESTORE_MODEL_DIR", "IRESTORE_MANIFEST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("irestore.weights.hub.cache", lambda: tmp_path / "hub")
    monkeypatch.setattr("irestore.weights.hub.is_offline", lambda: False)


@pytest.fixture
def state():
    """The tensors of a small HEART."""
    torch.manual_seed(0)
    return models.build("heart", SMALL).state_dict()


def small(tmp_path: Path, state: dict, **metadata: object) -> Path:
    """A file of those tensors."""
    save_file(state, tmp_path / "small.safetensors", {"irestore": json.dumps(metadata)} if metadata else None)
    return tmp_path / "small.safetensors"


def local(path: Path, **changes: object) -> weights.Entry:
    """The entry of a file of a small HEART."""
    return replace(weights.from_file(path, architecture="heart", config=SMALL), **changes)


# The manifest


def test_the_manifest_that_ships_is_whole_and_builds():
    known = {entry.name: entry for entry in read(builtin())}
    published = [entry for entry in known.values() if entry.repo == "Phips/HEART"]
    assert len(published) == 4
    for entry in published:
        assert entry.revision == "868878ce4c253a8061300f923b620fdc6edf090a"
        assert entry.licence == "Apache-2.0"
        assert all([entry.source, entry.training_data, entry.citation, entry.description])
        model = models.build(entry.architecture, entry.config)
        assert model.scale == entry.scale
        assert sum(p.numel() for p in model.parameters()) == entry.parameters
        assert set(entry.config) <= {*model.config.__dataclass_fields__}
    assert len(models.build("heart", known["heart-x4-otf-v2"].config).state_dict()) == 748
    assert weights.candidates("sr", 4)[0].name == "heart-x4-otf-v2"
    assert weights.candidates("sr", 2)[0].name == "heart-x2"
    for entry in known.values():
        assert not entry.bundled or weights.intact(weights.locate(entry, offline=True), entry)


REFUSED = {
    "unpinned revision": ({"revision": "main"}, "revision = 'main' must be the 40 hex digits of a commit"),
    "missing revision": ({"revision": None}, "the key 'revision' is missing"),
    "missing sha256": ({"sha256": None}, "the key 'sha256' is missing"),
    "missing licence": ({"licence": None}, "the key 'licence' is missing"),
    "missing architecture": ({"architecture": None}, "the key 'architecture' is missing"),
    "missing config": ({"config": None}, "the key 'config' is missing"),
    "parent folder": ({"file": "../toy.safetensors"}, "file = '../toy.safetensors' must be a relative path"),
    "hidden parent folder": ({"file": "a/../../toy.safetensors"}, "must be a relative path"),
    "absolute": ({"file": "/etc/toy.safetensors"}, "must be a relative path"),
    "drive": ({"file": "C:toy.safetensors"}, "must be a relative path"),
    "backslash": ({"file": "..\\\\toy.safetensors"}, "must be a relative path"),
    "pickle": ({"file": "toy.pth"}, "must be a relative path to a .safetensors file"),
    "repo": ({"repo": "../../etc"}, "repo = '../../etc' must be owner/name"),
    "sha256": ({"sha256": "abc"}, "sha256 = 'abc' must be the 64 hex digits"),
    "task": ({"task": "colourise"}, "task = 'colourise' must be one of sr, restore"),
    "type": ({"scale": "4"}, "scale = '4' must be of type int"),
    "boolean for a number": ({"scale": True}, "scale = True must be of type int"),
    "unknown key": ({"licens": "MIT"}, "unknown key 'licens'"),
    "scale": ({"task": "denoise"}, "scale = 4 must be 1 for denoise"),
    "config": ({"config": {"upscale": 2}}, "config.upscale = 2 must be there and equal scale = 4"),
    "name": ({"name": "Toy model"}, "name = 'Toy model' must be"),
    "two sources": ({"bundled": True}, "has a repo or is bundled, not both"),
    "control characters": ({"citation": "a\\u001b[2Jb"}, "citation = 'a\\x1b[2Jb' must not hold control characters"),
    "taken name": ({"name": "heart-x2"}, "exists already"),
}


@pytest.mark.parametrize("mistake", REFUSED)
def test_a_manifest_with_a_mistake_is_refused_by_file_model_and_key(tmp_path, mistake):
    changes, message = REFUSED[mistake]
    path = manifest(tmp_path / "wrong.toml", b"", **changes)
    with pytest.raises(ManifestError, match=re.escape(message)) as error:
        weights.entries([path])
    assert str(path) in str(error.value)
    assert repr(changes.get("name", "toy")) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("model = 3", "holds [[model]] tables"), ("[[model]", "not valid TOML"), ("[other]", "holds [[model]] tables")],
)
def test_a_file_that_is_no_manifest_is_refused(tmp_path, text, message):
    (tmp_path / "wrong.toml").write_text(text)
    with pytest.raises(ManifestError, match=re.escape(message)):
        weights.entries([tmp_path / "wrong.toml"])
    with pytest.raises(ManifestError, match="cannot read the manifest"):
        weights.entries([tmp_path / "absent.toml"])


def test_the_users_own_manifest_and_file_are_found_without_options(tmp_path, state):
    folder = tmp_path / "home" / "irestore"
    if sys.platform == "darwin":
        folder = tmp_path / "home" / "Library/Application Support/irestore"
    folder.mkdir(parents=True)
    file = small(folder, state)
    manifest(
        folder / "weights.toml", file.read_bytes(), name="mine", scale=2, repo=None, revision=None,
        file="small.safetensors", config=SMALL,
    )  # fmt: skip
    (entry,) = weights.candidates("sr", 2, "mine")
    assert weights.load(entry, offline=True).scale == 2
    assert weights.state(entry) == "local"
    assert weights.candidates("sr", 2)[0].name == "heart-x2"  # ours stay the default


# The choice


def test_unknown_names_tasks_and_scales_are_told_with_what_there_is():
    with pytest.raises(UnknownModelError, match="did you mean heart-x2"):
        weights.candidates("sr", 2, "heart-2x")
    with pytest.raises(
        UnknownModelError, match="heart-x2' is for sr x2, not for sr x4; for that there is: heart-x4-otf-v2"
    ):
        weights.candidates("sr", 4, "heart-x2")
    with pytest.raises(UnknownModelError, match="there is no model for sr x7"):
        weights.candidates("sr", 7)[0]


@pytest.fixture
def offered(tmp_path, state, monkeypatch) -> list[weights.Entry]:
    """A model on the Hub, and a bundled one."""
    monkeypatch.setattr("irestore.weights.local.PACKAGE", tmp_path)
    (tmp_path / "bundled").mkdir()
    spare = local(small(tmp_path / "bundled", state), name="spare", bundled=True)
    return [
        replace(spare, name="large", repo="someone/toys", revision=hub.COMMIT, bundled=False, sha256="0" * 64),
        spare,
    ]


def test_without_a_connection_the_bundled_model_is_used_and_said_unless_a_name_was_given(
    tmp_path, offered, monkeypatch
):

    def unreachable(entry):
        raise UnreachableError(f"{entry.name}: cannot reach the Hub")

    monkeypatch.setattr("irestore.weights.hub.download", unreachable)
    for offline in (False, True):
        found = weights.obtain(offered, offline=offline)
        assert found.entry.name == "spare"
        assert found.path == tmp_path / "bundled" / "small.safetensors"
        assert re.search("large: .*Using the bundled model spare instead", found.warning)
        assert "\n" not in found.warning
        for alone in (offered[:1], [offered[0], replace(offered[1], bundled=False, repo="someone/else")]):
            with pytest.raises(DownloadError, match="large"):
                weights.obtain(alone, offline=offline)


def test_another_fault_than_the_connection_is_not_papered_over(offered, monkeypatch):
    def full(entry):
        raise DownloadError(f"{entry.name}: the disk is full")

    monkeypatch.setattr("irestore.weights.hub.download", full)
    with pytest.raises(DownloadError, match="large: the disk is full"):
        weights.obtain(offered)


def test_a_model_that_is_there_is_used_without_a_warning(offered):
    spare = offered[1]
    assert weights.obtain([spare], offline=True) == (spare, weights.locate(spare), None)


def test_a_folder_of_files_comes_before_the_cache(tmp_path, state, offered, monkeypatch):
    entry = offered[0]
    file = small(tmp_path, state)
    entry = replace(entry, sha256=sha256(file), file="models/deep/weights.safetensors")
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    file.rename(shelf / "weights.safetensors")
    assert weights.locate(entry, offline=True, model_dir=shelf) == shelf / "weights.safetensors"
    monkeypatch.setenv("IRESTORE_MODEL_DIR", str(shelf))
    assert weights.locate(entry, offline=True) == shelf / "weights.safetensors"
    (shelf / "large.safetensors").write_bytes(b"wrong")  # the model's name comes first
    with pytest.raises(WeightsError, match=r"large\.safetensors does not match the sha256 in the manifest"):
        weights.locate(entry)
    assert (shelf / "large.safetensors").exists()  # a user's own folder is left alone


def test_offline_and_not_here_says_what_to_do(offered):
    with pytest.raises(
        UnreachableError, match=r"irestore models download large.*small\.safetensors into a folder.*--model-dir"
    ):
        weights.locate(offered[0], offline=True)


@pytest.mark.parametrize(("scale", "best", "fast"), [(4, "heart-x4-otf-v2", "compact-x4"), (3, *["compact-x3"] * 2)])
def test_best_and_fast_are_the_first_and_the_smallest_of_a_task(scale, best, fast):
    assert [entry.name for entry in weights.candidates("sr", scale, "best")] == [best]
    assert [entry.name for entry in weights.candidates("sr", scale, "fast")] == [fast]


# Verification


def test_content_is_verified_each_time_whatever_size_and_time_say(tmp_path, state, monkeypatch):
    """Another file of the same size and time, put in place of a verified one, be it in a folder that others share."""
    file = small(tmp_path, state)
    own = local(file, sha256=sha256(file))
    shared = replace(own, repo="someone/toys", revision=hub.COMMIT, folder=None)
    for entry, model_dir in ((own, None), (shared, tmp_path)):
        good, before = file.read_bytes(), file.stat()
        assert weights.locate(entry, offline=True, model_dir=model_dir) == file
        file.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert file.stat().st_size == before.st_size
        with pytest.raises(WeightsError, match="does not match the sha256 in the manifest; replace the file"):
            weights.locate(entry, offline=True, model_dir=model_dir)
        file.write_bytes(good)


# Loading


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_model_loads_in_eval_mode_and_float32(tmp_path, state, dtype):
    model = weights.load(local(small(tmp_path, {key: value.to(dtype) for key, value in state.items()})))
    assert not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert not any(p.requires_grad for p in model.parameters())
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key].to(dtype).float())


def test_a_file_that_says_what_it_is_needs_no_options(tmp_path, state):
    path = small(tmp_path, state, architecture="heart", config=SMALL, task="sr")
    entry = weights.from_file(path)
    assert (entry.name, entry.task, entry.scale, entry.architecture) == ("small", "sr", 2, "heart")
    assert weights.load(entry).scale == 2
    with pytest.raises(WeightsError, match="has the shape"):
        weights.load(weights.from_file(path, config={"embed_dim": 16}))  # an option overrules the file
    with pytest.raises(UsageError, match="give --architecture and --config, or convert the file once"):
        weights.from_file(small(tmp_path, state))
    with pytest.raises(UsageError, match="give --config upscale=N"):
        weights.from_file(small(tmp_path, state), architecture="heart")


def without(key):
    return lambda state: state.pop(key)


def changed(key, change):
    return lambda state: state.update({key: change(state[key])})


def poisoned(value):
    return lambda tensor: tensor.clone().index_fill_(0, torch.tensor([0]), value)


WRONG = {
    "missing": (without("norm.bias"), "the file lacks norm.bias"),
    "unexpected": (lambda state: state.update(extra=torch.zeros(1)), "has, but the network has not, extra"),
    "shape": (changed("norm.bias", lambda t: t[:-1].clone()), r"norm.bias has the shape \(7,\), not \(8,\)"),
    "dtype": (changed("norm.bias", torch.Tensor.double), "norm.bias is torch.float64, not torch.float32"),
    "scale": (
        lambda state: state.update({"norm.bias.scale": torch.ones(8)}),
        "norm.bias.scale is the scale of no tensor",
    ),
    "integers": (changed("norm.bias", torch.Tensor.int), "norm.bias is torch.int32, not torch.float32"),
    "NaN": (changed("norm.bias", poisoned(float("nan"))), "norm.bias holds NaN or infinity"),
    "infinity": (changed("norm.bias", poisoned(float("inf"))), "norm.bias holds NaN or infinity"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_tensor_that_is_wrong_is_refused_by_name(tmp_path, state, mistake):
    change, message = WRONG[mistake]
    change(state)
    with pytest.raises(WeightsError, match="small: .*" + message):
        weights.load(local(small(tmp_path, state)))


def test_indices_that_do_not_fit_the_config_are_refused(tmp_path):
    config = SMALL | {"upscale": 2, "window_size": 4, "mlp_ratio": 2.0}
    config = {key: value for key, value in config.items() if not key.startswith("rib")}
    state = models.build("hat-iln", config).state_dict()
    state["relative_position_index_SA"] = state["relative_position_index_SA"] + 10_000
    path = small(tmp_path, state)
    with pytest.raises(WeightsError, match="relative_position_index_SA has other values than the config implies"):
        weights.load(weights.from_file(path, architecture="hat-iln", config=config))


def test_a_wrong_architecture_config_dialect_or_scale_is_named(tmp_path, state):
    path = small(tmp_path, state)
    with pytest.raises(WeightsError, match="architecture 'hart' is unknown: must be one of heart"):
        weights.load(local(path, architecture="hart"))
    with pytest.raises(WeightsError, match="unknown config key 'embed'"):
        weights.load(local(path, config={**SMALL, "embed": 8}))
    with pytest.raises(WeightsError, match="dialect 'welsh' is unknown"):
        weights.load(local(path, dialect="welsh"))
    with pytest.raises(WeightsError, match="the network enlarges 2 times, not 4"):
        weights.load(local(path, scale=4))


class Payload:
    """Runs when it is unpickled by a reader that is not careful."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("name", ["evil.safetensors", "evil.pth"])
def test_a_pickle_is_refused_and_what_hides_in_it_does_not_run(tmp_path, name, legacy):
    mark = tmp_path / "ran"
    torch.save(
        {"params": {"w": torch.zeros(1)}, "x": Payload(mark)},
        tmp_path / name,
        _use_new_zipfile_serialization=not legacy,
    )
    with pytest.raises(WeightsError, match="is a pickle, which could run code, and not loaded"):
        weights.load(local(tmp_path / name))
    with pytest.raises(WeightsError, match=r"evil.*could run code"):
        weights.convert(tmp_path / name, tmp_path / "out.safetensors", config={})
    assert not mark.exists()
    assert not (tmp_path / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not a safetensors file"),
        (b"<!DOCTYPE html><title>Log in</title>", "is a web page, not a safetensors file"),
        (b"\x08\0\0\0\0\0\0\0{}      ", None),
        (b"\xff" * 100, "is not a safetensors file"),
    ],
)
def test_a_file_that_is_something_else_is_called_so(tmp_path, content, message):
    (tmp_path / "file.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=message or "the file lacks"):
        weights.load(local(tmp_path / "file.safetensors"))
    with pytest.raises(WeightsError, match="is not there"):
        weights.load(local(tmp_path / "absent.safetensors"))


BOMBS = {
    "depths": {"depths": [10**6, 6], "num_heads": [2, 2]},
    "groups": {"depths": [1] * 100_000, "num_heads": [1] * 100_000},
    "embed_dim": {"embed_dim": 8192, "depths": [6] * 6, "num_heads": [8] * 6},
    "window_size": {"window_size": 4000},
    "rib_n_freqs": {"rib_n_freqs": 10**7},
    "mlp_ratio": {"mlp_ratio": 1e9},
    "infinity": {"mlp_ratio": float("inf")},
    "not a number": {"mlp_ratio": float("nan")},
    "unshuffle": {"unshuffle": 4096, "upsampler": "pixelshuffledirect"},
    "just allowed": {"embed_dim": 2048, "depths": [21] * 6, "num_heads": [8] * 6},
    "levels": {"dims": [8] * 60, "depths": [1] * 60, "num_heads": 2, "window_size": 8},
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_config_that_would_build_for_minutes_is_refused_at_once(tmp_path, state, bomb):
    """However small the file is that says it."""
    architecture, config = (
        ("unet", {"upscale": 1} | BOMBS[bomb]) if bomb == "levels" else ("heart", SMALL | BOMBS[bomb])
    )
    path = small(
        tmp_path, state, architecture=architecture, config=config, task="denoise" if bomb == "levels" else "sr"
    )
    with torch.device("meta"):
        torch.arange(1), torch.randn(1)  # what PyTorch imports for it is not counted
    began = time.process_time()
    with pytest.raises(WeightsError, match=r"is out of range: at most|the config makes|the file lacks"):
        weights.load(weights.from_file(path))
    assert time.process_time() - began < 4  # 2 on a usual machine that has nothing else to do


def test_a_device_that_is_full_is_told_in_one_line(monkeypatch):
    def full(self, *_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(OutOfMemoryError, match=r"^compact-x2: does not fit into the memory of cpu: "):
        weights.load(weights.find("compact-x2", weights.entries()))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_a_pipe_or_a_device_as_weights_is_refused_and_not_waited_for(tmp_path):
    for name in ("pipe.safetensors", "pipe.pth"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(WeightsError, match="is a folder, a pipe or a device; give a file"):
            weights.convert(tmp_path / name, tmp_path / "out.safetensors", config={})
    with pytest.raises(WeightsError, match="is a folder, a pipe or a device; give a file"):
        weights.from_file(tmp_path / "pipe.safetensors")
    path = manifest(tmp_path / "m.toml", b"", repo=None, revision=None, file="pipe.safetensors")
    (entry,) = read(path)
    with pytest.raises(WeightsError, match=r"pipe\.safetensors is not there"):
        weights.locate(entry)


DEEP = "[" * 100_000


def test_what_is_nested_too_deeply_is_refused_in_one_line(tmp_path, state):
    file = small(tmp_path, state)
    save_file(state, file, {"irestore": DEEP})
    with pytest.raises(WeightsError, match=r"small\.safetensors: its metadata 'irestore' is not JSON"):
        weights.from_file(file)
    (tmp_path / "deep.toml").write_text(f"model = {DEEP}")
    (tmp_path / "deep.json").write_text(DEEP)
    with pytest.raises(ManifestError, match=r"deep\.toml: its values are nested too deeply"):
        weights.entries([tmp_path / "deep.toml"])
    for item in (tmp_path / "deep.toml", tmp_path / "deep.json", f"depths={DEEP}"):
        with pytest.raises(UsageError, match=r"--config \S+: its values are nested too deeply"):
            weights.parse_config([str(item)])


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_config_or_manifest_without_an_end_is_refused():
    with pytest.raises(UsageError, match="it has more than 4,194,304 bytes"):
        weights.parse_config(["/dev/zero"])
    with pytest.raises(ManifestError, match="it has more than 4,194,304 bytes"):
        weights.entries(["/dev/zero"])


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("not json", "is not JSON"),
        ("[]", "does not hold"),
        ('{"config": 3}', "does not hold"),
        ('{"task": "x"}', "names the task"),
    ],
)
def test_metadata_that_makes_no_sense_is_refused(tmp_path, state, said, message):
    save_file(state, tmp_path / "small.safetensors", {"irestore": said})
    with pytest.raises(WeightsError, match=message):
        weights.from_file(tmp_path / "small.safetensors")


# The Hub, by hand


@pytest.mark.parametrize(
    "reference",
    [
        "hf:owner/repo",
        "hf:../repo/file.safetensors@main",
        "hf:owner/file.safetensors@main",
        "hf:owner/repo/file.pth@main",
        "hf:owner/repo/../f.safetensors@main",
        "hf:owner/repo/f.safetensors",
        "hf:owner/repo/f.safetensors@",
        "hf:owner/repo/f.safetensors@a/../b",
    ],
)
def test_a_reference_of_another_form_is_refused(reference):
    with pytest.raises(UsageError, match=r"write hf:OWNER/REPO|add @ and the commit"):
        weights.from_hub(reference)


def test_a_branch_is_not_asked_for_offline(monkeypatch):
    monkeypatch.setattr("irestore.weights.transfer.head", lambda entry: pytest.fail("a request"))
    with pytest.raises(UnreachableError, match="offline, and only the Hub knows what 'main' is; write @COMMIT"):
        weights.obtain([weights.from_hub("hf:someone/toys/toy.safetensors@main")], offline=True)


def test_a_reference_to_the_hub_downloads_verifies_and_loads(tmp_path, state):
    content = small(tmp_path, state, architecture="heart", config=SMALL, task="sr").read_bytes()
    machine = Machine(tmp_path)
    code = """if True:
        import sys
        from irestore import weights
        for reference in sys.argv[1:]:
            entry, path, warning = weights.obtain([weights.from_hub(reference)])
            print(entry.revision, entry.scale, entry.task, weights.read(entry, path).scale)
    """
    branch, commit = (f"hf:someone/toys/deep/toy.safetensors@{revision}" for revision in ("main", hub.COMMIT))
    with hub.serving(content) as server:
        machine.endpoint = server.url
        outcome = machine.python(code, branch, commit)
        assert outcome.out.split() == [hub.COMMIT, "2", "sr", "2"] * 2, outcome.err
        asked = [path.split("/")[4] for _, path, _ in server.requests if "/resolve/" in path]
        assert asked == ["main", *[hub.COMMIT] * 2]  # what main is; then HEAD and GET; then nothing
    with hub.serving(content, hub.corrupt) as server:
        machine.endpoint, machine.home = server.url, tmp_path / "elsewhere"
        machine.home.mkdir()
        wrong = machine.python(code, commit)
        assert "WeightsError" in wrong.err  # what the Hub announced stands in for a manifest's sha256
        assert "kept as" in wrong.err


def test_the_full_size_network_comes_from_the_hub_and_restores_and_comes_again_without_a_request(tmp_path):
    (entry,) = weights.candidates("sr", 4, "heart-x4-otf-v2")
    torch.manual_seed(0)
    model = models.build(entry.architecture, entry.config).eval()
    assert sum(value.numel() for value in model.state_dict().values()) == 16_677_399
    save_file(model.state_dict(), tmp_path / "full.safetensors")
    content = (tmp_path / "full.safetensors").read_bytes()
    manifest(tmp_path / "m.toml", content, name="full", config=dict(entry.config))
    image = torch.rand(1, 3, 20, 32)
    save_file({"image": image}, tmp_path / "in.safetensors")
    code = """if True:
        import sys
        from safetensors.torch import load_file, save_file
        from irestore import weights
        from irestore.runner import restore
        found = weights.obtain(weights.candidates("sr", 4, "full", [sys.argv[1]]))
        assert found.warning is None
        model = weights.read(found.entry, found.path)
        save_file({"out": restore(model, load_file(sys.argv[2])["image"]).contiguous()}, sys.argv[3])
    """
    machine, files = Machine(tmp_path), (tmp_path / "m.toml", tmp_path / "in.safetensors", tmp_path / "out.safetensors")
    expected = restore(model, image, Settings())
    with hub.serving(content) as server:
        machine.endpoint = server.url
        for run in ("download", "cached"):
            server.requests.clear()
            outcome = machine.python(code, *files)
            assert outcome.code == 0, outcome.err
            assert server.downloads == (run == "download")
            assert bool(server.requests) == (run == "download")
            out = load_file(files[2])["out"]
            assert out.shape == (1, 3, 80, 128)
            torch.testing.assert_close(out, expected, atol=5e-5, rtol=0)
            files[2].unlink()


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, irestore.weights, irestore.cli.models; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "PIL", "huggingface_hub", "safetensors", "httpx", "httpx2", "requests"} & set(loaded)
