"""The Python interface: every kind of picture comes back as the same kind, restored alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import write_weights

import irestore
from irestore import models
from irestore.errors import UnknownModelError, UsageError
from irestore.models.network import Network

SMALL = {"embed_dim": 8, "depths": (1,), "num_heads": (2,), "window_size": 8, "squeeze_factor": 4, "num_feat": 8}


@pytest.fixture(scope="module")
def model() -> Network:
    torch.manual_seed(0)
    network = models.build("heart", {"upscale": 2, "global_skip": True, **SMALL}).eval()
    network.conv_last.weight.data *= 0.01  # near the enlarged input
    return network


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(30, 220, (13, 21, 3), dtype=np.uint8)


def test_array_and_tensor_and_pillow_agree(model: Network, pixels: np.ndarray) -> None:
    array = irestore.restore(pixels, model=model)
    assert array.shape == (26, 42, 3)
    assert array.dtype == np.uint8
    tensor = irestore.restore(torch.from_numpy(pixels).permute(2, 0, 1).float() / 255, model=model)
    assert tensor.shape == (3, 26, 42)
    assert np.array_equal(array, (tensor.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8))
    assert np.array_equal(array, np.asarray(irestore.restore(Image.fromarray(pixels), model=model)))


def test_a_batch_of_tensors_is_restored_each_as_if_alone(model: Network) -> None:
    batch = torch.rand(2, 3, 13, 21, generator=torch.Generator().manual_seed(1))
    batch[1] *= 0.3
    together = irestore.restore(batch, model=model)
    for image, result in zip(batch, together, strict=True):
        assert torch.allclose(irestore.restore(image, model=model), result, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(9, 9), (9, 9, 3), (9, 9, 4)])
def test_arrays_keep_type_and_channels(model: Network, dtype: type, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(2).random(shape)
    array = (values * np.iinfo(dtype).max).astype(dtype) if np.issubdtype(dtype, np.integer) else values.astype(dtype)
    result = irestore.restore(array, model=model)
    assert result.dtype == array.dtype
    assert result.shape == (18, 18, *shape[2:])


@pytest.mark.parametrize(
    ("mode", "expected"), [("1", "L"), ("L", "L"), ("LA", "LA"), ("P", "RGB"), ("RGB", "RGB"), ("RGBA", "RGBA")]
)
def test_pillow_modes(model: Network, pixels: np.ndarray, mode: str, expected: str) -> None:
    image = Image.fromarray(pixels).convert(mode)
    image.info["icc_profile"] = b"a profile"
    result = irestore.restore(image, model=model)
    assert (result.mode, result.size) == (expected, (42, 26))
    assert result.info["icc_profile"] == b"a profile"


def test_sixteen_bits_grey_stay_sixteen(model: Network) -> None:
    ramp = np.linspace(1000, 60000, 16 * 64).reshape(16, 64).astype(np.uint16)
    result = irestore.restore(Image.fromarray(ramp), model=model)
    assert result.mode == "I;16"
    assert len(np.unique(np.asarray(result))) > 512


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((2, 3, 4, 5), np.uint8),
        np.zeros((4, 4), np.int32),
        np.full((4, 4), np.nan),
        torch.zeros(3, 4, 4, dtype=torch.uint8),
        torch.full((3, 4, 4), 200.0),
        np.full((4, 4), 200.0),
        np.full((4, 4), -0.1),
        "photo.png",
    ],
)
def test_what_is_no_picture_is_refused(model: Network, image: object) -> None:
    with pytest.raises(UsageError):
        irestore.restore(image, model=model)  # type: ignore[type-var]


def test_cmyk_is_refused_with_the_remedy(model: Network, pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match="CMYK: convert it to RGB first"):
        irestore.restore(Image.fromarray(pixels).convert("CMYK"), model=model)


def test_an_unknown_task_is_named_with_those_that_there_are(pixels: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"task 'upscale': must be one of sr, restore"):
        irestore.restore(pixels, "upscale")


def test_strength_blends_with_the_input(pixels: np.ndarray) -> None:
    model = irestore.load("compact-dejpeg")
    assert np.array_equal(irestore.restore(pixels, model=model, strength=0.0), pixels)
    whole, half = (irestore.restore(pixels, model=model, strength=strength) for strength in (1.0, 0.5))
    assert np.abs(half - (whole / 2 + pixels / 2)).max() <= 1
    tensor = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    halved = irestore.restore(tensor, model=model, strength=0.5).permute(1, 2, 0)
    assert np.abs(halved.numpy() * 255 - half).max() <= 1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"task": "denoise"}, "compact-x2 is made for sr, not for denoise"),
        ({"scale": 4}, "compact-x2 enlarges 2 times, not 4"),
        ({"strength": 0.5}, "keep the size"),
        ({"strength": 2.0}, "from 0 to 1"),
    ],
)
def test_a_model_does_only_what_it_is_made_for(pixels: np.ndarray, asked: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        irestore.restore(pixels, model="compact-x2", **asked)


def test_a_model_is_named_loaded_from_a_file_or_chosen_and_says_what_it_is_in_one_line(
    pixels: np.ndarray, tmp_path: Path
) -> None:
    assert repr(irestore.load("compact-x2", device="cpu")) == "<UNet compact-x2: sr x2, 1.2 M parameters, cpu>"
    assert repr(irestore.load(str(write_weights(tmp_path / "own.safetensors")))).startswith("<Heart own: sr x2")
    assert irestore.restore(pixels, "sr", 2, model="fast").shape == (26, 42, 3)


def test_a_fallback_is_a_warning_in_python_s_words(pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    from irestore import weights

    monkeypatch.setattr(weights, "bundled_first", tuple)  # as on a GPU
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights.hub, "is_offline", lambda: True)
    monkeypatch.setattr(weights.hub, "cached", lambda entry: None)
    with pytest.warns(UserWarning, match='compact-x2 instead.*to insist: model="heart-x2"') as told:
        irestore.restore(pixels, "sr", 2)
    assert " -m " not in str(told[0].message)


def test_an_unknown_model_is_named() -> None:
    with pytest.raises(UnknownModelError, match="no-such-model"):
        irestore.load("no-such-model")
