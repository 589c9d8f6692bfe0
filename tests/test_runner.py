from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from networks import BASES, HEART, network, pictures
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from irestore import runner
from irestore.batch.chain import Step
from irestore.batch.restorer import Restorer
from irestore.errors import NonFiniteError, OutOfMemoryError, RestoreError, UsageError
from irestore.images import Picture
from irestore.models.layers import CAB
from irestore.planning import Settings, cost
from irestore.runner import pad, restore
from irestore.scratch import Store

SIZES = [(1, 1), (1, 5), (3, 2), (4, 4), (7, 13), (16, 9)]


def expected(config: dict[str, Any], image: Tensor) -> Tensor:
    return reference.restore("heart", network(**config).state_dict(), {**HEART, **config}, image).clamp(0, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("tile", ["auto", "off", 1, 4, 6, 100])
def test_the_result_is_the_references_clipped_for_every_size_and_tile(size: tuple[int, int], tile: Any) -> None:
    model, image = network(upscale=3), dict(pictures(*size, batch=2))["gradient"]
    result = restore(model, image, Settings(tile=tile))
    assert result.shape == (2, 3, 3 * size[0], 3 * size[1])
    assert result.dtype == torch.float64
    assert (result - expected({"upscale": 3}, image)).abs().max() <= 1e-10


def test_values_are_clipped_to_the_range_of_pixels() -> None:
    model, image = network(), next(pictures(8, 8))[1]
    model.conv_last.bias.data += torch.tensor([9.0, -9.0, 0.0])
    result = restore(model, image)
    assert (result[:, 0] == 1).all()
    assert (result[:, 1] == 0).all()
    assert result[:, 2].unique().numel() > 99


def test_the_input_is_not_changed_and_the_result_is_ones_own() -> None:
    model, image = network(dtype=torch.float32), next(pictures(8, 8))[1].float()
    before = image.clone()
    result = restore(model, image)
    assert torch.equal(image, before)
    result.mul_(2).requires_grad_()  # no tensor of inference mode


def test_the_result_is_on_the_cpu_in_the_models_precision() -> None:
    result = restore(network(dtype=torch.float32), next(pictures(5, 6))[1])
    assert result.device.type == "cpu"
    assert result.dtype == torch.float32


def test_nothing_is_left_on_the_model() -> None:
    model, image = network(dtype=torch.float32), next(pictures(9, 9))[1].float()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    restore(model, image, Settings(tile=4))
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes


@pytest.mark.parametrize("tile", ["off", 4, "auto"])
def test_progress_rises_to_one_and_is_told_for_each_tile(tile: Any) -> None:
    model, told = network(dtype=torch.float32), []
    restore(model, next(pictures(12, 20))[1], Settings(tile=tile), told.append)
    assert told == sorted(told)
    assert told[0] > 0
    assert told[-1] == pytest.approx(1, abs=1e-9)
    assert max(told) <= 1
    if tile == 4:
        assert len(told) >= model.passes * 15


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (1, 3, 0, 8), (0, 3, 8, 8), (8, 8)])
def test_an_image_that_does_not_suit_the_model_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(RestoreError, match=r"the model takes \(batch, 3, height, width\)") as caught:
        restore(network(), torch.zeros(shape))
    assert str(shape) in str(caught.value)


def test_a_model_of_one_channel_takes_one() -> None:
    model = network(in_chans=1)
    assert restore(model, torch.rand(1, 1, 5, 5).double()).shape == (1, 1, 10, 10)
    with pytest.raises(RestoreError, match=r"\(batch, 1, height, width\)"):
        restore(model, torch.rand(1, 3, 5, 5))


@pytest.mark.parametrize("tile", ["off", 4])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_an_error(value: float, tile: Any) -> None:
    model = network(dtype=torch.float32)
    model.conv_last.weight.data[0, 0, 0, 0] = value
    with pytest.raises(NonFiniteError):
        restore(model, next(pictures(8, 8))[1], Settings(tile=tile))


