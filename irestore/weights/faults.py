"""What went wrong with a download, in one line: the cause and the remedy.

The Hub client moved from requests to httpx to httpx2, so its transport errors are known here by the names of their
classes, never by import.
"""

import errno
import re
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from irestore.errors import DownloadError, UnreachableError
from irestore.weights.manifest import Entry

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}


class NotAHubError(Exception):
    """The server answers, but its answer is no Hub's."""


def fault(error: BaseException, entry: Entry, endpoint: str, cache: str) -> DownloadError:
    """The error to show for what the client raised. UnreachableError where another network or another time would do."""
    chain = list(_chain(error))
    response = next((e.response for e in chain if getattr(e, "response", None) is not None), None)  # type: ignore[attr-defined]
    logged = re.search(r"HTTP Error (\d{3})", str(error))  # an answer of which the client only told its log
    if response is not None:
        kind, text = _answer(int(response.status_code), response.headers, entry, endpoint)
    elif logged:
        kind, text = _answer(int(logged[1]), {}, entry, endpoint)
    else:
        kind, text = _failure(chain, endpoint, cache)
    return kind(f"{entry.name}: cannot download {entry.file}: {text}")


def _answer(status: int, headers: Mapping[str, str], entry: Entry, endpoint: str) -> tuple[type[DownloadError], str]:
    """The server answered with an error status."""
    code = headers.get("X-Error-Code", "")
    page, token, at = f"{endpoint}/{entry.repo}", "HF_TOKEN", entry.revision
    known = {
        "GatedRepo": f"access to {page} is gated; accept its terms there, then set {token} to a token of that account",
        "RevisionNotFound": f"{entry.repo} has no revision {at}; correct it in the manifest or after the @",
        "EntryNotFound": f"{entry.repo} has no such file at revision {at}; correct the manifest or the name",
    }
    if code in known:
        return DownloadError, known[code]
    if status == 401 and headers.get("X-Error-Message", "").startswith("Invalid cred"):
        return (
            DownloadError,
            f"{endpoint} does not accept your token (401); renew {token} or `hf auth login`, or unset it",
        )
    if status == 401:
        return DownloadError, f"{page} does not exist or needs a login (401); check the name, or set {token}"
    if status == 403:
        return (
            DownloadError,
            f"your account has no permission to read {page} (403); ask its owner, or set another {token}",
        )
    if status == 404:
        return DownloadError, f"not found at {page} (404); check repo, revision and file, and HF_ENDPOINT if you set it"
    if status == 407:
        return UnreachableError, "the proxy wants a login (407); put user:password@ into HTTPS_PROXY"
    if status == 429:
        return UnreachableError, f"{endpoint} says too many requests (429); wait some minutes, or set {token}"
    if status >= 500:
        return UnreachableError, f"{endpoint} has a fault of its own (HTTP {status}); try again later"
    return DownloadError, f"{endpoint} answered HTTP {status}; check HF_ENDPOINT and the proxy settings"


def _failure(chain: list[BaseException], endpoint: str, cache: str) -> tuple[type[DownloadError], str]:
    """There was no answer, or what came could not be kept."""
    names = {cls.__name__ for error in chain for cls in type(error).__mro__}
    text = " ".join(str(error) for error in chain)
    codes = {error.errno for error in chain if isinstance(error, OSError)}
    if codes & DISK_FULL:
        return DownloadError, f"the disk is full at {cache}; make room, or set HF_HUB_CACHE to a folder on another disk"
    if names & {"OfflineModeIsEnabled"}:
        return UnreachableError, "offline (HF_HUB_OFFLINE is set); unset it to download"
    if names & {"NotAHubError", "FileMetadataError"}:
        return UnreachableError, (
            f"{endpoint} answers, but not as a Hub does; does the network want a login in the browser, "
            "or is HF_ENDPOINT wrong?"
        )
    if names & {"ProxyError"}:
        return (
            UnreachableError,
            f"no way{_proxy(endpoint)} ({_last(chain)}); check HTTPS_PROXY, HTTP_PROXY and NO_PROXY",
        )
    if names & {"SSLError", "SSLCertVerificationError"} or "CERTIFICATE" in text.upper():
        return UnreachableError, (
            f"the TLS certificate of {endpoint} is not trusted ({_last(chain)}); check the clock, or set SSL_CERT_FILE "
            "and REQUESTS_CA_BUNDLE to your proxy's certificates"
        )
    if is_timeout(chain):
        return UnreachableError, f"{endpoint} does not answer in time; try again, or on another network"
    if names & {"RemoteProtocolError", "ReadError", "ChunkedEncodingError", "ProtocolError"} or "Consistency" in text:
        return UnreachableError, f"the connection to {endpoint} was cut before the whole file had come; try again"
    if names & {"ConnectError", "ConnectionError", "gaierror"}:
        way = f"{endpoint}{_proxy(endpoint)}"
        return (
            UnreachableError,
            f"cannot reach {way} ({_last(chain)}); check the connection, HTTPS_PROXY and HF_ENDPOINT",
        )
    if codes & NOT_WRITABLE:
        return DownloadError, f"the cache {cache} is not writable; set HF_HUB_CACHE to a folder of yours"
    return DownloadError, f"{type(chain[0]).__name__}: {_last(chain)}"


def is_timeout(chain: list[BaseException]) -> bool:
    """Whether one of the errors is a deadline that passed; requests hides it in the text of a ConnectionError."""
    return any("Timeout" in type(error).__name__ or "timed out" in str(error).lower() for error in chain)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _last(chain: list[BaseException]) -> str:
    """The first line of the innermost error that says anything."""
    said = [str(error).strip() for error in chain if str(error).strip()]
    return said[-1].splitlines()[0] if said else type(chain[-1]).__name__


def _proxy(endpoint: str) -> str:
    """Through which proxy that address is reached, by the environment or the system's settings; empty where none."""
    address, proxies = urlsplit(endpoint), getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(address.hostname or ""):
        return ""
    return f" through the proxy {proxy.rpartition('//')[2].rpartition('@')[2]}"  # without its password
