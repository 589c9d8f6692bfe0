"""Entry -> verified local file: bundled or local, the model folder, the Hub cache, a download."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from irestore.errors import DownloadError, UnreachableError, WeightsError
from irestore.weights import hub, verify
from irestore.weights.files import describe
from irestore.weights.manifest import PACKAGE, Entry


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
        warning = (
            f"{error}. Using the bundled model {spare.name} instead, which is smaller and restores less; "
            f"to insist: -m {first.name}"
        )
        return Found(spare, locate(spare, offline=True, model_dir=model_dir), warning)


def locate(entry: Entry, *, offline: bool = False, model_dir: Path | str | None = None) -> Path:
    """The entry's file on this machine, its sha256 verified; downloaded if it is missing and `offline` is not set.

    `model_dir` (or IRESTORE_MODEL_DIR) is a flat folder of files, for machines without a connection. For a pinned file
    that is cached, no request is made. Raises DownloadError if the file cannot be had, WeightsError if it is wrong.
    """
    path = present(entry, model_dir)
    if path is None:
        if entry.repo is None:
            raise WeightsError(
                f"{entry.name}: {own_file(entry)} is not there; correct the manifest or put the file back"
            )
        if offline or hub.is_offline():
            raise UnreachableError(
                f"{entry.name}: not on this machine, and offline; run `irestore models download {entry.name}` while "
                f"connected, or put {Path(entry.file).name} into a folder and give it as --model-dir"
            )
        path = hub.download(entry)
    if intact(path, entry, again=False):
        return path
    if path != hub.cached(entry):
        raise WeightsError(f"{entry.name}: {path} has not the sha256 that the manifest promises; replace the file")
    return _fetch_again(entry, path, offline)


def present(entry: Entry, model_dir: Path | str | None = None) -> Path | None:
    """Where the entry's file lies on this machine, unverified; None if it is nowhere. No request, whatever happens."""
    if entry.repo is None:
        path = own_file(entry)
        return path if path.is_file() else None
    folder = model_dir or os.environ.get("IRESTORE_MODEL_DIR")
    names = (f"{entry.name}.safetensors", Path(entry.file).name) if folder else ()
    beside = next((Path(folder, name) for name in names if Path(folder, name).is_file()), None) if folder else None
    return beside or hub.cached(entry)


def own_file(entry: Entry) -> Path:
    """The path of a file that does not come from the Hub."""
    return (PACKAGE / "bundled" if entry.bundled else entry.folder or Path()) / entry.file


def state(entry: Entry, model_dir: Path | str | None = None) -> str:
    """What a user wants to know before a run: bundled, local, cached, to download, or missing. No request."""
    path = present(entry, model_dir)
    if path is None:
        return "to download" if entry.repo else "missing"
    if entry.bundled:
        return "bundled"
    return "cached" if path == hub.cached(entry) else "local"


def intact(path: Path, entry: Entry, *, again: bool = True) -> bool:
    """Whether the file is what the entry promises or, where no manifest promises anything, what the Hub announced.

    `again` reads the file even if it was verified before. Raises WeightsError where it cannot be read.
    """
    try:
        return verify.matches(path, entry.sha256 or hub.announced(path), again=again)
    except OSError as error:
        raise WeightsError(f"{entry.name}: cannot read {path}: {error.strerror}") from error


def _fetch_again(entry: Entry, path: Path, offline: bool) -> Path:
    """One more download over a cached file of the wrong content, which is set aside unless it then is right."""
    wrong = f"{entry.name}: {entry.file} has not the sha256 that the manifest promises"
    if offline or hub.is_offline():
        fate = hub.set_aside(entry, path)
        raise WeightsError(f"{wrong}; not loaded, {fate}; offline, so it cannot be fetched again")
    try:
        path = hub.download(entry, force=True)
    except DownloadError as error:
        fate = hub.set_aside(entry, path)
        raise type(error)(f"{wrong}; not loaded, {fate}; {error}") from error
    if intact(path, entry):
        return path
    fate = hub.set_aside(entry, path)
    raise WeightsError(
        f"{wrong}, twice; not loaded, {fate}; try again later or without a proxy or mirror (HF_ENDPOINT)"
    )
