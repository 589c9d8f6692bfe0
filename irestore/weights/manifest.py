"""The manifest: what models there are. `weights.toml` -> checked entries. Reads no weights and touches no network."""

import difflib
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any

import irestore
from irestore.errors import ManifestError, UnknownModelError
from irestore.tasks import TASKS, task_name
from irestore.weights.paths import is_safe, own_folder, small_text

PACKAGE = Path(irestore.__file__).parent
IMPORTED = "models"  # folder of the user's config folder, with a manifest for each model that was imported
PINNED = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME = re.compile(r"(?!(best|fast)$)[a-z0-9][a-z0-9._-]*")
NAME_RULE = "lower-case letters, digits, dots, dashes, underscores, and not best or fast"
REPO = re.compile(r"\w[\w.-]*/\w[\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One model: where its file is, what the file must be, and how the network is built that reads it."""

    name: str
    description: str = ""
    sources: str = ""  # "clean": not made for JPEG artefacts, noise or blur; "lossy": made for them
    task: str = ""  # one of TASKS; "" like the next ones only for a file that says it itself (see `own.describe`)
    scale: int = 0  # 1 where the size stays
    repo: str | None = None  # owner/name on the Hub
    revision: str | None = None  # commit, 40 hex digits
    file: str  # path inside the repository, inside irestore/bundled, or inside `folder`
    sha256: str | None = None  # None only for files that no manifest names
    size_bytes: int | None = None
    parameters: int | None = None
    licence: str = ""
    source: str = ""
    training_data: str = ""
    quality: str = ""  # what was measured, in words
    cpu_seconds: float | None = None  # for a megapixel of input, on one core of a Xeon; to compare models by
    citation: str = ""
    architecture: str = ""
    dialect: str | None = None  # spelling of its tensors, see models.rename
    config: Mapping[str, Any] = field(default_factory=dict)
    bundled: bool = False
    folder: Path | None = None  # of a local file

    @property
    def about_bytes(self) -> int | None:
        """Size of the file: exact where it is known, else four bytes a parameter, else None."""
        return self.size_bytes or (4 * self.parameters if self.parameters else None)

    @property
    def origin(self) -> str:
        """Where the file comes from, for people."""
        if self.repo:
            return f"{self.repo}@{(self.revision or '')[:12]}/{self.file}"
        return "with irestore" if self.bundled else str((self.folder or Path()) / self.file)


# What each key of a `[[model]]` table must look like.
TYPES: dict[str, type] = {
    "scale": int, "size_bytes": int, "parameters": int, "cpu_seconds": float, "bundled": bool,
    "config": dict,
}  # fmt: skip
PATTERNS = {
    "name": (NAME, NAME_RULE),
    "repo": (REPO, "owner/name"),
    "revision": (PINNED, "the 40 hex digits of a commit, not a branch or a tag, whose content can change"),
    "sources": (re.compile("clean|lossy"), "clean or lossy"),
    "sha256": (SHA256, "the 64 hex digits that sha256sum prints"),
    "task": (re.compile("|".join(TASKS)), "one of " + ", ".join(TASKS)),
}
KEYS = [f.name for f in fields(Entry) if f.name != "folder"]
CHOICES: dict[str, Callable[[Sequence[Entry]], Entry]] = {  # names for "whichever it is"
    "best": lambda fitting: fitting[0],
    # ours before the user's own, as for the best, and those for any picture before those for lossy ones
    "fast": lambda fitting: min(
        fitting, key=lambda e: (e.folder is not None, e.sources == "lossy", e.about_bytes or sys.maxsize)
    ),
}
REQUIRED = ("name", "task", "scale", "architecture", "config", "file", "sha256", "licence")


def entries(manifests: Iterable[Path | str] = ()) -> tuple[Entry, ...]:
    """Every known model, in order of preference: ours, those of the user's config folder, then `manifests`.

    An imported one whose name a manifest has too is left out: it is no reason to refuse all of them.
    Raises ManifestError that names the file, the model and the key.
    """
    users = own_folder("config") / "weights.toml"
    shipped = builtin()
    ours = [(shipped, entry) for entry in _read_once(shipped)]
    ours += [(users, entry) for entry in (read(users) if users.is_file() else ())]
    given = [(path, entry) for path in map(Path, manifests) for entry in read(path)]
    names: set[str] = set()
    for path, entry in (*ours, *given):
        if entry.name in names:
            raise ManifestError(f"{path}: model {entry.name!r} exists already; give yours another name")
        names.add(entry.name)
    added = [entry for path in sorted((own_folder("config") / IMPORTED).glob("*.toml")) for entry in read(path)]
    imported = {entry.name: entry for entry in added if entry.name not in names}
    return (*(entry for _, entry in ours), *imported.values(), *(entry for _, entry in given))


def candidates(
    task: str, scale: int, name: str | None = None, manifests: Iterable[Path | str] = ()
) -> tuple[Entry, ...]:
    """The models for a task and a scale, best first; exactly one where a name is given, or "best" or "fast".

    Raises UnknownModelError.
    """
    known = entries(manifests)
    fitting = tuple(entry for entry in known if (entry.task, entry.scale) == (task, scale))
    if name is None or name in CHOICES:
        if not fitting:
            wanted = task_name(task, scale)
            raise UnknownModelError(f"there is no model for {wanted}; `irestore models` lists what there is")
        return fitting if name is None else (CHOICES[name](fitting),)
    entry = find(name, known)
    if entry not in fitting:
        does = task_name(entry.task, entry.scale)
        others = fitting if entry.task == task else tuple(e for e in known if e.task == task)
        asked = task_name(task, scale) if entry.task == task else task
        told = ", ".join(e.name for e in others) or "none"
        raise UnknownModelError(f"model {name!r} is for {does}, not for {asked}; for that there is: {told}")
    return (entry,)


def bundled_first(wanted: Iterable[Entry]) -> tuple[Entry, ...]:
    """Those models in the order for a CPU, where large ones take minutes for a megapixel."""
    return tuple(sorted(wanted, key=lambda entry: not entry.bundled))


def find(name: str, known: Iterable[Entry]) -> Entry:
    """The entry of that name; raises UnknownModelError with the nearest names."""
    by_name = {entry.name: entry for entry in known}
    if name in by_name:
        return by_name[name]
    near = difflib.get_close_matches(name, by_name, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(near)}?" if near else "`irestore models` lists what there is"
    raise UnknownModelError(f"there is no model {name!r}; {hint}")


def builtin() -> Path:
    """Our own manifest: beside the modules in an installed package, one folder up in a source tree."""
    installed = PACKAGE / "weights.toml"
    return installed if installed.is_file() else PACKAGE.parent / "weights.toml"


@cache
def _read_once(path: Path) -> tuple[Entry, ...]:
    """As `read`, of the manifest that is shipped, which is asked for again and again."""
    return read(path)


def read(path: Path) -> tuple[Entry, ...]:
    """The entries of one manifest file, each checked. Raises ManifestError."""
    try:
        return parsed(small_text(path), path)
    except OSError as error:
        raise ManifestError(f"{path}: cannot read the manifest: {error.strerror}") from error
    except ValueError as error:
        raise ManifestError(f"{path}: is not valid TOML: {error}") from error


def parsed(text: str, path: Path) -> tuple[Entry, ...]:
    """The entries of a manifest, each checked; `path` is where it is, or will be. Raises ManifestError."""
    try:
        table = tomllib.loads(text)
    except RecursionError as error:
        raise ManifestError(f"{path}: its values are nested too deeply") from error
    except ValueError as error:
        raise ManifestError(f"{path}: is not valid TOML: {error}") from error
    models = table.get("model", [])
    if set(table) - {"model"} or not isinstance(models, list) or not all(isinstance(m, dict) for m in models):
        raise ManifestError(f"{path}: a manifest holds [[model]] tables and nothing else")
    for model in models:
        if problem := _problem(model):
            raise ManifestError(f"{path}: model {model.get('name', '(without a name)')!r}: {problem}")
    return tuple(Entry(**m, folder=None if "repo" in m or m.get("bundled") else path.parent) for m in models)


def _problem(model: dict[str, Any]) -> str | None:
    """What is wrong with a `[[model]]` table, in words; None if nothing is."""
    for key in model:
        if key not in KEYS:
            return f"unknown key {key!r}; known: {', '.join(KEYS)}"
        if type(model[key]) is not TYPES.get(key, str):  # exactly: True is an int
            return f"{key} = {model[key]!r} must be of type {TYPES.get(key, str).__name__}"
        if isinstance(model[key], str) and not model[key].replace("\n", "").isprintable():
            return f"{key} = {model[key]!r} must not hold control characters"
        pattern, meaning = PATTERNS.get(key, (None, ""))
        if pattern and not pattern.fullmatch(model[key]):
            return f"{key} = {model[key]!r} must be {meaning}"
    for key in (*REQUIRED, *(["revision"] if "repo" in model else [])):
        if key not in model:
            return f"the key {key!r} is missing"
    if "repo" in model and model.get("bundled"):
        return "a model has a repo or is bundled, not both"
    if not is_safe(model["file"]):
        return f"file = {model['file']!r} must be a relative path to a .safetensors file, without '..'"
    if model["task"] != "sr" and model["scale"] != 1:
        return f"scale = {model['scale']} must be 1 for {model['task']}"
    if model["config"].get("upscale") != model["scale"]:
        return f"config.upscale = {model['config'].get('upscale')} must be there and equal scale = {model['scale']}"
    return None
