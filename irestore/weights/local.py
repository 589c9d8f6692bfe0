"""Entry -> verified local file: bundled or local, the model folder, the Hub cache, a download."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from irestore.errors import DownloadError, UnreachableError, UsageError, WeightsError
from irestore.weights import hub
from irestore.weights.manifest import IMPORTED, PACKAGE, Entry
from irestore.weights.own import describe
from irestore.weights.paths import own_folder, sha256


class Found(NamedTuple):
    """What `obtain` settled on: the model, its verified file, and what the user should be told, if anything."""

    entry: Entry
    path: Path
    warning: str | None


def obtain(wanted: Sequence[Entry], *, offline: bool = False, model_dir: Path | str | None = None) -> Found:
    """The first of `wanted` (see `candidates`), or the first bundled one, with a warning, if there is no connection.

    A model asked for by name is the only one wanted, so nothing replaces it. What an entry of `from_hub` leaves open is
    filled in from its file. Raises DownloadError, WeightsError or, where the file says nothing either, UsageError.
    """
    first, *others = wanted
    try:
        entry = hub.pin(first, offline=offline)
        path = locate(entry, offline=offline, model_dir=model_dir)
        return Found(describe(entry, path), path, None)
    except UnreachableError as error:
        spare = next((entry for entry in others if entry.bundled), None)
        if spare is None:
            raise
        warning = f"{error}. Using the bundled model {spare.name} instead, which is smaller and restores less"
        return Found(spare, locate(spare, offline=True, model_dir=model_dir), warning)


def locate(entry: Entry, *, offline: bool = False, model_dir: Path | str | None = None) -> Path:
    """The entry's file on this machine, its sha256 verified; downloaded if it is missing and `offline` is not set.

    `model_dir` (or IRESTORE_MODEL_DIR) is a flat folder of files, for machines without a connection. For a pinned file
    that is cached, no request is made; a wrong one is set aside and fetched again. Raises DownloadError if the file
    cannot be had, WeightsError if it is wrong.
    """
    offline = offline or hub.is_offline()
    path = present(entry, model_dir) or _fetched(entry, offline)
    if intact(path, entry):
        return path
    fate = _rejected(entry, path)
    if offline:
        raise WeightsError(f"{fate}; offline, so it cannot be fetched again")
    path = _fetched(entry, offline, before=f"{fate}; ")
    if intact(path, entry):
        return path
    raise WeightsError(
        f"{_rejected(entry, path, ', twice')}; try again later or without a proxy or mirror (HF_ENDPOINT)"
    )


def _rejected(entry: Entry, path: Path, times: str = "") -> str:
    """Take a wrong file out of the Hub cache; says so, and where it is kept. Raises WeightsError for one elsewhere."""
    wrong = "does not match the sha256 in the manifest"
    if path != hub.cached(entry):
        raise WeightsError(f"{entry.name}: {path} {wrong}; replace the file")
    wrong = f"{entry.name}: {entry.file} {wrong}{times}; not loaded"
    try:
        return f"{wrong}, {_set_aside(entry, path)}"
    except WeightsError as error:
        raise WeightsError(f"{wrong}; {error}") from error


def _fetched(entry: Entry, offline: bool, before: str = "") -> Path:
    """The file from the Hub. Raises as `locate`; `before` begins the message of a failed download."""
    if entry.repo is None:
        raise WeightsError(f"{entry.name}: {own_file(entry)} is not there; put the file back or correct the manifest")
    if offline:
        raise UnreachableError(
            f"{entry.name}: not on this machine, and offline; run `irestore models download {entry.name}` while "
            f"connected, or put {Path(entry.file).name} into a folder and give it as --model-dir"
        )
    try:
        return hub.download(entry)
    except DownloadError as error:
        raise type(error)(f"{before}{error}") from error


def present(entry: Entry, model_dir: Path | str | None = None) -> Path | None:
    """Where the entry's file lies on this machine, unverified; None if it is nowhere. Makes no request."""
    if entry.repo is None:
        path = own_file(entry)
        return path if path.is_file() else None
    if folder := model_dir or os.environ.get("IRESTORE_MODEL_DIR"):
        for name in (f"{entry.name}.safetensors", Path(entry.file).name):
            if Path(folder, name).is_file():
                return Path(folder, name)
    return hub.cached(entry)


def will_download(entry: Entry, *, offline: bool = False, model_dir: Path | str | None = None) -> bool:
    """Whether `obtain` would ask the Hub for the file. Makes no request."""
    return entry.repo is not None and not (offline or hub.is_offline()) and present(entry, model_dir) is None


def is_imported(entry: Entry) -> bool:
    """Whether `models import` brought it, and not a manifest of the user's own."""
    return entry.folder == own_folder("config") / IMPORTED


def remove(entry: Entry) -> int:
    """Bytes freed by deleting a model that was downloaded or imported. Raises UsageError for others, WeightsError."""
    if entry.repo is not None:
        return hub.remove(entry)
    if not is_imported(entry):
        raise UsageError(
            f"{entry.name}: is {entry.origin}, not in the Hub cache; rm deletes downloads and imports only"
        )
    path = own_file(entry)
    freed = path.stat().st_size if path.is_file() else 0
    for each in (path.with_suffix(".toml"), path):
        each.unlink(missing_ok=True)
    return freed


def own_file(entry: Entry) -> Path:
    """The path of a file that does not come from the Hub."""
    return (PACKAGE / "bundled" if entry.bundled else entry.folder or Path()) / entry.file


def state(entry: Entry, model_dir: Path | str | None = None) -> str:
    """What a user wants to know before a run: bundled, local, cached, to download, or missing. Makes no request."""
    path = present(entry, model_dir)
    if path is None:
        return "to download" if entry.repo else "missing"
    if entry.bundled:
        return "bundled"
    return "cached" if path == hub.cached(entry) else "local"


def intact(path: Path, entry: Entry) -> bool:
    """Whether the file has the sha256 of the manifest or, where no manifest has one, the one that the Hub announced.

    It is read each time (67 MB take less than 0.1 s): no time or size proves what is in it. Raises WeightsError.
    """
    expected = entry.sha256 or hub.announced(path)
    try:
        return expected is None or sha256(path) == expected
    except OSError as error:
        raise WeightsError(f"{entry.name}: cannot read {path}: {error.strerror}") from error


def _set_aside(entry: Entry, path: Path) -> str:
    """Take the rejected file out of the Hub cache; says in words where it is kept (the latest one of each model).

    Raises WeightsError where it cannot be deleted.
    """
    kept = own_folder("cache") / "rejected" / f"{entry.name}.bin"
    fate = f"kept as {kept}"
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
    except OSError:
        fate = "deleted"
    hub.remove(entry)
    return fate
