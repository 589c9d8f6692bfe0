from __future__ import annotations

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from networks import BASES, HEART, network, pictures, run, tiles
from torch import Tensor

from irestore import models
from irestore.errors import WeightsError
from irestore.field import Field
from irestore.models import layers, trunk
from irestore.models.layers import CAB
from irestore.models.trunk import TrunkConfig
from irestore.tiling import Tiling

EXACT = 1e-10  # in float64
CONSTANT = ("pos3.0.bias", "pos3.2.bias")  # may add the same to all of a softmax
ARCHITECTURES = list(BASES)
NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "heart x1": ("heart", {"upscale": 1}),
    "heart x2": ("heart", {"upscale": 2}),
    "heart x3": ("heart", {"upscale": 3}),
    "heart x4, attention in every second block": ("heart", {"upscale": 4, "attention_freq": 2, "depths": [5, 2]}),
    "heart x8": ("heart", {"upscale": 8, "depths": [2, 1]}),
    "heart, direct": ("heart", {"upsampler": "pixelshuffledirect"}),
    "heart, direct, skip": ("heart", {"upscale": 3, "upsampler": "pixelshuffledirect", "global_skip": True}),
    "heart x1, half resolution, skip": (
        "heart",
        {"upscale": 1, "unshuffle": 2, "global_skip": True, "upsampler": "pixelshuffledirect"},
    ),
    "heart x2, half resolution": ("heart", {"upscale": 2, "unshuffle": 2}),
    "heart, identity": ("heart", {"resi_connection": "identity"}),
    "heart, no patch_norm": ("heart", {"patch_norm": False}),
    "heart, one channel": ("heart", {"in_chans": 1}),
    "heart, window 6": ("heart", {"window_size": 6}),
    "hat": ("hat-iln", {}),
    "hat, official": ("hat-iln", {"stdnorm": True}),
    "hat, official without deviation": ("hat-iln", {"stdnorm": False, "img_range": 255.0}),
    "hat, official, one channel": ("hat-iln", {"stdnorm": True, "in_chans": 1}),
    "hat, official, skip, direct": (
        "hat-iln",
        {"stdnorm": True, "global_skip": True, "upsampler": "pixelshuffledirect", "upscale": 4},
    ),
    "hat, half resolution": ("hat-iln", {"unshuffle": 2}),
    "hat, identity, no patch_norm": ("hat-iln", {"resi_connection": "identity", "patch_norm": False}),
    "hat, no shift": ("hat-iln", {"img_size": 4}),
    "hat, odd window": ("hat-iln", {"window_size": 5, "overlap_ratio": 0.4}),
    "hat, wide overlap": ("hat-iln", {"overlap_ratio": 1.0}),
    "unet x2": ("unet", {}),
    "unet x4, attention in every second block": ("unet", {"upscale": 4, "attention_freq": 2, "depths": [2, 3]}),
    "unet x3, three levels": ("unet", {"upscale": 3, "dims": [4, 6, 8], "depths": [1, 1, 2]}),
    "unet x1, half resolution, one channel": ("unet", {"upscale": 1, "unshuffle": 2, "in_chans": 1}),
    "dat": ("dat-iln", {}),
    "dat, three convolutions, direct, lying windows": (
        "dat-iln",
        {"resi_connection": "3conv", "upsampler": "pixelshuffledirect", "split_size": [6, 3], "upscale": 4},
    ),
    "dat, no qkv bias, own scale, half resolution": ("dat-iln", {"qkv_bias": False, "qk_scale": 0.3, "unshuffle": 2}),
    "hat, no qkv bias, own scale, own eps": ("hat-iln", {"qkv_bias": False, "qk_scale": 0.3, "eps": 1e-2}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_tiling_equals_the_reference(name: str) -> None:
    architecture, config = NETWORKS[name]
    model = network(architecture, **config)
    base = BASES[architecture]
    for kind, image in pictures(11, 18, channels=model.in_chans, batch=2):
        expected = reference.restore(architecture, model.state_dict(), {**base, **config}, image)
        for label, tile in {"whole": None, **tiles(model.window)}.items():
            error = (run(model, image, tile) - expected).abs().max()
            assert error <= EXACT, f"{kind}, {label}: {error:.1e} from the reference"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (4, 4), (5, 3)])
