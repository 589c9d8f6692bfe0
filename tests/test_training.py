"""The recipe: what is drawn, that a run can be cut off and resumed, and that its export is what irestore loads."""

import json
import tomllib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from networks import network, pictures
from PIL import Image
from safetensors.torch import load_file, save_file
from skimage import data as skimage_data
from test_models import NETWORKS

from irestore import degrade, models, weights
from irestore.errors import WeightsError
from irestore.field import Field
from irestore.runner import pad
from irestore.tasks import TASKS
from irestore.tiling import Tiling
from irestore.weights.files import packed
from irestore.weights.manifest import read
from training import data, learning, muon, normalisation, plot, queue, train
from training.crops import Crops, Drawing, Pair, as_batch, to_grey
from training.degrade import Jpeg, Noise, build
from training.export import main as export
from training.whole import WholeField

CONFIGS = sorted(Path(train.__file__).with_name("configs").glob("*.toml"))
PHOTOS = {"astronaut": skimage_data.astronaut(), "cat": skimage_data.chelsea(), "coffee": skimage_data.coffee()}
TINY = """
task = "{task}"
[model]
architecture = "heart"
[model.config]
upscale = {upscale}
embed_dim = 8
depths = [2]
num_heads = [2]
window_size = 8
compress_ratio = 2
squeeze_factor = 4
rank = 2
rib_hidden_dim = 4
rib_n_freqs = 2
upsampler = "pixelshuffledirect"
global_skip = true
[data]
size = 16
batch = 2
hold_out = 2
valid_size = 16
{data}
[train]
seed = 1
steps = {steps}
rate = 1e-3
warmup = 2
clip = 1.0
ema = 0.9
mse_from = 0.5
valid_every = 2
[release]
name = "tiny"
description = "A test."
licence = "CC0-1.0"
training_data = "Three photographs of scikit-image"
{more}
"""
NOISE = '[degradation]\nname = "noise"\n'


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three small photographs, and a pair of folders in it."""
    folder = tmp_path / "photos"
    for name, pixels in PHOTOS.items():
        for below, image in (("", pixels), ("pairs/clean", pixels[:40, :50]), ("pairs/blurred", pixels[:40, :50] // 2)):
            (folder / below).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[:120, :130]).save(folder / below / f"{name}.png")
    return folder


def write_config(
    path: Path, *, task: str = "sr", upscale: int = 2, steps: int = 4, extra: str = "", more: str = ""
) -> Path:
    path.write_text(TINY.format(task=task, upscale=upscale, steps=steps, data=extra, more=more))
    return path


def run(config: Path, photos: Path, out: Path, *more: str) -> list[dict[str, Any]]:
    """Trains; the lines of the log."""
    train.main([str(config), "--data", str(photos), "--out", str(out), *more])
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


# --- pictures and crops


def drawing(**changes: Any) -> Drawing:
    return Drawing(**{"scale": 1, "size": 32, "batch": 4, "seed": 3} | changes)


def test_a_crop_of_a_pair_is_the_same_place_in_both():
    pairs = [
        Pair(np.repeat(np.repeat(image, 3, 0), 3, 1), image) for image in (PHOTOS["cat"][:60, :50], PHOTOS["coffee"])
    ]
    damaged, clean = Crops(pairs, drawing(scale=3, batch=8, size=24))[5]
    assert damaged.shape == (8, 3, 24, 24)
    assert torch.equal(torch.nn.functional.interpolate(damaged, scale_factor=3), clean)


def test_a_batch_depends_on_its_number_and_the_seed_only():
    crops = [Crops([Pair(PHOTOS["cat"], None)], drawing(seed=seed), Noise()) for seed in (3, 3, 4)]
    assert all(torch.equal(a, b) for a, b in zip(crops[0][7], crops[1][7], strict=True))
    assert not torch.equal(crops[0][7][1], crops[0][8][1])
    assert not torch.equal(crops[0][7][1], crops[2][7][1])


def test_damage_is_done_to_the_crop_and_its_margin_cut_off():
    damage = Jpeg(quality=(10, 10), double=0, shifted=0, full_chroma=0, clean=0)
    damaged, clean = Crops([Pair(PHOTOS["cat"], None)], drawing(size=64, batch=8), damage)[0]
    error = (damaged - clean).abs().mean((1, 2, 3))
    assert damaged.shape == clean.shape == (8, 3, 64, 64)
    assert error.min() > 0.001
    across = (damaged[..., 1:] - damaged[..., :-1]).abs().mean((0, 1, 2))
    assert across[7::8].mean() > 1.2 * across[3::8].mean()  # the grid still begins at the corner


def test_what_is_enlarged_is_damaged_at_the_size_of_the_small_picture():
    small = PHOTOS["cat"]
    pair = Pair(np.repeat(np.repeat(small, 2, 0), 2, 1), small)
    noise = Noise(sigma=(20, 20), rounded=0, camera=0, clean=0)
    damaged, clean = Crops([pair], drawing(scale=2, size=64, batch=8), noise)[0]
    assert damaged.shape == (8, 3, 64, 64)
    error = damaged - clean[..., ::2, ::2]  # of the same place
    assert error.std() * 255 == pytest.approx(20, rel=0.02)
    assert error.mean().abs() * 255 < 0.2


def test_of_several_places_that_with_most_detail_is_taken():
    picture = np.full((96, 192, 3), 128, np.uint8)
    picture[:, :32] = np.random.default_rng(0).integers(0, 256, (96, 32, 3))  # a sixth has detail
    pairs = [Pair(picture, picture)]
    (_, one), (_, best) = (Crops(pairs, drawing(size=16, batch=40, places=count))[0] for count in (1, 8))
    flat = [(image == image[:, :, :1, :1]).all((1, 2, 3)).sum() for image in (one, best)]
    assert flat[0] > 20
    assert flat[1] < 20


def test_grey_crops_are_grey_on_both_sides():
    damaged, clean = Crops([Pair(PHOTOS["cat"], None)], drawing(batch=40, grey=0.5), Noise(camera=0, clean=0))[0]
    grey = [(image == image[:, :1]).all((1, 2, 3)) for image in (damaged, clean)]
    assert torch.equal(*grey)
    assert 8 < grey[0].sum() < 32
    assert to_grey(np.full((2, 2, 3), 99, np.uint8)).tolist() == [[99, 99], [99, 99]]


def test_pairs_are_drawn_as_often_as_asked():
    pairs = [Pair(PHOTOS["cat"], None), Pair(PHOTOS["coffee"], PHOTOS["coffee"])]
    crops = Crops([*pairs, *pairs[:1]], drawing(paired=0.3), Noise())
    assert crops.share[1] == pytest.approx(0.3)
    assert crops.share.sum() == pytest.approx(1)


def test_pictures_too_small_are_left_out_and_none_is_an_error():
    small = Pair(PHOTOS["cat"][:40, :40], None)
    assert len(Crops([small, Pair(PHOTOS["cat"], None)], drawing(), Noise()).pairs) == 1
    with pytest.raises(ValueError, match="no picture is large enough for crops of 32 pixels"):
        Crops([small], drawing(), Noise())
    with pytest.raises(ValueError, match="name a degradation"):
        Crops([small], drawing())


def test_a_batch_of_bytes_floats_and_grey_is_in_0_to_1():
    images = [np.full((2, 2, 3), 255, np.uint8), np.full((2, 2), 51.0, np.float32)]
    assert as_batch(images)[:, :, 0, 0].tolist() == [[1, 1, 1], [pytest.approx(0.2)] * 3]


def test_pictures_are_read_skipped_halved_and_held_out(photos: Path):
    Image.fromarray(PHOTOS["cat"][:100, :80]).save(photos / "lossy.jpg")
    shapes = [image.shape for _, image in data.read_folder(photos, ("pairs/",))]
    assert shapes == [(120, 130, 3)] * 3 + [(50, 40, 3)]
    config = {"hold_out": 2, "valid_size": 20, "skip": ["pairs/"], "pairs": [["pairs/blurred", "pairs/clean"]]}
    kept, held = data.load(photos, config, 1, Noise(clean=0))
    assert [pair.damaged is None for pair in kept] == [True, True, False]
    assert [pair.clean.shape for pair in held] == [(20, 20, 3)] * 4
    again = data.load(photos, config, 1, Noise(clean=0))[1]
    for pair, other in zip(held, again, strict=True):
        assert pair.damaged is not None
        assert np.array_equal(pair.damaged, other.damaged)
        assert not np.array_equal(pair.damaged, pair.clean)


def test_sr_pairs_are_matlab_s(photos: Path):
    kept, _ = data.load(photos, {"hold_out": 2, "valid_size": 16, "skip": ["pairs/"]}, 4, None)
    assert kept[0].damaged is not None
    assert np.array_equal(kept[0].damaged, degrade.shrink(PHOTOS["cat"][:120, :128], 4))
    assert kept[0].clean.shape == (120, 128, 3)
    _, held = data.load(photos, {"hold_out": 2, "valid_size": 16, "skip": ["pairs/"]}, 2, Noise(clean=0))
    assert [(pair.clean.shape, pair.damaged.shape) for pair in held if pair.damaged is not None] == [
        ((32, 32, 3), (16, 16, 3))
    ] * 2


def test_decoded_pictures_are_kept_and_made_again_where_the_file_changes(photos: Path, tmp_path: Path):
    config = {"hold_out": 2, "valid_size": 16, "skip": ["pairs/"]}
    plain, _ = data.load(photos, config, 4, None)
    for _ in range(2):
        cached, _ = data.load(photos, config, 4, None, data.Cache(tmp_path / "cache"))
        for one, two in zip(plain, cached, strict=True):
            assert np.array_equal(one.clean, two.clean)
            assert np.array_equal(one.damaged, two.damaged)
    files = set((tmp_path / "cache").iterdir())
    assert len(files) == 4  # three pictures, and the one that is no hold-out made smaller
    Image.fromarray(PHOTOS["cat"][:100, :104]).save(photos / "cat.png")
    changed, _ = data.load(photos, config, 4, None, data.Cache(tmp_path / "cache"))
    assert changed[0].clean.shape == (100, 104, 3)


def test_folders_that_do_not_fit_are_errors(photos: Path, tmp_path: Path):
    (photos / "pairs/clean/cat.png").unlink()
    with pytest.raises(ValueError, match="cat is in one folder only"):
        data.read_pairs(photos / "pairs/clean", photos / "pairs/blurred")
    with pytest.raises(ValueError, match="no PNG"):
        list(data.read_folder(tmp_path / "nowhere"))


# --- runs


@pytest.mark.parametrize("muon", [False, True], ids=["adam", "muon"])
@pytest.mark.parametrize("more", ["", NOISE], ids=["sr", "denoise"])
def test_a_run_cut_off_and_resumed_is_the_run_that_was_not(tmp_path: Path, photos: Path, more: str, muon: bool):
    kind = {"task": "denoise", "upscale": 1} if more else {}
    long = write_config(tmp_path / "long.toml", steps=6, more=more, **kind)
    if muon:
        long.write_text(
            long.read_text().replace("embed_dim = 8", "embed_dim = 16").replace("[train]", "[train]\nmuon = 10.0")
        )
    whole = run(long, photos, tmp_path / "whole")
    text = long.read_text()
    cut = train.Run(tomllib.loads(text), tmp_path / "cut")
    crops, held = train.pictures(cut.config, photos, cut.model)
    cut.train((crops[number] for number in range(3)), held)  # the third step is not saved, so it is done again
    resumed = run(long, photos, tmp_path / "cut")
    for name in ("weights.safetensors", "checkpoint.pt"):
        assert (tmp_path / "cut" / name).exists()
    one, two = (load_file(tmp_path / name / "weights.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    scores = [[line["loss"] for line in log if "loss" in line] for log in (whole, resumed)]
    assert scores[0] == scores[1]
    assert [line["step"] for line in whole if "loss" in line] == [2, 4, 6]
    assert (tmp_path / "cut/config.toml").read_text() == text


def test_training_learns(tmp_path: Path, photos: Path):
    """To make dark pictures bright again."""
    only = 'skip = ["astronaut", "cat", "coffee", "pairs"]\npairs = [["pairs/blurred", "pairs/clean"]]'
    config = write_config(tmp_path / "c.toml", task="deblur", upscale=1, steps=20, extra=only)
    log = run(config, photos, tmp_path / "out")
    scores = [line["psnr"] for line in log if "psnr" in line]
    assert scores[-1] > scores[0] + 2


def test_learning_by_psnr_weighs_crops_by_how_good_they_are_down_to_the_floor():
    clean = torch.rand(3, 3, 8, 8)
    added = torch.tensor([0.1, 0.01, 0.0001]).reshape(3, 1, 1, 1)
    out = (clean + added).requires_grad_()
    loss = learning.loss_of(out, clean, 0.5, {"loss": "psnr", "floor": 1e-4})
    errors = [0.01, 1e-4, 1e-8]
    assert loss.item() == pytest.approx(0.02 * np.mean(np.log(np.add(errors, 1e-4))), rel=1e-4)
    early = learning.loss_of(out, clean, 0.1, {"loss": "psnr", "floor": 1e-4, "psnr_from": 0.3})
    assert early.item() == pytest.approx((out - clean).abs().mean().item())
    loss.backward()
    pull = out.grad.abs().mean((1, 2, 3)).numpy()
    expected = np.sqrt(errors) / np.add(errors, 1e-4)
    np.testing.assert_allclose(pull / pull[0], expected / expected[0], rtol=1e-2)


def test_a_run_tells_how_well_clean_pictures_are_kept(tmp_path: Path, photos: Path):
    config = write_config(tmp_path / "c.toml", task="denoise", upscale=1, steps=2, more=NOISE)
    config.write_text(config.read_text().replace("mse_from = 0.5", 'loss = "psnr"\nfloor = 1e-4\nfrequency = 0.1'))
    last = run(config, photos, tmp_path / "out")[-1]
    assert last["kept"] > last["psnr"]
    assert "kept" not in run(write_config(tmp_path / "x2.toml", steps=2), photos, tmp_path / "x2")[-1]


@pytest.mark.parametrize("upsampler", ["pixelshuffledirect", "pixelshuffle"])
def test_a_network_with_a_skip_begins_by_changing_nothing(tmp_path: Path, upsampler: str):
    text = write_config(tmp_path / "c.toml").read_text().replace("pixelshuffledirect", upsampler)
    model = train.Run(tomllib.loads(text), tmp_path / "out").model
    image = torch.rand(1, 3, 16, 24)
    assert torch.equal(learning.forward(model, image), torch.nn.functional.interpolate(image, scale_factor=2))


def test_bfloat16_learns_too(tmp_path: Path, photos: Path):
    log = run(write_config(tmp_path / "c.toml", steps=2), photos, tmp_path / "half", "--precision", "bf16")
    full = run(tmp_path / "c.toml", photos, tmp_path / "full")
    assert log[-1]["loss"] == pytest.approx(full[-1]["loss"], rel=0.05)
    weights = load_file(tmp_path / "half/weights.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float32}


def test_muon_takes_the_inner_matrices_and_makes_them_nearly_orthogonal():
    model = models.build("unet", {"dims": [16, 32], "depths": [1, 1], "num_heads": 2, "squeeze_factor": 2})
    adam, inner = learning.optimisers(model, {"muon": 10.0})
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    taken = {names[id(parameter)] for group in inner.param_groups for parameter in group["params"]}
    assert "bottom.0.attn.to_qkv.weight" in taken
    assert not {name for name in taken if name.startswith(("conv_first", "conv_last")) or name.endswith("bias")}
    assert len(taken) + sum(len(group["params"]) for group in adam.param_groups) == len(names)
    assert len(learning.optimisers(model, {})) == 1
    matrix = torch.randn(24, 60, generator=torch.Generator().manual_seed(0))
    for each in (matrix, matrix.T):
        values = torch.linalg.svdvals(muon.orthogonalised(each[None])[0])
        assert 0.6 < values.min() < values.max() < 1.3
    (weight,) = inner.param_groups[0]["params"][:1]
    before, weight.grad = weight.detach().clone(), torch.full_like(weight, 1e-8).normal_(std=1e-8)
    inner.param_groups[0]["lr"] = 0.1
    inner.step()
    rank = min(weight.flatten(1).shape)
    assert (weight - before).norm().item() == pytest.approx(0.1 * rank**0.5, rel=0.3)  # whatever the gradient's size


@pytest.mark.parametrize("name", ["heart x4, attention in every second block", "hat", "dat", "unet x3, three levels"])
def test_training_computes_what_the_network_is(name: str):
    architecture, config = NETWORKS[name]
    model = network(architecture, **config)
    image = pad(dict(pictures(20, 28, batch=2))["gradient"], model.multiple)
    exact = model(Field.of(image, Tiling(multiple=model.window))).tensor
    assert (model(WholeField(image)).tensor - exact).abs().max() < 1e-10


def test_a_finished_run_is_left_as_it_is(tmp_path: Path, photos: Path):
    config = write_config(tmp_path / "c.toml", steps=2)
    run(config, photos, tmp_path / "out")
    before = (tmp_path / "out/weights.safetensors").read_bytes()
    log = run(config, photos, tmp_path / "out")
    assert (tmp_path / "out/weights.safetensors").read_bytes() == before
    assert "loss" not in log[-1]


def test_a_run_starts_from_the_weights_that_fit(tmp_path: Path, photos: Path):
    run(write_config(tmp_path / "x2.toml", steps=2), photos, tmp_path / "x2")
    start = load_file(tmp_path / "x2/weights.safetensors")
    config = tomllib.loads(write_config(tmp_path / "x3.toml", upscale=3).read_text())
    begun = train.Run(config, tmp_path / "x3")
    assert begun.start_from(tmp_path / "x2/weights.safetensors") == ["upsample.0.bias", "upsample.0.weight"]
    for trained in (begun.model, begun.average):
        state = trained.state_dict()
        assert all(torch.equal(state[key], start[key]) for key in start if not key.startswith("upsample"))
    save_file(packed(start), tmp_path / "packed.safetensors")  # as bundled files are
    rounded = train.Run(config, tmp_path / "x3 again")
    assert rounded.start_from(tmp_path / "packed.safetensors") == ["upsample.0.bias", "upsample.0.weight"]
    for key, value in rounded.model.state_dict().items():
        if not key.startswith("upsample"):
            torch.testing.assert_close(value, start[key], rtol=0, atol=1e-6 + float(start[key].abs().max()) / 127)
    begun.step = 1
    assert begun.start_from(tmp_path / "x2/weights.safetensors") == []
    log = run(tmp_path / "x3.toml", photos, tmp_path / "new", "--init", str(tmp_path / "x2/weights.safetensors"))
    assert log[0]["fresh"] == ["upsample.0.bias", "upsample.0.weight"]


def test_the_schedule_ends_by_steps_or_by_time():
    schedule = learning.Schedule({"steps": 100, "minutes": 1, "rate": 1.0, "warmup": 10})
    assert schedule.progress(50, 0) == 0.5
    assert schedule.progress(50, 45) == 0.75
    assert schedule.progress(500, 0) == schedule.progress(0, 500) == 1
    straight = learning.Schedule({"steps": 100, "rate": 1.0, "warmup": 10, "decay_from": 0.6})
    assert [round(straight.learning_rate(step, step / 100), 3) for step in (9, 60, 80, 100)] == [1, 1, 0.505, 0.01]
    rates = [schedule.learning_rate(step, step / 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == max(rates)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[100] == pytest.approx(0.01)


def test_a_crop_that_is_no_whole_window_is_refused(tmp_path: Path, photos: Path):
    config = tomllib.loads(write_config(tmp_path / "c.toml").read_text())
    config["data"]["size"] = 20
    with pytest.raises(ValueError, match=r"\[data\] size = 20: must be a multiple of the window, 8"):
        train.pictures(config, photos, train.Run(config, tmp_path / "out").model)


@pytest.mark.parametrize("norm", normalisation.NORMS)
def test_other_normalisations_are_what_they_are_called(norm: str):
    """By the mean and deviation that the maps have after the norm, and by what a block then adds."""
    model = models.build("unet", {"dims": [16, 32], "depths": [1, 1], "num_heads": 2, "squeeze_factor": 2})
    normalisation.use(model, norm)
    block, x = model.encoder[0][0], 1 + 5 * torch.randn(2, 16, 8, 8)
    field = normalisation.UnscaledField(x) if norm != "i-ln" else WholeField(x)
    normed = block.norm1(x, field.moments(1e-4))
    assert torch.allclose(normed.mean(), torch.tensor(0.0), atol=1e-4) == (norm != "none")
    of_pixels, of_all = (normed.std(axes, correction=0) for axes in ((1,), (1, 2, 3)))
    assert torch.allclose(of_pixels, torch.tensor(1.0), atol=1e-3) == (norm == "layernorm")
    assert torch.allclose(of_all, torch.tensor(1.0), atol=1e-3) == (norm != "none")
    assert torch.equal(normed, x) == (norm == "none")
    with torch.no_grad():
        added = [(block(type(field)(each)).tensor - each).abs().mean().item() for each in (x, 100 * x)]
    grows = added[1] / added[0]  # what a block adds, where its input is 100 times as large
    assert (30 < grows < 300) if norm in ("i-ln", "none") else grows == pytest.approx(1, rel=0.1)


def test_a_run_with_another_normalisation_tells_features_and_is_no_model_of_irestore(tmp_path: Path, photos: Path):
    config = write_config(tmp_path / "c.toml", steps=2)
    log = run(config, photos, tmp_path / "out", "--norm", "layernorm")
    assert log[0]["norm"] == "layernorm"
    assert {len(log[-1][kind]) for kind in ("magnitude", "largest", "entropy")} == {2}  # blocks
    assert log[-1]["magnitude"] < log[-1]["largest"]
    with pytest.raises(WeightsError, match="heart with layernorm"):
        weights.load(weights.from_file(tmp_path / "out/weights.safetensors"))


# --- export


@pytest.mark.parametrize(
    ("precision", "moved"), [("fp32", 0), ("fp16", 1e-3), ("int8", 1 / 127)]
)  # of the largest in a row
def test_the_export_is_what_the_manifest_says_and_irestore_loads(
    tmp_path: Path, photos: Path, capsys, precision: str, moved: float
):
    config = write_config(tmp_path / "c.toml", task="denoise", upscale=1, steps=2, more=NOISE)
    run(config, photos, tmp_path / "out")
    capsys.readouterr()
    target = tmp_path / "tiny.safetensors"
    export([str(tmp_path / "out"), "--out", str(target), "--precision", precision, "--card", str(tmp_path / "card.md")])
    (tmp_path / "weights.toml").write_text(capsys.readouterr().out.replace("bundled = true\n", ""))
    (entry,) = read(tmp_path / "weights.toml")
    assert (entry.name, entry.task, entry.scale, entry.licence) == ("tiny", "denoise", 1, "CC0-1.0")
    assert entry.size_bytes == target.stat().st_size
    own = weights.from_file(target)
    assert (own.architecture, own.config, own.task, own.scale) == ("heart", entry.config, "denoise", 1)
    for loaded in (weights.load(entry), weights.load(own)):
        state = loaded.state_dict()
        trained = load_file(tmp_path / "out/weights.safetensors")
        assert state.keys() == trained.keys()
        for key, tensor in trained.items():
            rows = tensor.flatten(1) if tensor.ndim > 1 else tensor.reshape(1, -1)
            error = (state[key] - tensor).reshape(rows.shape).abs().amax(1)
            assert (error <= moved * rows.abs().amax(1) + 1e-6 * bool(moved)).all()
    card = (tmp_path / "card.md").read_text()
    for part in ("# tiny", "CC0-1.0", "Three photographs", entry.sha256, "name noise", "2 steps", "PSNR on RGB"):
        assert str(part) in card


def test_a_queue_trains_in_order_exports_and_goes_on_where_it_stopped(tmp_path: Path, photos: Path, capsys):
    first = write_config(tmp_path / "first.toml", steps=2)
    second = write_config(tmp_path / "second.toml", upscale=3, steps=2)
    second.write_text(second.read_text().replace("seed = 1", 'seed = 1\ninit = "first"').replace('"tiny"', '"other"'))
    command = [str(first), str(second), "--data", str(photos), "--runs", str(tmp_path / "runs"), "--", "--threads", "1"]
    queue.main(command)
    manifest = tmp_path / "runs/exported/weights.toml"
    text = manifest.read_text()
    assert [(entry.name, entry.scale) for entry in read(bare(manifest))] == [("tiny", 2), ("other", 3)]
    assert json.loads((tmp_path / "runs/second/log.jsonl").read_text().splitlines()[0])["init"] == "first"
    queue.main(command)  # both have ended: exported again, each in its own place
    assert manifest.read_text() == text
    (tmp_path / "third.toml").write_text(second.read_text().replace('"first"', '"nowhere"'))
    bundled = train.beginning({"init": "sr_x4"}, tmp_path / "no runs")
    assert bundled is not None
    assert bundled.name == "compact-x4.safetensors"
    assert bundled.exists()
    with pytest.raises(ValueError, match=r"init = 'nowhere': there is no .*train that config first"):
        run(tmp_path / "third.toml", photos, tmp_path / "runs/third")


def bare(manifest: Path) -> Path:
    """The manifest with its models beside it, not bundled."""
    copy = manifest.with_name("own.toml")
    copy.write_text(manifest.read_text().replace("bundled = true\n", ""))
    return copy


def test_a_run_that_does_not_say_what_it_is_is_not_exported(tmp_path: Path):
    (tmp_path / "run").mkdir()
    save_file({"a": torch.zeros(1)}, tmp_path / "run/weights.safetensors")
    (tmp_path / "run/config.toml").write_text('[release]\nname = "x"\n')
    with pytest.raises(ValueError, match="lacks architecture, config, task, scale"):
        export([str(tmp_path / "run"), "--out", str(tmp_path / "x.safetensors")])


def test_a_curve_is_drawn_from_logs(tmp_path: Path):
    log = tmp_path / "tiny<1>.jsonl"
    lines = [{"step": 0}, {"seconds": 0, "psnr": 20.0, "progress": 0.5}, {"seconds": 7200, "psnr": 24.0, "progress": 1}]
    log.write_text("\n".join(map(json.dumps, lines)))
    plot.main([str(log), "--out", str(tmp_path / "curve.svg")])
    drawing = ElementTree.parse(tmp_path / "curve.svg").getroot()
    assert {"tiny<1>", "20", "24", "2"} <= {each.text for each in drawing}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_config_is_whole(path: Path):
    config = tomllib.loads(path.read_text())
    model = models.build(config["model"]["architecture"], config["model"]["config"])
    assert 300_000 <= sum(parameter.numel() for parameter in model.parameters()) <= 4_000_000
    assert (model.scale > 1) == (config["task"] == "sr")
    assert ("degradation" in config) == (config["task"] != "sr" or "photo" in path.stem)
    if "degradation" in config:
        build(config["degradation"])
    assert config["task"] in TASKS
    for key in ("size", "valid_size"):
        assert config["data"][key] % model.window == 0
    assert learning.Schedule(config["train"]).steps > 0
    if "release" in config:
        assert config["release"].keys() - {"precision", "sources"} == {
            "name",
            "description",
            "licence",
            "training_data",
        }
    else:
        assert path.stem == "norm" or any(f'init = "{path.stem}"' in other.read_text() for other in CONFIGS)


def test_there_is_a_config_for_every_task_and_scale():
    kinds = {path.stem for path in CONFIGS}
    assert {"sr_x2", "sr_x3", "sr_x4", *(set(TASKS) - {"sr"})} <= kinds