@pytest.mark.parametrize("architecture", ["heart", "hat-iln", "unet"])
def test_bf16_stays_near_and_keeps_maps_and_statistics_in_float32(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image = network(architecture, dtype=torch.float32), dict(pictures(12, 17))["gradient"].float()
    whole = restore(model, image)
    seen: list[torch.dtype] = []
    original = runner.Field.moments

    def watched(field: runner.Field, eps: float) -> Any:
        moments = original(field, eps)
        seen.extend(value.dtype for value in (*moments, field.tensor))
        return moments

    monkeypatch.setattr(runner.Field, "moments", watched)
    tiled, untiled = (restore(model, image, Settings(precision="bf16", tile=tile)) for tile in (8, "off"))
    assert seen
    assert set(seen) == {torch.float32}
    assert tiled.dtype == torch.float32
    assert 0 < (tiled - whole).square().mean() < 1e-4
    assert (tiled - untiled).square().mean() < 1e-4


def test_fp16_that_overflows_is_computed_again_in_float32() -> None:
    model, image = network(dtype=torch.float32), next(pictures(8, 12))[1].float()
    model.conv_before_upsample[0].weight.data *= 1e6
    model.upsample[0].weight.data *= 1e-6
    whole = restore(model, image)
    result = restore(model, image, Settings(precision="fp16", tile=4))
    assert torch.isfinite(result).all()
    assert (result - whole).abs().max() < 0.05


def test_a_model_in_half_precision_of_an_official_hat_runs() -> None:
    model = network("hat-iln", stdnorm=True, dtype=torch.float32)
    image = next(pictures(8, 12))[1].float()
    result = restore(model, image, Settings(precision="bf16", tile=4))
    assert (result - restore(model, image)).abs().max() < 0.1


def test_memory_that_runs_out_makes_smaller_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = network(), dict(pictures(24, 20))["gradient"]
    whole = restore(model, image, Settings(tile="off"))
    original, sizes, limit = CAB.forward, [], 100

    def forward(self: CAB, t: Tensor) -> Tensor:
        sizes.append(t.shape[2] * t.shape[3])
        if sizes[-1] > limit:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, t)

    monkeypatch.setattr(CAB, "forward", forward)
    told: list[float] = []
    result = restore(model, image, Settings(tile="off"), told.append)
    assert (result - whole).abs().max() <= 1e-10
    assert told[-1] == pytest.approx(1, abs=1e-9)
    assert sum(size > limit for size in sizes) <= 4  # remembered from block to block
    limit = 10
    with pytest.raises(OutOfMemoryError, match="4x4"):
        restore(model, image)


