"""Where this platform keeps a program's files."""

import os
import sys
from pathlib import Path


def cache_folder() -> Path:
    """irestore's own cache: stamps of verified files and files set aside. May not exist yet."""
    return _folder(
        {"win32": ("LOCALAPPDATA", "AppData/Local"), "darwin": ("", "Library/Caches")}, ("XDG_CACHE_HOME", ".cache")
    )


def config_folder() -> Path:
    """Where the user's own `weights.toml` lies. May not exist."""
    apple = ("", "Library/Application Support")
    return _folder({"win32": ("APPDATA", "AppData/Roaming"), "darwin": apple}, ("XDG_CONFIG_HOME", ".config"))


def _folder(platforms: dict[str, tuple[str, str]], otherwise: tuple[str, str]) -> Path:
    variable, below_home = platforms.get(sys.platform, otherwise)
    base = os.environ.get(variable, "")
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / below_home) / "irestore"
