"""Where files are, and how they are read safely. Imports nothing heavy."""

import hashlib
import os
import sys
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Literal

FOLDERS = {  # platform: (variable, folder below the home folder) of the cache and of the config
    "linux": (("XDG_CACHE_HOME", ".cache"), ("XDG_CONFIG_HOME", ".config")),
    "darwin": (("", "Library/Caches"), ("", "Library/Application Support")),
    "win32": (("LOCALAPPDATA", "AppData/Local"), ("APPDATA", "AppData/Roaming")),
}
MAX_TEXT_BYTES = 4 << 20


def own_folder(kind: Literal["cache", "config"]) -> Path:
    """Where this platform keeps irestore's notes (cache) or the user's `weights.toml` (config). May not exist."""
    variable, below_home = FOLDERS.get(sys.platform, FOLDERS["linux"])[kind == "config"]
    base = Path(os.environ.get(variable, ""))
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 Path.home raises where there is none, as in some containers
    return (base if base.is_absolute() else home / below_home) / "irestore"


def small_text(path: Path) -> str:
    """The text of a manifest or a config, of which a few megabytes are read at most. Raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(MAX_TEXT_BYTES + 1)
    if len(data) > MAX_TEXT_BYTES:
        raise ValueError(f"it has more than {MAX_TEXT_BYTES:,} bytes")
    return data.decode("utf-8")


def sha256(path: Path) -> str:
    """The file's sha256 in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_safe(file: str) -> bool:
    """Whether a path stays inside the folder that it is joined to, on every platform, and is a safetensors file."""
    path = PurePosixPath(file)
    return (
        file.endswith(".safetensors")
        and "\\" not in file
        and not path.is_absolute()
        and not PureWindowsPath(file).drive
        and ".." not in path.parts
        and file.isprintable()
    )
