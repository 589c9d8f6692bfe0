"""The Hugging Face Hub: what is cached, and how the rest is fetched without hanging. Only this imports huggingface_hub.

`huggingface_hub.constants` is light (it imports no HTTP client), and enough to find a pinned file in the cache without
a request. The client itself is imported when something has to be fetched.
"""

import contextlib
import logging
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, TypeVar

from irestore import __version__
from irestore.errors import DownloadError, UnreachableError, WeightsError
from irestore.weights.faults import NotAHubError, fault, is_timeout
from irestore.weights.manifest import PINNED, SHA256, Entry
from irestore.weights.places import cache_folder

if TYPE_CHECKING:
    from huggingface_hub import HfFileMetadata

T = TypeVar("T")
REACH_SECONDS = 6.0  # the Hub answers a HEAD in well under one; HF_HUB_ETAG_TIMEOUT overrides
RESUMES = 3  # of a download whose connection was cut


def cache() -> Path:
    """The Hub cache (HF_HUB_CACHE, HF_HOME, or the client's default). May not exist yet."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def endpoint() -> str:
    """The Hub in use (HF_ENDPOINT or https://huggingface.co)."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def is_offline() -> bool:
    """Whether the environment forbids requests (HF_HUB_OFFLINE)."""
    from huggingface_hub import constants

    return constants.HF_HUB_OFFLINE


def cached(entry: Entry) -> Path | None:
    """The entry's file in the Hub cache, by the layout that the client documents; None if it is not there."""
    if entry.repo is None or entry.revision is None or not PINNED.fullmatch(entry.revision):
        return None
    path = _repo_folder(entry) / "snapshots" / entry.revision / entry.file
    return path if path.is_file() else None


def pin(entry: Entry, *, offline: bool = False) -> Entry:
    """The entry with the commit that its branch or tag stands for now. Asks the Hub only if it is not pinned yet."""
    if entry.revision is None or PINNED.fullmatch(entry.revision):
        return entry
    if offline or is_offline():
        raise UnreachableError(
            f"{entry.name}: offline, and only the Hub knows what {entry.revision!r} is; write @COMMIT"
        )
    with _explained(entry):
        return replace(entry, revision=_head(entry))


def download(entry: Entry, *, force: bool = False) -> Path:
    """The entry's file, fetched into the Hub cache (`force`: even if it is there). Its content is not yet verified.

    An unreachable Hub is said within REACH_SECONDS. Raises DownloadError (UnreachableError: no connection).
    """
    with _explained(entry):
        from huggingface_hub import hf_hub_download

        _head(entry)
        with _patience(RESUMES):
            path = hf_hub_download(
                str(entry.repo),
                entry.file,
                revision=entry.revision,
                force_download=force,
                library_name="irestore",
                library_version=__version__,
            )
    return Path(path)


def remove(entry: Entry) -> int:
    """Bytes freed by deleting the entry's file from the Hub cache; 0 if it is not there. Raises WeightsError.

    Content that another revision still points to stays. (So does what the client shares between repositories:
    `hf cache prune` deletes that.)
    """
    path = cached(entry)
    if path is None:
        return 0
    blob = path.parent / path.readlink() if path.is_symlink() else path
    try:
        size = blob.stat().st_size
        path.unlink()
        others = (_repo_folder(entry) / "snapshots").rglob("*")
        if any(other.is_symlink() and other.resolve() == blob.resolve() for other in others):
            return 0
        blob.unlink(missing_ok=True)
    except OSError as error:
        raise WeightsError(f"{entry.name}: cannot delete {path}: {error.strerror}") from error
    return size


def announced(path: Path) -> str | None:
    """The sha256 by which the Hub announced a cached file, if it did: the name of the blob that the path points to."""
    name = path.readlink().name if path.is_symlink() else ""
    return name if SHA256.fullmatch(name) else None


def set_aside(entry: Entry, path: Path) -> str:
    """What became of the rejected file, in words: out of the Hub cache, kept in ours (the latest one of each model)."""
    kept = cache_folder() / "rejected" / f"{entry.name.replace('/', '--')}.bin"
    links = [path]
    while links[-1].is_symlink():
        links.append(links[-1].parent / links[-1].readlink())
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, kept)
        fate = f"kept as {kept}"
    except OSError:
        fate = "deleted"
    try:
        for link in links:
            link.unlink(missing_ok=True)
    except OSError as error:
        fate = f"still at {path} ({error.strerror})"
    return fate


