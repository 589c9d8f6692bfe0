"""Requests to the Hub that end in time, and bring neither more nor less than was announced.

Proxies, certificates, token, addresses and redirects are the Hub client's own; the transfer is ours: the client resumes
one for as long as each try brings some bytes, makes a path of any ETag, and cannot be stopped.
Slow to import: only hub.py does it, when something is fetched.
"""

import math
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import huggingface_hub.constants
import huggingface_hub.utils
from tqdm import tqdm

from irestore import __version__
from irestore.errors import DownloadError, say
from irestore.weights.faults import CutError, NotAHubError
from irestore.weights.manifest import PINNED, Entry

T = TypeVar("T")
CLIENT: Any = huggingface_hub  # its utils do not say what they export
OURSELVES = {"library_name": "irestore", "library_version": __version__}

REACH_SECONDS = 6.0  # the Hub answers a HEAD in well under one; HF_HUB_ETAG_TIMEOUT overrides
SPAN_SECONDS = 10.0  # in so many seconds at least SPAN_BYTES must come; HF_HUB_DOWNLOAD_TIMEOUT overrides
SPAN_BYTES = 100_000
SILENT_SECONDS = 1.0  # before people are told what is waited for
TRIES = 4  # where the connection is cut
ETAG = re.compile("[0-9a-f]{40}|[0-9a-f]{64}")  # and no other, such as ../../file: it becomes the name of a file


def head(entry: Entry) -> tuple[str, str, int]:
    """Commit, ETag (the sha256, or git's sha1 for small files) and size that the Hub announces for the entry's file.

    Raises TimeoutError, NotAHubError, and what the client raises.
    """
    pace = _Pace(float(os.environ.get("HF_HUB_ETAG_TIMEOUT") or REACH_SECONDS))
    ask = partial(CLIENT.get_hf_file_metadata, _url(entry), timeout=pace.seconds, **OURSELVES)
    began = time.monotonic()

    def check() -> None:
        nonlocal began
        if time.monotonic() - began > SILENT_SECONDS and not CLIENT.constants.HF_HUB_DISABLE_PROGRESS_BARS:
            began = math.inf
            say(f"asking {urlsplit(CLIENT.constants.ENDPOINT).netloc} ...")
        pace.check()

    told = watched(ask, check)
    commit, etag, size = str(told.commit_hash), str(told.etag), told.size
    if not (PINNED.fullmatch(commit) and ETAG.fullmatch(etag) and isinstance(size, int)):
        raise NotAHubError
    return commit, etag, size


def fetch(entry: Entry, size: int, file: BinaryIO) -> None:
    """Write the entry's `size` bytes to `file`. Raises as `head`, CutError, and DownloadError where more comes."""
    pace = _Pace(float(os.environ.get("HF_HUB_DOWNLOAD_TIMEOUT") or SPAN_SECONDS))
    pause = 0.1 if sys.stderr.isatty() else 5  # a log is told of what takes long, be it that nothing comes
    with tqdm(
        total=size, desc=entry.name, unit="B", unit_scale=True, mininterval=pause, miniters=0, delay=pause,
        disable=bool(CLIENT.constants.HF_HUB_DISABLE_PROGRESS_BARS),
    ) as bar:  # fmt: skip

        def check() -> None:
            bar.update(pace.received - bar.n)
            pace.check()

        try:
            watched(lambda: _receive(entry, size, file, pace), check)
        finally:
            pace.stopped = True


class _Pace:
    """How much has been received, and whether that is enough."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.received, self.stopped = seconds, 0, False
        self.began, self.before = time.monotonic(), 0  # of the current span

    def check(self) -> None:
        """Raises TimeoutError where less than SPAN_BYTES came in the last `seconds`."""
        now, received = time.monotonic(), self.received
        if now - self.began > self.seconds:
            if received - self.before < SPAN_BYTES:
                raise TimeoutError(f"{received - self.before} bytes within {self.seconds:g} s")
            self.began, self.before = now, received


def _receive(entry: Entry, size: int, file: BinaryIO, pace: _Pace) -> None:
    """Write all bytes to the file; what is missing where the connection is cut is asked for again."""
    for _ in range(TRIES):
        start = file.tell()
        with _request(entry, start, pace.seconds) as (headers, body):
            if not headers.get("Content-Range", "").startswith(f"bytes {start}-"):
                file.seek(0)  # all of it comes again
            for chunk in _until_cut(body):
                if pace.stopped:
                    return
                if file.tell() + len(chunk) > size:
                    raise DownloadError(
                        f"{entry.name}: the Hub announced {size:,} bytes for {entry.file} and sends more; "
                        "try again later or without a proxy or mirror (HF_ENDPOINT)"
                    )
                file.write(chunk)
                pace.received += len(chunk)
        if file.tell() == size:
            return
    raise CutError


def _until_cut(body: Iterator[bytes]) -> Iterator[bytes]:
    """What comes before the connection is cut, if it is: that shows in the size. Silence is an error."""
    try:
        yield from body
    except Exception as error:
        if "Timeout" in type(error).__name__ or "timed out" in str(error):
            raise


def watched(call: Callable[[], T], check: Callable[[], object]) -> T:
    """What `call` returns or raises, run on a thread of its own, which is abandoned as soon as `check` raises.

    The client's own timeouts hold for each address and each read, and not for the look-up of a name: all in all a
    request can take minutes, or for ever.
    """
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:  # handed to the caller's thread
            future.set_exception(error)

    threading.Thread(target=work, daemon=True, name="irestore-hub").start()
    while not wait([future], 0.1).done:
        check()
    return future.result()


@contextmanager
def _request(entry: Entry, start: int, seconds: float) -> Iterator[tuple[Mapping[str, str], Iterator[bytes]]]:
    """Headers, and body from byte `start` on, of the entry's file; no read takes longer than `seconds`.

    From wherever the Hub says: the session, which is httpx's or, before huggingface_hub 1.0, requests', takes the token
    to no other host.
    """
    session = CLIENT.utils.get_session()
    headers = CLIENT.utils.build_hf_headers(**OURSELVES) | {"Accept-Encoding": "identity"}
    headers |= {"Range": f"bytes={start}-"} if start else {}
    if callable(session.stream):
        asked = session.stream("GET", _url(entry), headers=headers, timeout=seconds, follow_redirects=True)
    else:  # it is a setting of requests
        asked = session.get(_url(entry), headers=headers, timeout=seconds, stream=True)
    with asked as answer:
        answer.raise_for_status()
        yield answer.headers, answer.iter_raw() if hasattr(answer, "iter_raw") else answer.iter_content(1 << 14)


def _url(entry: Entry) -> str:
    return str(CLIENT.hf_hub_url(str(entry.repo), entry.file, revision=entry.revision))
