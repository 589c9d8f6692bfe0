"""`models import`: what shapes tell is deduced, what they cannot is asked for, and the output stays upstream's."""

import json
from pathlib import Path

import goldens
import pytest
import torch
from networks import official, spelt
from safetensors import safe_open
from safetensors.torch import save_file

from irestore import models, weights
from irestore.errors import UsageError, WeightsError
from irestore.models.deduce import PUBLISHED, deduce
from irestore.planning import Settings
from irestore.runner import restore
from irestore.weights.files import packed
from irestore.weights.manifest import builtin, read

HEART = {
    "upscale": 2, "embed_dim": 12, "depths": [3, 2], "num_heads": [2, 3], "window_size": 8, "compress_ratio": 2,
    "squeeze_factor": 4, "conv_scale": 0.05, "mlp_ratio": 1.5, "num_feat": 8, "rank": 4, "rib_hidden_dim": 6,
    "rib_n_freqs": 3, "attention_freq": 2,
}  # fmt: skip
HAT = {
    "upscale": 3, "embed_dim": 12, "depths": [2, 1], "num_heads": [2, 3], "window_size": 4, "compress_ratio": 3,
    "squeeze_factor": 6, "conv_scale": 0.05, "overlap_ratio": 0.5, "mlp_ratio": 2.0, "num_feat": 8, "img_size": 16,
}  # fmt: skip
VARIANTS = [
    ("heart", HEART),
    ("heart", HEART | {"upscale": 1, "attention_freq": 1}),
    ("heart", HEART | {"upscale": 3, "depths": [1, 1], "attention_freq": 1}),
    ("heart", HEART | {"upscale": 4, "resi_connection": "identity", "patch_norm": False, "in_chans": 1}),
    ("heart", HEART | {"upscale": 4, "upsampler": "pixelshuffledirect", "global_skip": True}),
    ("heart", dict(read(builtin())[0].config)),
    ("hat-iln", HAT),
    ("hat-iln", HAT | {"qkv_bias": False, "upscale": 4, "resi_connection": "identity"}),
    ("hat-iln", HAT | {"window_size": 8, "overlap_ratio": 0.25, "patch_norm": False}),
]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Stamps of verified files stay in the test's own folder."""
    for name in ("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))


@pytest.mark.parametrize(("architecture", "config"), VARIANTS)
def test_what_is_deduced_and_what_is_asked_for_make_the_same_network(architecture, config):
    state = models.build(architecture, config).state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    found = deduce(shapes)
    assert (found.architecture, found.dialect) == (architecture, None)
    assert not found.missing.keys() & found.config.keys()
    asked = {key: config[key] for key in found.missing}
    again = models.build(found.architecture, found.config | asked)
    assert {key: tuple(value.shape) for key, value in again.state_dict().items()} == shapes
    alike = {"compress_ratio", "squeeze_factor", "attention_freq"}  # of which several values mean the same
    for key in config.keys() - alike - ({"num_feat"} if "global_skip" in found.missing else set()):
        assert (found.config | asked)[key] == config[key], key


def shapes_of(state: dict) -> dict:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0].partition(" (")[0])
def test_a_published_network_is_known_by_its_shapes(row):
    name, architecture, dialect, known = row
    config = {key: value for key, value in known.items() if key != "stdnorm" or dialect == "official"} | {"upscale": 4}

    def found(config):
        with torch.device("meta"):
            return deduce(shapes_of(spelt(dialect, models.build(architecture, config).state_dict(), config)))

    assert (found(config).published, found(config).missing, found(config).config) == (name, {}, config)
    other = found(config | {"num_feat": 32})
    assert other.published == ""
    assert other.missing.keys() == found(config).taken.keys()
    assert not other.missing.keys() & other.config.keys()


KEYS = Path(__file__).resolve().parents[2] / "shared" / "keys"


@pytest.mark.skipif(not KEYS.is_dir(), reason="no sibling shared/keys with the published networks' keys and shapes")
def test_the_published_keys_are_those_of_the_network_that_they_tell():
    for path in sorted(KEYS.glob("*.json")):
        keys = json.loads(path.read_text())["keys"]
        found = deduce({key: tuple(item[0]) for key, item in keys.items()})
        assert found.published, path.name
        with torch.device("meta"):
            state = {key: torch.empty(item[0]) for key, item in keys.items()}
            model = models.build(found.architecture, found.config)
        assert shapes_of(models.rename(found.dialect, state)) == shapes_of(model.state_dict()), path.name