def test_images_below_one_window_work(architecture: str, size: tuple[int, int]) -> None:
    model = network(architecture)
    base = BASES[architecture]
    for _, image in pictures(*size):
        expected = reference.restore(architecture, model.state_dict(), base, image)
        assert (run(model, image) - expected).abs().max() <= EXACT
        assert (run(model, image, (4, 4)) - expected).abs().max() <= EXACT


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_image_does_not_depend_on_the_others_of_its_batch(architecture: str) -> None:
    model = network(architecture)
    images = torch.cat([image for _, image in pictures(9, 14)])
    together = run(model, images, (model.window, 2 * model.window))
    for i, image in enumerate(images):
        assert (run(model, image[None]) - together[i]).abs().max() <= EXACT


@pytest.mark.parametrize("storage", ["device", "host", "scratch"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_storage_does_not_change_the_result(architecture: str, storage: str) -> None:
    model, image = network(architecture, dtype=torch.float32), next(pictures(11, 18))[1].float()
    assert torch.equal(run(model, image, (4, 4), storage=storage), run(model, image, (4, 4)))


def short_by_one(target: int, counted: list[int]) -> Callable[..., Field]:
    """Field.map that reads less around each tile, by one pixel of the result, in the `target`-th call with a halo.

    Where there is padding, the halo is of whole windows.
    """
    original = Field.map

    def shortened(self: Field, fn: Callable[..., Tensor], *others: Field, halo: int = 0, **options: Any) -> Field:
        reaches = halo > 0 and "padding" not in options
        counted.extend([halo] * reaches)
        less = Fraction(options.get("scale", 1)).denominator if reaches and len(counted) - 1 == target else 0
        return original(self, fn, *others, halo=halo - less, **options)

    return shortened


@pytest.mark.parametrize(
    "name", [name for name in NETWORKS if name not in ("heart x8", "heart, window 6", "hat, odd window")]
)
def test_every_halo_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    architecture, config = NETWORKS[name]
    model = network(architecture, **config)
    side = 4 * model.window if architecture == "unet" else 16
    image = next(pictures(side, side, channels=model.in_chans))[1]
    expected, number, target = run(model, image), 1, 0
    while target < number:
        counted: list[int] = []
        with monkeypatch.context() as patch:
            patch.setattr(Field, "map", short_by_one(target, counted))
            error = (run(model, image, (model.window, model.window)) - expected).abs().max()
        assert error > 1e-6, f"call {target} needs no halo of {counted[target]}"
        number, target = len(counted), target + 1
    depths = model.config.depth if architecture == "dat-iln" else model.config.depths
    assert number >= 2 + sum(depths)


def test_a_halo_declared_one_pixel_short_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    for architecture in ("heart", "hat-iln"):
        model, image = network(architecture, upscale=4), next(pictures(16, 16))[1]
        expected, tail_halo = run(model, image), trunk.tail_halo
        assert (run(model, image, (4, 4)) - expected).abs().max() <= EXACT
        with monkeypatch.context() as patch:
            patch.setattr(CAB, "halo", CAB.halo - 1)
            assert (run(model, image, (4, 4)) - expected).abs().max() > 1e-6
        with monkeypatch.context() as patch:
            patch.setattr(trunk, "tail_halo", lambda config, tail_halo=tail_halo: tail_halo(config) - 1)
            assert (run(model, image, (4, 4)) - expected).abs().max() > 1e-6


def test_classical_tiles_would_differ() -> None:
    """What the exact tiles are for: the network run on the halves one by one gives something else."""
    model, image = network(), dict(pictures(16, 16))["gradient"]
    halves = torch.cat([run(model, half) for half in image.split(8, 3)], 3)
    assert (halves - run(model, image))[..., :8].abs().max() > 1e-3  # far from the cut


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_tensor_matters_and_learns(architecture: str) -> None:
    config = {"depths": [3, 2]} if architecture == "heart" else {}
    model, image = network(architecture, **config), next(pictures(8, 8))[1]
    model(Field.of(image, Tiling(multiple=model.window))).tensor.square().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9 or name.endswith(CONSTANT), name


def test_progress_passes_are_counted() -> None:
    for architecture in ARCHITECTURES:
        model, told = network(architecture), []
        run(model, next(pictures(8, 12))[1], (4, 4), progress=told.append)
        assert abs(sum(told) - model.passes) < 1e-9


@pytest.mark.parametrize(("scale", "parameters", "tensors"), [(4, 16_677_399, 748), (2, 16_529_687, 746)])
def test_the_published_configuration_has_the_published_size(scale: int, parameters: int, tensors: int) -> None:
    with torch.device("meta"):
        model = models.build("heart", {"upscale": scale})
    state = model.state_dict()
    assert len(state) == tensors
    assert sum(value.numel() for value in state.values()) == parameters


KEYS = Path(__file__).resolve().parents[2] / "shared" / "keys"


@pytest.mark.skipif(not KEYS.is_dir(), reason="no sibling shared/keys with the published networks' keys and shapes")
@pytest.mark.parametrize("scale", [4, 2])
def test_the_published_configuration_has_the_published_keys(scale: int) -> None:
    text = json.loads((KEYS / f"heart_x{scale}.json").read_text())
    with torch.device("meta"):
        state = models.build("heart", {"upscale": scale}).state_dict()
    assert {key: list(value.shape) for key, value in state.items()} == {
        key: item[0] for key, item in text["keys"].items()
    }


def test_tail_halo_is_the_reach_of_its_convolutions() -> None:
    def halo(**config: Any) -> int:
        return trunk.tail_halo(TrunkConfig(**config))

    assert [halo(upscale=scale) for scale in (1, 2, 3, 4, 8)] == [3, 4, 4, 4, 4]
    assert halo(upscale=4, upsampler="pixelshuffledirect") == 2


@pytest.mark.parametrize("window", [2, 3, 4])
def test_relative_positions_tell_pairs_apart_by_their_offset(window: int) -> None:
    index, places = layers.self_index(window, window + 1), layers.grid(window, window + 1).tolist()
    seen: dict[tuple[int, int], int] = {}
    for i, (y, x) in enumerate(places):
        for j, (v, u) in enumerate(places):
            assert seen.setdefault((y - v, x - u), int(index[i, j])) == index[i, j]
    assert sorted(seen.values()) == list(range((2 * window - 1) * (2 * window + 1)))


@pytest.mark.parametrize(
    ("architecture", "config", "words"),
    [
        ("swin", {}, ["'swin'", "heart", "hat-iln"]),
        ("heart", {"windows": 3}, ["heart", "'windows'", "window_size"]),
        ("heart", {"overlap_ratio": 0.5}, ["'overlap_ratio'"]),
        ("heart", {"upscale": 5}, ["upscale = 5", "1, 2, 3, 4, 8"]),
        ("heart", {"upscale": "4"}, ["upscale = '4'", "int"]),
        ("heart", {"depths": [2, 2.0], "num_heads": [2, 2]}, ["depths", "list of int"]),
        ("heart", {"window_size": 7}, ["window_size = 7", "even"]),
        ("heart", {"window_size": 0}, ["window_size = 0"]),
        ("heart", {"num_heads": [7] * 6}, ["embed_dim = 180", "7"]),
        ("heart", {"depths": [6]}, ["depths has 1", "num_heads has 6"]),
        ("heart", {"squeeze_factor": 200}, ["squeeze_factor"]),
        ("heart", {"upsampler": "nearest+conv"}, ["upsampler = 'nearest+conv'", "pixelshuffledirect"]),
        ("heart", {"resi_connection": "5conv"}, ["resi_connection = '5conv'", "3conv"]),
        ("dat-iln", {"split_size": [8, 12]}, ["split_size = [8, 12]", "multiple"]),
        ("dat-iln", {"num_heads": [3] * 4}, ["num_heads", "even"]),
        ("dat-iln", {"depth": [2]}, ["depth has 1", "num_heads has 4"]),
        ("dat-iln", {"embed_dim": 30}, ["embed_dim = 30", "32"]),
        ("heart", {"upscale": 3, "unshuffle": 2}, ["upscale * unshuffle = 6"]),
        ("heart", {"ape": True}, ["ape = True", "False"]),
        ("hat-iln", {"window_size": 7, "overlap_ratio": 0.5}, ["window_size = 7", "even"]),
        ("hat-iln", {"stdnorm": 1}, ["stdnorm = 1", "bool"]),
    ],
)
def test_an_impossible_config_is_named(architecture: str, config: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(WeightsError) as caught:
        models.build(architecture, config)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_upstreams_training_options_are_passed_over() -> None:
    extra = {"drop_path_rate": 0.1, "ape": False, "patch_size": 1, "use_checkpoint": True}
    plain = models.build("heart", HEART).state_dict()
    assert list(models.build("heart", {**HEART, **extra}).state_dict()) == list(plain)


def test_the_official_dialect_is_renamed_and_others_are_unknown() -> None:
    official = {"norm.gamma": torch.ones(1), "norm.beta": torch.zeros(1), "conv.weight": torch.ones(2)}
    assert list(models.rename("official", official)) == ["norm.weight", "norm.bias", "conv.weight"]
    assert list(models.rename(None, official)) == list(official)
    with pytest.raises(WeightsError, match="dialect 'klingon'"):
        models.rename("klingon", official)
