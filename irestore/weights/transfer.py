"""Requests to the Hub that end in time, and bring neither more nor less than was announced.

Proxies, certificates, token and addresses are the Hub client's own; the transfer is ours: the client resumes one for as
long as each try brings some bytes, makes a path of any ETag, and cannot be stopped.
"""

import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple, TypeVar
from urllib.parse import urljoin, urlsplit

from tqdm import tqdm

from irestore import __version__
from irestore.errors import DownloadError
from irestore.weights.faults import CutError, NotAHubError, RefusedError
from irestore.weights.manifest import PINNED, Entry

T = TypeVar("T")
Answer = tuple[int, Mapping[str, str], Iterator[bytes]]  # status, headers, body

REACH_SECONDS = 6.0  # the Hub answers a HEAD in well under one; HF_HUB_ETAG_TIMEOUT overrides
SPAN_SECONDS = 10.0  # in so many seconds at least SPAN_BYTES must come; HF_HUB_DOWNLOAD_TIMEOUT overrides
SPAN_BYTES = 100_000
TRIES = 4  # where the connection is cut
ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # and no other, such as ../../file: it becomes the name of a file


class Announced(NamedTuple):
    """What the Hub says about a file before it is fetched."""

    commit: str
    etag: str  # sha256, or git's sha1 for small files: the name of the content in the cache
    size: int


def head(entry: Entry) -> Announced:
    """What the Hub announces for the entry's file. Raises TimeoutError, NotAHubError, RefusedError, the client's."""
    seconds = float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or REACH_SECONDS)
    end = time.monotonic() + seconds

    def ask() -> tuple[int, Mapping[str, str]]:
        with _request("HEAD", entry, seconds) as (status, headers, _):
            return status, headers

    def check() -> None:
        if time.monotonic() > end:
            raise TimeoutError(f"no answer within {seconds:g} s")

    status, headers = watched(ask, check)
    if status >= 400:
        raise RefusedError(status, headers)
    commit = headers.get("X-Repo-Commit", "")
    etag = (headers.get("X-Linked-Etag") or headers.get("ETag") or "").removeprefix("W/").strip('"')
    size = headers.get("X-Linked-Size") or headers.get("Content-Length") or ""
    if not (PINNED.fullmatch(commit) and ETAG.fullmatch(etag) and size.isdecimal()):
        raise NotAHubError
    return Announced(commit, etag, int(size))


def fetch(entry: Entry, size: int, file: BinaryIO) -> None:
    """Write the entry's `size` bytes to `file`. Raises as `head`, and DownloadError where more comes."""
    transfer = _Transfer(entry, size, file)
    with transfer.bar:
        try:
            watched(transfer.receive, transfer.check)
        finally:
            transfer.stopped = True


class _Transfer:
    """One file on its way: `receive` runs on a thread of its own, `check` ends a slow one."""

    def __init__(self, entry: Entry, size: int, file: BinaryIO) -> None:
        self.entry, self.size, self.file = entry, size, file
        self.received, self.stopped = 0, False
        self.seconds = float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or SPAN_SECONDS)
        self.span = (time.monotonic(), 0)  # when it began, and what had been received then
        wait = 0.1 if sys.stderr.isatty() else 5  # a log is told of what takes long, be it that nothing comes
        off = bool(_client().constants.HF_HUB_DISABLE_PROGRESS_BARS)
        self.bar = tqdm(
            total=size,
            desc=entry.name,
            unit="B",
            unit_scale=True,
            mininterval=wait,
            miniters=0,
            delay=wait,
            disable=off,
        )

    def receive(self) -> None:
        """Write all bytes to the file; what is missing where the connection is cut is asked for again."""
        for _ in range(TRIES):
            start = self.file.tell()
            with _request("GET", self.entry, self.seconds, start) as (status, headers, body):
                if status not in (200, 206):
                    raise RefusedError(status, headers)
                if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                    self.file.seek(0)  # all of it comes again
                for chunk in _until_cut(body):
                    if self.stopped:
                        return
                    if self.file.tell() + len(chunk) > self.size:
                        raise DownloadError(
                            f"{self.entry.name}: the Hub announced {self.size:,} bytes for {self.entry.file} and sends "
                            "more; try again later or without a proxy or mirror (HF_ENDPOINT)"
                        )
                    self.file.write(chunk)
                    self.received += len(chunk)
            if self.file.tell() == self.size:
                return
        raise CutError

    def check(self) -> None:
        """Raises TimeoutError where too little came in the last span."""
        now, received = time.monotonic(), self.received
        self.bar.update(received - self.bar.n)
        if now - self.span[0] > self.seconds:
            if received - self.span[1] < SPAN_BYTES:
                raise TimeoutError(f"{received - self.span[1]} bytes within {self.seconds:g} s")
            self.span = now, received


def _until_cut(body: Iterator[bytes]) -> Iterator[bytes]:
    """What comes before the connection is cut, if it is: that shows in the size. Silence is an error."""
    try:
        yield from body
    except Exception as error:
        if "Timeout" in type(error).__name__ or "timed out" in str(error):
            raise


def watched(call: Callable[[], T], check: Callable[[], None]) -> T:
    """What `call` returns or raises, run on a thread of its own, which is abandoned as soon as `check` raises.

    The client's own timeouts hold for each address and each read, and not for the look-up of a name: all in all a
    request can take minutes, or for ever.
    """
    results: list[T] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # handed to the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True, name="irestore-hub")
    thread.start()
    while thread.is_alive():
        check()
        thread.join(0.1)
    if errors:
        raise errors[0]
    return results[0]


@contextmanager
def _request(method: str, entry: Entry, seconds: float, start: int = 0) -> Iterator[Answer]:
    """The answer for the entry's file, from byte `start` on; no read of it takes longer than `seconds`.

    A GET goes where the Hub says, without the token if that is another host; a HEAD stays at the Hub.
    """
    client = _client()
    url = client.hf_hub_url(str(entry.repo), entry.file, revision=entry.revision)
    headers: dict[str, str] = client.utils.build_hf_headers(library_name="irestore", library_version=__version__)
    headers |= {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    for _ in range(6):
        with _answer(method, url, headers, seconds) as (status, answer, body):
            target = answer.get("Location") if status in (301, 302, 303, 307, 308) else None
            if target is None or (method == "HEAD" and urlsplit(target).netloc):
                yield status, answer, body
                return
        here, url = url, urljoin(url, target)
        if urlsplit(here)[:2] != urlsplit(url)[:2]:
            headers.pop("authorization", None)
    raise NotAHubError


@contextmanager
def _answer(method: str, url: str, headers: Mapping[str, str], seconds: float) -> Iterator[Answer]:
    """One request by the client's session: httpx's or, before huggingface_hub 1.0, requests'."""
    session = _client().utils.get_session()
    if callable(session.stream):  # requests has a setting of that name
        with session.stream(method, url, headers=headers, timeout=seconds, follow_redirects=False) as answer:
            yield answer.status_code, answer.headers, answer.iter_raw()
    else:
        with session.request(
            method, url, headers=headers, timeout=seconds, allow_redirects=False, stream=True
        ) as answer:
            yield answer.status_code, answer.headers, answer.iter_content(1 << 14)


def _client() -> Any:
    import huggingface_hub

    return huggingface_hub
