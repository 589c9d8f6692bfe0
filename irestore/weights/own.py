"""Entries of files that no manifest names: what a safetensors file's metadata says of itself, and options over that."""

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from irestore.errors import UsageError, WeightsError
from irestore.tasks import TASKS
from irestore.weights.manifest import CHOICES, REPO, Entry
from irestore.weights.paths import is_safe, small_text

HUB = "hf:"  # how a reference to a file on the Hub begins
METADATA = "irestore"  # the key of a safetensors file's metadata under which JSON says architecture, config, task, ...


def is_own(name: str, known: Iterable[Entry]) -> bool:
    """Whether the name is a file, or a reference to one on the Hub, rather than a model of a manifest."""
    if name in CHOICES or any(entry.name == name for entry in known):
        return False
    return name.startswith(HUB) or name.endswith(".safetensors") or Path(name).is_file()


def describe_own(name: str, *, architecture: str | None = None, config: Mapping[str, Any] | None = None) -> Entry:
    """The entry of what `is_own`. Raises as `from_file` and `from_hub`."""
    return (from_hub if name.startswith(HUB) else from_file)(name, architecture=architecture, config=config)


def from_file(path: Path | str, *, architecture: str | None = None, config: Mapping[str, Any] | None = None) -> Entry:
    """The entry of one's own safetensors file: what its metadata says, and what the options say over that.

    Raises UsageError where neither says the architecture, WeightsError where the file is no safetensors file.
    """
    path = Path(path)
    given = Entry(
        name=path.stem, file=path.name, folder=path.parent, architecture=architecture or "", config=config or {}
    )
    return describe(given, path)


def from_hub(reference: str, *, architecture: str | None = None, config: Mapping[str, Any] | None = None) -> Entry:
    """The entry of `hf:owner/repo/file.safetensors@revision`. What the options leave out, the file's metadata must say.

    Until the file is there (see `obtain`), its scale is 0 unless `config` has `upscale`. Raises UsageError.
    """
    place, _, revision = reference.removeprefix(HUB).partition("@")
    owner, _, rest = place.partition("/")
    repo, _, file = rest.partition("/")
    if not REPO.fullmatch(f"{owner}/{repo}") or not is_safe(file):
        raise UsageError(f"{reference!r}: write hf:OWNER/REPO/FILE.safetensors@REVISION")
    if not re.fullmatch(r"\w[\w.-]*", revision):
        raise UsageError(
            f"{reference!r}: add @ and the commit (40 hex digits), so that the file cannot change unnoticed"
        )
    scale = (config or {}).get("upscale")
    return Entry(
        name=Path(file).stem, file=file, repo=f"{owner}/{repo}", revision=revision,
        scale=scale if isinstance(scale, int) else 0, architecture=architecture or "", config=config or {},
    )  # fmt: skip


def describe(entry: Entry, path: Path) -> Entry:
    """The entry, with what it leaves open filled in from the file's own metadata. Raises UsageError, WeightsError."""
    if entry.architecture and entry.scale and entry.task:
        return entry
    said = metadata(path)
    architecture, config = entry.architecture or said.get("architecture"), {**said.get("config", {}), **entry.config}
    if not architecture:
        raise UsageError(
            f"{path}: neither the file nor an option says which network it is; give --architecture and --config, "
            "or convert the file once with `irestore models import`"
        )
    scale = config.get("upscale")
    if not isinstance(scale, int):
        raise UsageError(f"{path}: the config has no upscale; give --config upscale=N")
    task = entry.task or said.get("task") or ("sr" if scale > 1 else "")
    dialect = entry.dialect or said.get("dialect")
    return replace(entry, architecture=architecture, config=config, dialect=dialect, task=task, scale=scale)


def metadata(path: Path) -> dict[str, Any]:
    """What `models import` and `training` wrote about a file into it; empty if nothing. Raises WeightsError."""
    from safetensors import safe_open

    with readable(path), safe_open(path, framework="numpy") as file:
        text = (file.metadata() or {}).get(METADATA, "{}")
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path}: its metadata {METADATA!r} is not JSON: {error}") from error
    types = {"architecture": str, "config": dict, "dialect": (str, type(None)), "task": str}
    if not isinstance(said, dict) or any(key in said and not isinstance(said[key], types[key]) for key in types):  # type: ignore[arg-type]
        raise WeightsError(f"{path}: its metadata {METADATA!r} does not hold architecture, config, dialect and task")
    if said.get("task", "sr") not in TASKS:
        raise WeightsError(f"{path}: its metadata names the task {said['task']!r}; must be one of {', '.join(TASKS)}")
    return said


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raises WeightsError, in words that help, where the file cannot be read inside, or is not a safetensors file."""
    from safetensors import SafetensorError

    try:
        if path.exists() and not path.is_file():
            raise WeightsError(f"{path}: is a folder, a pipe or a device; give a file")
        yield
    except SafetensorError as error:
        with path.open("rb") as file:
            start = file.read(64).lstrip()
        text = f"is not a safetensors file ({error}); get it again"
        if start.startswith((b"PK", b"\x80")):
            text = (
                "is a pickle, which could run code, and not loaded; convert it, named .pth, by `irestore models import`"
            )
        elif start.startswith(b"<"):
            text = "is a web page, not a safetensors file; download the file itself"
        raise WeightsError(f"{path}: {text}") from error
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: is not there") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot read it: {error.strerror or error}") from error


def parse_config(items: Iterable[str]) -> dict[str, Any]:
    """The config that `key=value` items and `.toml` or `.json` files give, later ones over earlier. Raises UsageError.

    Values are JSON (`8`, `0.01`, `true`, `[6, 6]`), Python's True and False, or words.
    """
    config: dict[str, Any] = {}
    for item in items:
        key, equals, value = item.partition("=")
        try:
            if equals:
                config[key.strip()] = _value(value)
            elif isinstance(table := (tomllib if key.endswith(".toml") else json).loads(small_text(Path(item))), dict):
                config |= table
            else:
                raise ValueError("it holds no table of keys and values")
        except RecursionError as error:
            raise UsageError(f"--config {key}: its values are nested too deeply") from error
        except (OSError, ValueError) as error:
            raise UsageError(
                f"--config {item}: neither key=value nor a readable .toml or .json file: {error}"
            ) from error
    return config


def _value(text: str) -> Any:
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text