@pytest.mark.parametrize("tile", ["auto", "off", 16])
def test_a_tile_that_was_too_large_is_remembered_for_the_next_picture(
    tile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(dtype=torch.float32)
    original, sizes = CAB.forward, []

    def forward(self: CAB, t: Tensor) -> Tensor:
        sizes.append(t.shape[2] * t.shape[3])
        if sizes[-1] > 200:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(self, t)

    monkeypatch.setattr(CAB, "forward", forward)
    restorer = Restorer({Step("sr", model.scale): model}, Settings(tile=tile))
    picture = Picture(np.full((24, 20, 3), 0.5, np.float32), None, grey=False, depth=8, format="png")
    restorer([picture], lambda _: None)
    assert max(sizes) > 200
    sizes.clear()
    restorer([picture], lambda _: None)
    assert max(sizes) <= 200


def test_what_is_free_at_the_moment_changes_where_maps_lie_but_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    model, image = network(dtype=torch.float32), next(pictures(96, 96))[1].float()
    results, homes, plans = [], [], []
    file = Store.file
    for free in (2**40, 2**20, 0):
        used: list[int] = []
        monkeypatch.setattr(runner, "free_bytes", lambda device, free=free: free)
        monkeypatch.setattr(Store, "file", lambda *a, used=used: used.append(1) or file(*a))
        results.append(restore(model, image))
        restorer = Restorer({Step("sr", model.scale): model}, Settings())
        plans.append((cost(model, 96, 96, Settings()).tile, restorer.side_by_side(96, 96), restorer.batch_size(96, 96)))
        homes.append(bool(used))
    assert homes == [False, True, True]
    assert plans[0] == plans[1] == plans[2]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_max_memory_sends_maps_to_scratch_and_gives_the_same_pixels() -> None:
    model, image = network(dtype=torch.float32), next(pictures(96, 96))[1].float()
    generous, scarce = Settings(tile=8), Settings(tile=8, max_memory=1_200_000)
    assert cost(model, 96, 96, generous).storage == "device"
    plan = cost(model, 96, 96, scarce)
    assert plan.storage == "scratch"
    assert plan.bytes <= 1_200_000
    assert torch.equal(restore(model, image, scarce), restore(model, image, generous))


@pytest.mark.parametrize("tile", ["off", 4])
def test_an_ensemble_is_the_mean_over_turns_and_mirrors(tile: Any) -> None:
    model, shares = network(), []
    image = dict(pictures(10, 17, batch=2))["gradient"]
    parts = []
    for turn in range(4):
        for mirrored in (False, True):
            seen = torch.rot90(image, turn, (2, 3))
            part = restore(model, seen.flip(3) if mirrored else seen)
            parts.append(torch.rot90(part.flip(3) if mirrored else part, -turn, (2, 3)))
    settings = Settings(tile=tile, ensemble=True)
    result = restore(model, image, settings, shares.append)
    assert (result - torch.stack(parts).mean(0)).abs().max() < 1e-10
    assert (result - parts[0]).abs().max() > 1e-6
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert cost(model, 10, 17, settings).bytes > cost(model, 10, 17, Settings(tile=tile)).bytes


def test_a_plan_says_tile_and_storage() -> None:
    model = network(dtype=torch.float32)
    assert cost(model, 30, 50, Settings(tile="off")).tile is None
    assert cost(model, 30, 50, Settings(tile=5)).tile == (8, 8)
    assert cost(model, 30, 50, Settings(tile="auto")).tile is None  # all of it stays in the cache
    auto = cost(model, 800, 900, Settings(tile="auto"))
    assert auto.tile is not None
    assert auto.tile[0] % model.window == auto.tile[1] % model.window == 0
    assert auto.bytes > 800 * 900 * 3 * 4
    assert cost(model, 300, 500, Settings(tile=64)).bytes > cost(model, 300, 300, Settings(tile=64)).bytes
    assert cost(model, 300, 300, Settings(tile=64), batch=4).bytes > cost(model, 300, 300, Settings(tile=64)).bytes


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"tile": 0}, "tile 0"),
        ({"tile": "large"}, "tile 'large'"),
        ({"tile": 2.5}, "tile 2.5"),
        ({"precision": "fp8"}, "precision 'fp8'"),
        ({"max_memory": 0}, "max_memory 0"),
    ],
)
def test_impossible_settings_are_named(options: dict[str, Any], name: str) -> None:
    with pytest.raises(UsageError, match=name):
        Settings(**options)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 8), (5, 5), (8, 12), (9, 2)])
def test_pad_keeps_the_image_and_reflects_or_repeats(height: int, width: int) -> None:
    image = torch.rand(1, 3, height, width)
    padded = pad(image, 4)
    assert torch.equal(padded, reference.padded(image, 4))
    assert torch.equal(padded[:, :, :height, :width], image)


