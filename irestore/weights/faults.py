"""What went wrong with a download, in one line: the cause and the remedy.

The Hub client moved from requests to httpx to httpx2, so transport errors are known by the names of their classes.
"""

import errno
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from irestore.errors import DownloadError, UnreachableError
from irestore.weights.manifest import Entry

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
CUT = {"RemoteProtocolError", "ReadError", "ChunkedEncodingError", "ProtocolError"}

Fault = tuple[type[DownloadError], str]


class NotAHubError(Exception):
    """The server answers, but its answer is not a Hub's."""


class CutError(Exception):
    """The connection was cut before the whole file had come."""


def fault(error: Exception, entry: Entry, endpoint: str, cache: str) -> DownloadError:
    """The error to show for what was raised. UnreachableError where another network or another time would do."""
    answer: Any = getattr(error, "response", None)
    if answer is not None:
        kind, text = _refused(answer.status_code, answer.headers, entry, endpoint)
    else:
        kind, text = _failed(error, endpoint, cache)
    return kind(f"{entry.name}: cannot download {entry.file}: {text}")


def _refused(status: int, headers: Mapping[str, str], entry: Entry, endpoint: str) -> Fault:
    """The server answers with an error status."""
    page, at = f"{endpoint}/{entry.repo}", entry.revision
    answers = {
        "GatedRepo": f"access to {page} is gated; accept its terms there, then set HF_TOKEN to a token of that account",
        "RevisionNotFound": f"{entry.repo} has no revision {at}; correct it in the manifest or after the @",
        "EntryNotFound": f"{entry.repo} has no such file at revision {at}; correct the manifest or the name",
        401: f"{endpoint} refused: 401; {page} does not exist or needs a login (HF_TOKEN), or a filter wants one",
        403: f"{endpoint} refused: 403; a filter forbids it, or your account may not read {page} (HF_TOKEN)",
        404: f"not found at {page} (404); check repo, revision and file, and HF_ENDPOINT if you set it",
        407: "the proxy wants a login (407); put user:password@ into HTTPS_PROXY",
        429: f"{endpoint} says too many requests (429); wait some minutes, or set HF_TOKEN",
    }
    text = answers.get(headers.get("X-Error-Code", "")) or answers.get(status)
    if headers.get("X-Error-Message", "").startswith("Invalid cred"):
        text = f"{endpoint} does not accept your token (401); renew HF_TOKEN or `hf auth login`, or unset it"
    elif status >= 500:
        text = f"{endpoint} has a fault of its own (HTTP {status}); try again later"
    passing = status in (401, 403, 407, 429) or status >= 500
    other = f"{endpoint} answered HTTP {status}; check HF_ENDPOINT and the proxy settings"
    return (UnreachableError if passing else DownloadError), text or other


def _failed(error: BaseException, endpoint: str, cache: str) -> Fault:
    """There was no answer, or what came could not be kept."""
    chain = [error]  # and what led to it
    while cause := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(cause)
    names = {cls.__name__ for error in chain for cls in type(error).__mro__}
    codes = {error.errno for error in chain if isinstance(error, OSError)}
    said = [str(error).strip() for error in chain if str(error).strip()]
    text, last = " ".join(said).lower(), said[-1].splitlines()[0] if said else type(chain[-1]).__name__
    if codes & DISK_FULL:
        return DownloadError, f"the disk is full at {cache}; make room, or set HF_HUB_CACHE to a folder on another disk"
    if isinstance(error, NotAHubError) or "TooManyRedirects" in names:
        why = "does the network want a login in the browser, or is HF_ENDPOINT wrong?"
        return UnreachableError, f"{endpoint} answers, but not as a Hub does; {why}"
    if "SSLError" in names or "certificate" in text:
        remedy = "check the clock, or set SSL_CERT_FILE and REQUESTS_CA_BUNDLE to your proxy's certificates"
        return UnreachableError, f"the TLS certificate of {endpoint} is not trusted ({last}); {remedy}"
    if "timed out" in text or any("Timeout" in type(error).__name__ for error in chain):
        return UnreachableError, f"{endpoint} does not answer in time ({last}); try again, or on another network"
    if isinstance(error, CutError) or names & CUT:
        return UnreachableError, f"the connection to {endpoint} was cut before the whole file had come; try again"
    if names & {"ConnectError", "ConnectionError", "gaierror", "ProxyError"}:
        remedy = "check the connection, HTTPS_PROXY and HF_ENDPOINT"
        return UnreachableError, f"cannot reach {endpoint}{_proxy(endpoint)} ({last}); {remedy}"
    if codes & NOT_WRITABLE:
        return DownloadError, f"the cache {cache} is not writable; set HF_HUB_CACHE to a folder of yours"
    return DownloadError, f"{type(chain[0]).__name__}: {last}"


def _proxy(endpoint: str) -> str:
    """Through which proxy that address is reached, by the environment or the system's settings; empty where none."""
    address, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(address.hostname or ""):
        return ""
    return f" through the proxy {proxy.rpartition('//')[2].rpartition('@')[2]}"  # without its password
