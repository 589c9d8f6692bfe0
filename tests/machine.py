"""A user's machine: a home folder of its own, a Hub of ours, and `irestore` run as a process of its own."""

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hub import COMMIT

ROOT = Path(__file__).resolve().parents[1]
KEEP = ("PATH", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "OMP_NUM_THREADS", "LANG")


@dataclass
class Outcome:
    code: int
    out: str
    err: str
    seconds: float


@dataclass
class Machine:
    home: Path
    endpoint: str = "http://127.0.0.1:9"  # nobody listens there
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """What the processes see: nothing of the tester's own caches, tokens and proxies."""
        home = str(self.home)
        own = {"HOME": home, "USERPROFILE": home, "LOCALAPPDATA": home + "/Local", "APPDATA": home + "/Roaming"}
        hub = {"HF_ENDPOINT": self.endpoint, "HF_HOME": str(self.hf), "NO_PROXY": "127.0.0.1,localhost"}
        python = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
        return {name: os.environ[name] for name in KEEP if name in os.environ} | own | hub | python | self.more

    @property
    def hf(self) -> Path:
        return self.home / "hf"

    def irestore(self, *arguments: object) -> Outcome:
        """`irestore` with these arguments."""
        return self.finish(self.start("-m", "irestore", *arguments))

    def python(self, code: str, *arguments: object) -> Outcome:
        """A program that uses the package."""
        return self.finish(self.start("-c", code, *arguments))

    def start(self, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(command, env=self.environment, cwd=self.home, text=True, **pipes, **options)
        process.began = time.monotonic()  # type: ignore[attr-defined]
        return process

    def finish(self, process: "subprocess.Popen[str]") -> Outcome:
        out, err = process.communicate(timeout=120)
        return Outcome(process.returncode, out, err, time.monotonic() - process.began)  # type: ignore[attr-defined]

    def files(self, folder: str = "hf") -> list[Path]:
        """What lies in a folder of this machine, but locks and the client's own notes."""
        found = [path for path in sorted((self.home / folder).rglob("*")) if path.is_file() or path.is_symlink()]
        return [
            path
            for path in found
            if path.suffix != ".lock" and path.name != "CACHEDIR.TAG" and ".no_exist" not in path.parts
        ]


def manifest(path: Path, content: bytes, **changes: object) -> Path:
    """Writes a manifest with one model, "toy", whose file has that content; a change of None leaves a key out."""
    model: dict[str, object] = {
        "name": "toy",
        "task": "sr",
        "scale": 4,
        "licence": "CC0-1.0",
        "repo": "someone/toys",
        "revision": COMMIT,
        "file": "models/toy.safetensors",
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "architecture": "heart",
        "config": {"upscale": 4},
    }
    model |= changes
    lines = [f"{key} = {toml(value)}" for key, value in model.items() if value is not None]
    path.write_text("[[model]]\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def toml(value: object) -> str:
    """A value as TOML writes it."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(toml, value)) + "]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