MEASURE = """
import json, re, sys, torch
from pathlib import Path
from irestore import models
from irestore.planning import Settings, cost
from irestore.runner import restore

def resident(field):
    return int(re.search(field + r":\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

torch.set_num_threads(1)
torch.manual_seed(0)
architecture, config, tile = json.loads(sys.argv[1])
model, settings = models.build(architecture, config).eval(), Settings(tile=tile)
image = torch.rand(1, 3, 256, 256)
restore(model, image[:, :, :32, :32], settings)  # the libraries' own first-use allocations
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
restore(model, image, settings)
print(json.dumps([cost(model, 256, 256, settings).bytes, resident("VmHWM") - before]))
"""
MIDDLE = {"embed_dim": 48, "depths": [2], "num_heads": [4], "window_size": 16, "squeeze_factor": 12, "upscale": 4}
DAT_MIDDLE = {
    "embed_dim": 60, "depth": [4], "num_heads": [6], "split_size": [8, 32], "expansion_factor": 2, "upscale": 4,
    "upsampler": "pixelshuffledirect", "resi_connection": "3conv",
}  # fmt: skip


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is reset by way of /proc (Linux)")
@pytest.mark.parametrize(
    ("architecture", "tile", "more"),
    [
        ("heart", "off", {"upsampler": "pixelshuffledirect"}),
        ("heart", 64, {"num_feat": 32}),
        ("hat-iln", "off", {}),
        ("dat-iln", "off", {}),
        ("dat-iln", 64, {}),
    ],
)
def test_cost_bounds_the_measured_peak_from_above_within_a_factor(
    architecture: str, tile: Any, more: dict[str, Any]
) -> None:
    middle = DAT_MIDDLE if architecture == "dat-iln" else MIDDLE
    arguments = json.dumps([architecture, {**middle, **more}, tile])
    ran = subprocess.run([sys.executable, "-c", MEASURE, arguments], capture_output=True, text=True, check=True)
    planned, measured = json.loads(ran.stdout)
    assert measured <= planned <= 2.5 * measured


def test_a_picture_with_nan_is_not_blamed_on_the_weights() -> None:
    image = next(pictures(8, 8))[1]
    image[0, 1, 2, 3] = float("nan")
    with pytest.raises(RestoreError, match="the image itself holds NaN"):
        restore(network(), image)


@pytest.mark.parametrize(("tile", "remedy"), [("auto", "allow as much$"), ("off", "or take --tile auto$")])
def test_too_small_a_budget_is_told_before_anything_is_computed(tile: Any, remedy: str) -> None:
    with pytest.raises(
        OutOfMemoryError, match=rf"about \d+ MiB are needed, more than the 0 MiB of --max-memory.*{remedy}"
    ):
        restore(network(), next(pictures(64, 64))[1], Settings(tile=tile, max_memory=100_000))


def test_memory_that_runs_out_outside_the_tiles_is_our_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(image: Tensor, multiple: int) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner, "pad", full)
    with pytest.raises(OutOfMemoryError, match="a picture of 8x8 pixels does not fit into the memory of cpu"):
        restore(network(), next(pictures(8, 8))[1])


def test_the_result_keeps_no_padding_alive() -> None:
    result = restore(network(), next(pictures(10, 10))[1])
    assert result.untyped_storage().nbytes() == result.nbytes


@pytest.mark.parametrize("architecture", BASES)
def test_float64_is_met_only_where_statistics_are_merged(architecture: str) -> None:
    """Which is on the CPU where the device is an Apple GPU, for that knows no float64."""
    met = set()

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = func(*args, **(kwargs or {}))
            if any(isinstance(each, torch.Tensor) and each.dtype == torch.float64 for each in tree_leaves(result)):
                frame = sys._getframe(1)
                while Path(frame.f_code.co_filename).parent.name not in ("irestore", "models"):
                    frame = frame.f_back
                met.add((Path(frame.f_code.co_filename).name, frame.f_code.co_name))
            return result

    model = network(architecture, dtype=torch.float32)
    image = torch.rand(1, 3, 3 * model.window - 1, 2 * model.window)
    with Watch():
        restore(model, image, Settings(tile=model.window))
    assert met
    assert {place for place in met if place[0] != "statistics.py"} <= {("field.py", "mean"), ("field.py", "moments")}