def test_the_official_dialect_is_told_by_its_names_and_asks_for_the_normalisation():
    state = official(models.build("hat-iln", HAT).state_dict())
    found = deduce({key: tuple(value.shape) for key, value in state.items()})
    assert found.dialect == "official"
    assert set(found.missing) == {"conv_scale", "img_size", "stdnorm"}


def test_shapes_of_no_known_network_are_refused():
    with pytest.raises(ValueError, match=r"those of no known network \(heart, hat-iln, dat-iln\)"):
        deduce({"conv.weight": (3, 3, 3, 3)})
    shapes = {key: tuple(value.shape) for key, value in models.build("heart", HEART).state_dict().items()}
    del shapes["conv_first.weight"]
    with pytest.raises(ValueError, match=r"looks like heart, but lacks the tensor conv_first\.weight"):
        deduce(shapes)


@pytest.mark.parametrize("wrapper", ["params_ema", "params", "state_dict", None])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_every_form_of_checkpoint_becomes_a_file_that_says_what_it_is(tmp_path, wrapper, suffix):
    torch.manual_seed(1)
    state = models.build("heart", HEART).state_dict()
    source = tmp_path / f"source{suffix}"
    if suffix == ".pth":
        spelt = {f"module.{key}": value for key, value in state.items()} if wrapper == "params" else dict(state)
        other = {"params": {"left": torch.zeros(1)}} if wrapper == "params_ema" else {}
        torch.save({**other, wrapper: spelt, "iter": 5} if wrapper else spelt, source)
    else:
        save_file(state, source)
    target = tmp_path / "out" / "mine.safetensors"
    said = weights.convert(source, target, config={"window_size": 8, "conv_scale": 0.05})
    entry = weights.from_file(target)
    assert (entry.name, entry.task, entry.scale) == ("mine", "sr", 2) == (said.name, said.task, said.scale)
    model = weights.load(entry)
    for key, value in model.state_dict().items():
        assert torch.equal(value, state[key])
    with safe_open(target, "np") as file:
        assert json.loads(file.metadata()["irestore"])["config"]["window_size"] == 8
    assert [path.name for path in target.parent.iterdir()] == ["mine.safetensors"]


def test_what_shapes_cannot_tell_is_asked_for_all_at_once(tmp_path):
    torch.save(official(models.build("hat-iln", HAT).state_dict()), tmp_path / "hat.pth")
    with pytest.raises(UsageError) as error:
        weights.convert(tmp_path / "hat.pth", tmp_path / "out.safetensors", config={"conv_scale": 0.05})
    assert error.value.options == ["--config", "img_size=64", "--config", "stdnorm=true"]  # as published
    assert "conv_scale" not in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out.safetensors").exists()


def test_a_network_that_keeps_the_size_asks_for_its_task(tmp_path):
    torch.save(models.build("heart", HEART | {"upscale": 1}).state_dict(), tmp_path / "x1.pth")
    given = {"window_size": 8, "conv_scale": 0.05}
    with pytest.raises(UsageError, match="keeps the size of a picture; say what it does"):
        weights.convert(tmp_path / "x1.pth", tmp_path / "x1.safetensors", config=given)
    weights.convert(tmp_path / "x1.pth", tmp_path / "x1.safetensors", config=given, task="denoise")
    assert weights.from_file(tmp_path / "x1.safetensors").task == "denoise"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"conv.weight": torch.zeros(3, 3)}, "cannot import: its tensors are those of no known network"),
        ({"epoch": 3}, "holds no table of tensors, nor one under params_ema, params, state_dict"),
        ([torch.zeros(1)], "holds no table of tensors"),
        ({}, "holds no table of tensors"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="other.pth: .*" + message):
        weights.convert(tmp_path / "other.pth", tmp_path / "out.safetensors", config={})


def test_a_cut_checkpoint_or_none_is_refused(tmp_path):
    torch.save(models.build("heart", HEART).state_dict(), tmp_path / "whole.pth")
    (tmp_path / "half.pth").write_bytes((tmp_path / "whole.pth").read_bytes()[:5000])
    with pytest.raises(WeightsError, match=r"half\.pth: damaged, no checkpoint, or holds more than tensors"):
        weights.convert(tmp_path / "half.pth", tmp_path / "out.safetensors", config={})
    with pytest.raises(WeightsError, match=r"absent\.pth: is not there"):
        weights.convert(tmp_path / "absent.pth", tmp_path / "out.safetensors", config={})


