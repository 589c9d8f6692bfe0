"""Pictures at URLs (`s3://bucket/photos/a.png`), by fsspec: each has an empty file of this machine in its place.

So whatever finds, names and checks files does the same for URLs. Content is read from the URL itself, whole but for a
look at a header, and a result is written here and sent whole. Imports nothing heavy, and fsspec only for a URL.
"""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from irestore.errors import STANDS_FOR_URLS, ReadError, UsageError, WriteError, install_command

Each = TypeVar("Each")
Made = TypeVar("Made")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
HEADER_BYTES = 2**18  # asked for at once, where a header is looked at
AT_ONCE = 16  # requests


def is_url(name: str) -> bool:
    """Whether it is the URL of a file or a folder."""
    return URL.match(name) is not None


def url_of(path: Path) -> str | None:
    """The URL for which a file stands; None for one that is itself meant. Any process can tell."""
    for number, part in enumerate(path.parts):
        if part.startswith(STANDS_FOR_URLS):
            scheme, *rest = path.parts[number + 1 :]
            return f"{scheme}://{'/'.join(rest)}"
    return None


def stand_ins(
    inputs: Sequence[str], output: str | None, stack: ExitStack, *, recursive: bool
) -> tuple[list[str], str | None]:
    """The inputs and the output, with a folder or file that lasts as long as the stack in place of each URL.

    Below them are stand-ins for all that is there already. Raises UsageError where that cannot be found out.
    """
    urls = [each for each in inputs if is_url(each)]
    if not urls and not is_url(output or ""):
        return [*inputs], output
    top = stack.enter_context(tempfile.TemporaryDirectory(prefix=STANDS_FOR_URLS, ignore_cleanup_errors=True))

    def local(url: str) -> str:
        return f"{top}/{url.replace('://', '/', 1)}" if is_url(url) else url

    def look(url: str, depth: int | None) -> None:
        """Make the stand-ins; a folder that is not to be looked into gets one of its own."""
        system, root = _system(url)
        base = local(url).rstrip("/")
        try:
            inside = depth != 0 or not system.isdir(root)
            for name in system.find(root, maxdepth=depth or None) if inside else ["/.folder"]:
                path = Path(base + name.removeprefix(root))
                if ".." in path.parts:  # which would lead out of the folder
                    raise UsageError(f"{url}: has {name}, which no file can stand for; leave it out, or rename it")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        except FileNotFoundError:
            return  # without a stand-in it is told as any file that is not there
        except UsageError:
            raise
        except Exception as error:  # of any kind: each file system has its own
            raise UsageError(f"{url}: cannot be listed: {error}") from error

    in_threads(partial(look, depth=None if recursive else 0), urls)
    beside = {url.rstrip("/").rpartition("/")[0] for url in urls if output is None and not recursive}
    in_threads(partial(look, depth=1), sorted(beside))
    if output is not None and is_url(output):
        look(output, None)
    return [local(each) for each in inputs], output and local(output)


def in_threads(call: Callable[[Each], Made], items: Iterable[Each]) -> list[Made]:
    """What a call gives for each item, in order; some items at once, in threads."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(call, items))


def source(path: Path) -> Path | BinaryIO:
    """What a picture is read from: the file itself, or a stream of the URL for which it stands. Raises ReadError."""
    if (url := url_of(path)) is None:
        return path
    try:
        system, name = _system(url)
        stream: BinaryIO = system.open(name, "rb", block_size=HEADER_BYTES)
    except Exception as error:
        raise ReadError(f"{url}: cannot be opened: {error}") from error
    with suppress(AttributeError):
        stream.name = url  # type: ignore[misc]
    return stream


@contextmanager
def sent(target: Path, *, overwrite: bool) -> Iterator[None]:
    """At the end send the file that was written to the URL for which it stands, if it does. Raises WriteError."""
    if (url := url_of(target)) is None:
        yield
        return
    target.parent.mkdir(parents=True, exist_ok=True)  # on a machine of a cluster
    yield
    try:
        system, name = _system(url)
        system.invalidate_cache()  # of listings, which may be older than a result of somebody else
        if not overwrite and system.exists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        system.put_file(str(target), name)
    except Exception as error:
        raise WriteError(f"{url}: cannot be written: {error}") from error
    finally:
        target.unlink()


def _system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and what it calls it. Raises UsageError where there is none."""
    try:
        import fsspec.core

        return fsspec.core.url_to_fs(url)  # type: ignore[no-any-return]
    except ImportError as error:
        raise UsageError(f"{url}: such URLs need an extra ({error}): {install_command('remote')}") from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}; s3:// and gs:// are among those that are") from error
