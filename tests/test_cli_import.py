"""`irestore models import`: a checkpoint becomes a model with a name, or a file, and nothing else changes."""

import json
from pathlib import Path

import pytest
import torch
from machine import manifest
from networks import official
from PIL import Image
from safetensors.torch import load_file

from irestore import models, weights
from irestore.cli import main
from irestore.models.deduce import PUBLISHED

pytestmark = pytest.mark.usefixtures("home")
CONTENT = b"weights" * 1000
SMALL = {"upscale": 2, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 8, "squeeze_factor": 4}


def test_an_imported_model_has_a_name_until_it_is_removed(tmp_path, capsys):
    state = models.build("heart", SMALL | {"conv_scale": 0.5}).state_dict()
    torch.save({"params_ema": state}, tmp_path / "My Net.pth")
    command = ["models", "import", str(tmp_path / "My Net.pth")]
    assert main(command) == 2
    told = f"irestore models import '{tmp_path}/My Net.pth' --config conv_scale=0.01 --config window_size=32"
    assert told in capsys.readouterr().err
    command += ["--config", "conv_scale=0.5", "--config", "window_size=8"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert load_file(out.strip()).keys() == state.keys()
    assert err.startswith("heart, sr x2: {")
    assert "next: irestore sr -m my_net photo.png" in err
    assert weights.load(weights.candidates("sr", 2, "my_net")[0]).config.conv_scale == 0.5
    assert main(["models"]) == 0
    assert "my_net" in capsys.readouterr().out
    assert weights.candidates("sr", 2, "fast")[0].name == "compact-x2"  # though it is larger
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    assert main(["sr", "-q", "-m", "my_net", str(tmp_path / "a.png")]) == 0
    assert main(command) == 2
    assert "there is such a model already; --overwrite replaces it" in capsys.readouterr().err
    for more, code in ((["--overwrite"], 0), (["--name", "compact-x2", "--overwrite"], 2), (["--name", "best"], 2)):
        assert main([*command, *more]) == code
    assert main(["models", "rm", "my_net"]) == 0
    assert [path.name for path in (tmp_path / "irestore/models").iterdir()] == []


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "denoise"], "x2.pth: enlarges pictures 2 times, and denoise keeps their size; give --task sr"),
        (["--config", "drop_rate=NaN"], "--config: Out of range float values are not JSON compliant"),
        (["--config", 'drop_rate={"a": 1}'], "--config: a manifest cannot hold its values"),
        (["--config", 'drop_rate="\x7f"'], "--config: a manifest cannot hold its values"),
        (["--config", "{dated}"], "--config: Object of type date is not JSON serializable"),
    ],
)
def test_what_no_manifest_can_say_is_not_imported(tmp_path, capsys, more, message):
    """Once written, it would stop every later command."""
    torch.save(models.build("heart", SMALL | {"conv_scale": 0.5}).state_dict(), tmp_path / "x2.pth")
    (tmp_path / "dated.toml").write_text("drop_rate = 2026-01-02")
    known = ["--config", "conv_scale=0.5", "--config", "window_size=8"]
    more = [str(tmp_path / "dated.toml") if word == "{dated}" else word for word in more]
    assert main(["models", "import", str(tmp_path / "x2.pth"), *known, *more]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "irestore").exists()
    assert main(["models"]) == 0


def test_verify_never_advises_to_delete_the_only_copy(tmp_path, capsys):
    torch.save(models.build("heart", SMALL | {"conv_scale": 0.5}).state_dict(), tmp_path / "toy.pth")
    command = ["models", "import", str(tmp_path / "toy.pth"), "--config", "conv_scale=0.5", "--config", "window_size=8"]
    assert main(command) == 0
    Path(capsys.readouterr().out.strip()).write_bytes(CONTENT)
    assert main(["models", "verify", "toy"]) == 3
    assert "import it again: irestore models import FILE --name toy --overwrite" in capsys.readouterr().err
    path = manifest(tmp_path / "m.toml", CONTENT, repo=None, revision=None, name="own", file="own.safetensors")
    assert main(["models", "verify", "own", "--manifest", str(path)]) == 3
    assert "put the file back or correct the manifest" in capsys.readouterr().err


def test_an_imported_model_never_stands_in_the_way_of_a_manifest(tmp_path, capsys):
    torch.save(models.build("heart", SMALL | {"conv_scale": 0.5}).state_dict(), tmp_path / "toy.pth")
    command = ["models", "import", str(tmp_path / "toy.pth"), "--config", "conv_scale=0.5", "--config", "window_size=8"]
    given = ["--manifest", str(manifest(tmp_path / "m.toml", CONTENT))]
    assert main([*command, *given]) == 2
    assert "toy: there is such a model already; --name gives this one another name" in capsys.readouterr().err
    assert main(command) == 0  # and the manifest comes later
    capsys.readouterr()
    assert main(["models", "--json", *given]) == 0
    (toy,) = (model for model in json.loads(capsys.readouterr().out) if model["name"] == "toy")
    assert toy["repo"] == "someone/toys"
    assert main(["models", "rm", "toy"]) == 0
    assert list((tmp_path / "irestore/models").iterdir()) == []


def test_a_published_checkpoint_is_imported_without_a_question(tmp_path, capsys):
    """The authors' HAT-mini i-LN, with the names and shapes of their file."""
    known = next(config for name, *_, config in PUBLISHED if name == "HAT-mini i-LN") | {"upscale": 4}
    source = tmp_path / "SRx4_HAT-mini_iLN.pth"
    torch.save({"params_ema": official(models.build("hat-iln", known).state_dict())}, source)
    assert main(["models", "import", str(source)]) == 0
    told = "SRx4_HAT-mini_iLN.pth: HAT-mini i-LN by its shapes, hence conv_scale = 0.01, img_size = 64, stdnorm = true"
    assert told in capsys.readouterr().err
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    assert main(["sr", "-q", "-m", "srx4_hat-mini_iln", str(tmp_path / "a.png")]) == 0
    assert main(["models"]) == 0
    assert "HAT-mini i-LN by its shapes" in capsys.readouterr().out
    command = ["models", "import", str(source), "--name", "mine", "--config", "conv_scale=0.5"]
    assert main(command) == 0
    assert "by its shapes, hence img_size = 64, stdnorm = true" in capsys.readouterr().err
    assert weights.load(weights.candidates("sr", 4, "mine")[0]).config.conv_scale == 0.5


def test_import_can_write_a_file_that_needs_no_options(tmp_path, capsys):
    torch.save(models.build("heart", SMALL | {"upscale": 1}).state_dict(), tmp_path / "net.pth")
    target = tmp_path / "out/net.safetensors"
    command = ["models", "import", str(tmp_path / "net.pth"), "-o", str(target), "--config", "global_skip=True"]
    command += ["--config", "conv_scale=0.5", "--config", "window_size=8"]
    assert main(command) == 2
    assert "--task denoise" in capsys.readouterr().err
    assert main([*command, "--task", "denoise"]) == 0
    assert weights.load(weights.from_file(target)).config.conv_scale == 0.5
    assert main([*command, "--task", "denoise"]) == 2
    assert "exists already" in capsys.readouterr().err
    same = ["models", "import", str(target), "-o", str(target), "--overwrite"]
    assert main(same) == 2  # never over its own input
    assert main([*command, "-o", str(tmp_path / "net.bin")]) == 2
    Image.new("RGB", (9, 8)).save(tmp_path / "a.png")
    assert main(["denoise", "-q", "-m", str(target), str(tmp_path / "a.png")]) == 0