def _repo_folder(entry: Entry) -> Path:
    return cache() / f"models--{str(entry.repo).replace('/', '--')}"


def _head(entry: Entry) -> str:
    """The commit that the Hub names for the entry's revision: one HEAD request that ends in time, whatever happens."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or REACH_SECONDS)
    url = hf_hub_url(str(entry.repo), entry.file, revision=entry.revision)

    def head() -> "HfFileMetadata":
        with _patience(0):
            return get_hf_file_metadata(url, timeout=seconds, library_name="irestore", library_version=__version__)

    metadata = _within(seconds, head)
    if metadata.commit_hash is None or metadata.etag is None:
        raise NotAHubError(url)
    free = shutil.disk_usage(_existing(cache())).free
    if metadata.size and metadata.size > free and cached(entry) is None:
        raise DownloadError(
            f"{entry.name}: the disk is full at {cache()}: {metadata.size:,} bytes are needed and {free:,} are free; "
            "make room, or set HF_HUB_CACHE to a folder on another disk"
        )
    return metadata.commit_hash


def _existing(path: Path) -> Path:
    """The path, or its nearest ancestor that exists."""
    return next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises, or TimeoutError after so many seconds.

    The client's own timeouts hold for each address of a host, and not for the name's look-up: that can take minutes.
    """
    results: Queue[tuple[T | None, BaseException | None]] = Queue()

    def work() -> None:
        try:
            results.put((call(), None))
        except BaseException as error:  # handed to the caller's thread
            results.put((None, error))

    threading.Thread(target=work, daemon=True, name="irestore-reach").start()
    try:
        result, error = results.get(timeout=seconds)
    except Empty:
        raise TimeoutError(f"no answer within {seconds:g} s") from None
    if error is not None:
        raise error
    return result  # type: ignore[return-value]


@contextlib.contextmanager
def _explained(entry: Entry) -> Iterator[None]:
    """Whatever the client raises inside becomes a DownloadError of one line."""
    try:
        yield
    except DownloadError:
        raise
    except Exception as error:  # requests', httpx's and httpx2's errors have no class in common
        raise fault(error, entry, endpoint(), str(cache())) from error


class _GaveUpError(Exception):
    """The client would try again, but has tried often enough."""


class _Patience(logging.Filter):
    """Ends what the client tries more than `resumes` times again, and at once what timed out.

    The client resumes a download as long as each attempt brings some bytes, be it for ever, and waits for minutes for a
    server that is silent or at fault. It says so only in its log, before it tries again: there it is stopped. (So users
    never see those messages, and an unknown future client is no worse than without this.)
    """

    def __init__(self, resumes: int) -> None:
        super().__init__()
        self.left = resumes
        self.thread = threading.get_ident()
        self.outer = sys.exc_info()[1]

    def filter(self, record: logging.LogRecord) -> bool:
        """False to drop a message of a new try; raises _GaveUpError, inside the client's handling of the cause."""
        cause, text = sys.exc_info()[1], record.getMessage()
        failed = cause is not self.outer or text.startswith("HTTP Error")
        if not failed or record.thread != self.thread:
            return True
        self.left -= 1
        if self.left < 0 or (cause is not None and is_timeout([cause])):
            raise _GaveUpError(text) from cause
        return False


@contextlib.contextmanager
def _patience(resumes: int) -> Iterator[None]:
    logs = [logging.getLogger(f"huggingface_hub.{module}") for module in ("file_download", "utils._http")]
    patience = _Patience(resumes)
    for log in logs:
        log.addFilter(patience)
        if not log.isEnabledFor(logging.WARNING):  # HF_HUB_VERBOSITY=error; what is not logged cannot be stopped
            log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        for log in logs:
            log.removeFilter(patience)
