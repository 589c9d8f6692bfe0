"""The Hugging Face Hub: its cache on this machine, and downloads into it. Only weights/hub.py and weights/transfer.py
import huggingface_hub, and that late: its `constants` are light, and enough to find a file that is cached.
"""

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from irestore.errors import DownloadError, UnreachableError, WeightsError
from irestore.weights.faults import NotAHubError, fault
from irestore.weights.manifest import PINNED, SHA256, Entry
from irestore.weights.paths import sha256
from irestore.whole_file import whole_file


def cache() -> Path:
    """The Hub cache (HF_HUB_CACHE, HF_HOME, or the client's default). May not exist yet."""
    return Path(_constants().HF_HUB_CACHE)


def endpoint() -> str:
    """The Hub in use (HF_ENDPOINT or https://huggingface.co)."""
    return str(_constants().ENDPOINT)


def is_offline() -> bool:
    """Whether the environment forbids requests (HF_HUB_OFFLINE)."""
    return bool(_constants().HF_HUB_OFFLINE)


def cached(entry: Entry) -> Path | None:
    """The entry's file in the Hub cache; None if it is not there."""
    path = _snapshot(entry)
    return path if entry.repo and PINNED.fullmatch(entry.revision or "") and path.is_file() else None


def announced(path: Path) -> str | None:
    """The sha256 by which the Hub announced a cached file, if it did: the name of the blob that the path points to."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if SHA256.fullmatch(name) else None


def pin(entry: Entry, *, offline: bool = False) -> Entry:
    """The entry with the commit that its branch or tag stands for now. Asks the Hub only if it is not pinned yet."""
    if entry.revision is None or PINNED.fullmatch(entry.revision):
        return entry
    if offline or is_offline():
        raise UnreachableError(
            f"{entry.name}: offline, and only the Hub knows what {entry.revision!r} is; write @COMMIT"
        )
    with _explained(entry):
        from irestore.weights import transfer  # slow to import

        return replace(entry, revision=transfer.head(entry)[0])


def download(entry: Entry) -> Path:
    """The entry's file, fetched into the Hub cache, unverified. Raises DownloadError (UnreachableError)."""
    with _explained(entry):
        from irestore.weights import transfer  # slow to import

        commit, etag, size = transfer.head(entry)
        if commit != entry.revision:
            raise NotAHubError
        blob, path = _repo_folder(entry) / "blobs" / etag, _snapshot(entry)
        if not (blob.is_file() and sha256(blob) == etag):  # another revision may have brought it
            with whole_file(blob, make_folder=True) as file:
                if size > (free := shutil.disk_usage(blob.parent).free):
                    raise DownloadError(
                        f"{entry.name}: the disk is full at {cache()}: {size:,} bytes are needed and {free:,} are "
                        "free; make room, or set HF_HUB_CACHE to a folder on another disk"
                    )
                transfer.fetch(entry, size, file)
        path.parent.mkdir(parents=True, exist_ok=True)
        link = path.with_name(f".{secrets.token_hex(8)}.link")
        try:
            link.symlink_to(os.path.relpath(blob, path.parent))
        except OSError:  # Windows, where links need a permission: without it the client too puts the file itself here
            link = blob
        link.replace(path)
        return path


def remove(entry: Entry) -> int:
    """Bytes freed by deleting the entry's file from the Hub cache; 0 if it is not there. Raises WeightsError.

    Content that another revision points to stays, and so does any outside the repository's folder: what the client
    shares between repositories (`hf cache prune` deletes that), or what a forged link points to.
    """
    path = cached(entry)
    if path is None:
        return 0
    blob, folder = path.resolve(), _repo_folder(entry)
    try:
        size = blob.stat().st_size
        path.unlink()
        others = (folder / "snapshots").rglob("*")
        if not blob.is_relative_to(folder.resolve()) or any(other.resolve() == blob for other in others):
            return 0
        blob.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{entry.name}: cannot delete {path}: {error.strerror}") from error
    return size


def _constants() -> Any:
    from huggingface_hub import constants

    return constants


def _repo_folder(entry: Entry) -> Path:
    return cache() / f"models--{str(entry.repo).replace('/', '--')}"


def _snapshot(entry: Entry) -> Path:
    return _repo_folder(entry) / "snapshots" / str(entry.revision) / entry.file


@contextmanager
def _explained(entry: Entry) -> Iterator[None]:
    """Whatever goes wrong inside becomes a DownloadError of one line."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:  # requests', httpx's and httpx2's errors have no class in common
        raise fault(error, entry, endpoint(), str(cache())) from error
