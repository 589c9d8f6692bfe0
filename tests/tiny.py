"""Small pictures, a tiny network with random weights, and the installed command run on them as users run it."""

import json
import os
import signal
import subprocess
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IRESTORE = Path(sysconfig.get_path("scripts")) / "irestore"
CONFIG: dict[str, Any] = {
    "upscale": 2,
    "in_chans": 3,
    "embed_dim": 8,
    "depths": [2],
    "num_heads": [2],
    "window_size": 8,
    "compress_ratio": 2,
    "squeeze_factor": 4,
    "num_feat": 8,
    "rank": 2,
    "rib_hidden_dim": 4,
    "rib_n_freqs": 2,
}


def write_weights(path: Path, task: str = "sr", **config: object) -> Path:
    """A safetensors file of a tiny HEART that says what it is; x2 unless `upscale` is given."""
    import torch
    from safetensors.torch import save_file

    from irestore import models

    chosen = CONFIG | config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = models.build("heart", chosen)
    said = {"architecture": "heart", "config": chosen, "task": task}
    save_file(model.state_dict(), path, metadata={"irestore": json.dumps(said)})
    return path


def write_picture(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
    """A picture of noise, (height, width), another one for every name."""
    channels = len(mode) if mode != "L" else 1
    noise = np.random.default_rng(list(os.fsencode(path.name))).integers(0, 256, (*size, channels), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise[..., 0] if mode == "L" else noise, mode=None).save(path)
    return path


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a picture that can be decoded to its end."""
    with Image.open(path) as image:
        image.load()
        return image.height, image.width


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: bytes
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """What `--json` printed."""
        return [json.loads(line) for line in self.out.splitlines()]


def environment(home: Path, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """A user without settings, caches or a connection."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("IRESTORE_", "HF_", "RANK", "WORLD"))
    }
    own = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "XDG_CONFIG_HOME": str(home / "config")}
    hub = {"HF_HOME": str(home / "hf"), "HF_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "*"}
    return kept | own | hub | {"OMP_NUM_THREADS": "2"} | dict(more or {})


def irestore(folder: Path, *arguments: object, more: Mapping[str, str] | None = None, **options: Any) -> Ran:
    """The installed command, run in a folder to its end."""
    return finish(start(folder, [IRESTORE, *arguments], more=more), **options)


def start(folder: Path, command: Sequence[object], more: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """A command begun in a folder."""
    return subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=environment(folder.parent / f"{folder.name}.home", more),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def finish(process: "subprocess.Popen[bytes]", stdin: bytes = b"") -> Ran:
    """Its end."""
    out, err = process.communicate(stdin, timeout=100)
    return Ran(process.returncode, out, err.decode(errors="surrogateescape"))


def interrupt(process: "subprocess.Popen[bytes]", number: signal.Signals, when: Callable[[], bool]) -> Ran:
    """Send a signal as soon as `when` is true; the end of the process."""
    deadline = time.monotonic() + 60
    while not when() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    return finish(process)


def results(folder: Path) -> dict[str, bytes]:
    """The content of every file below a folder by its path, unfinished ones included."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with suppress(FileNotFoundError):  # renamed or removed meanwhile by a run that goes on
            if path.is_file():
                found[str(path.relative_to(folder))] = path.read_bytes()
    return found