def test_a_checkpoint_that_memory_cannot_hold_is_told_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "huge.pth").write_bytes(b"")

    def load(*_, **__):
        raise MemoryError

    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(WeightsError, match=r"huge\.pth: there is not enough memory to import it"):
        weights.convert(tmp_path / "huge.pth", tmp_path / "out.safetensors", config={})


def test_a_small_checkpoint_of_tensors_that_only_seem_large_is_refused(tmp_path):
    """Strides of zero: terabytes in a few kilobytes."""
    state = models.build("heart", HEART).state_dict()
    state["layers.0.residual_group.blocks.0.mlp.fc1.weight"] = torch.zeros(1).expand(10**6, 10**6)
    torch.save(state, tmp_path / "bomb.pth")
    with pytest.raises(WeightsError, match=r"mlp_ratio = .* is out of range: at most 4096"):
        weights.convert(tmp_path / "bomb.pth", tmp_path / "o.safetensors", config={"window_size": 8, "conv_scale": 1})


def test_a_file_that_says_what_it_is_is_imported_by_that(tmp_path):
    """Also of a network that shapes cannot tell, and of 8 bits a number."""
    config = {"upscale": 1, "dims": [8, 16], "depths": [1, 1], "num_heads": 2, "rib_hidden_dim": 4, "rib_n_freqs": 2}
    said = {"architecture": "unet", "config": config, "task": "derain"}
    state = packed(models.build("unet", config).state_dict())
    save_file(state, tmp_path / "u.safetensors", {"irestore": json.dumps(said)})
    entry = weights.convert(tmp_path / "u.safetensors", tmp_path / "out.safetensors", config={})
    assert (entry.architecture, entry.task, entry.config) == ("unet", "derain", config)
    assert weights.load(weights.from_file(tmp_path / "out.safetensors")).scale == 1


def test_a_checkpoint_with_nan_is_not_imported(tmp_path):
    state = models.build("heart", HEART).state_dict()
    state["norm.bias"] = torch.full_like(state["norm.bias"], float("nan"))
    torch.save(state, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match=r"nan\.pth: norm\.bias holds NaN"):
        weights.convert(tmp_path / "nan.pth", tmp_path / "out.safetensors", config={"window_size": 8, "conv_scale": 1})


def test_config_items_are_json_words_and_files(tmp_path):
    (tmp_path / "c.toml").write_text("depths = [2, 2]\nconv_scale = 0.5\n")
    (tmp_path / "c.json").write_text('{"conv_scale": 0.25}')
    items = [
        str(tmp_path / "c.toml"),
        str(tmp_path / "c.json"),
        "window_size=8",
        "stdnorm=true",
        "upsampler=pixelshuffle",
    ]
    assert weights.parse_config(items) == {
        "depths": [2, 2],
        "conv_scale": 0.25,
        "window_size": 8,
        "stdnorm": True,
        "upsampler": "pixelshuffle",
    }
    for item, text in (("c.txt", "["), ("absent.toml", None), ("list.json", "[1]")):
        if text is not None:
            (tmp_path / item).write_text(text)
        with pytest.raises(UsageError, match=f"--config .*{item}"):
            weights.parse_config([str(tmp_path / item)])


FILES = {  # upstream's where they are, and always our own
    f"{place.name}/{name}": paths
    for place in (goldens.folder(), goldens.OWN)
    if place is not None
    for name, paths in goldens.names(place).items()
    if goldens.metadata(paths[0])["arch"] in goldens.ARCHITECTURE
}


@pytest.mark.parametrize("name", FILES)
def test_an_imported_golden_restores_as_upstream_does(tmp_path, name):
    golden = goldens.read(FILES[name])
    source, target = tmp_path / "golden.pth", tmp_path / "golden.safetensors"
    torch.save({"params_ema": golden.weights}, source)
    missing = deduce({key: tuple(value.shape) for key, value in golden.weights.items()}).missing
    given = {key: golden.config.get(key, {"img_size": 64}.get(key)) for key in missing}
    never_told = {key: value for key, value in golden.config.items() if key in ("eps", "img_range", "qk_scale")}
    task = None if golden.config["upscale"] > 1 else "denoise"
    weights.convert(source, target, config=never_told | given, task=task)
    model = weights.load(weights.from_file(target))
    smallest = min(golden.inputs, key=lambda i: golden.inputs[i].numel())
    image, expected = golden.inputs[smallest], golden.outputs[smallest].clamp(0, 1)
    torch.testing.assert_close(restore(model, image, Settings()), expected, atol=1e-5, rtol=0)
