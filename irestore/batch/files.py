"""Reads the pictures of an item, and writes its result."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from irestore import images
from irestore.batch.inputs import Item
from irestore.batch.remote import sent
from irestore.errors import IrestoreError, ReadError, UsageError, WriteError


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """How pictures are read and written."""

    load: images.LoadOptions = field(default_factory=images.LoadOptions)
    save: images.SaveOptions = field(default_factory=images.SaveOptions)
    provenance: Callable[[Item], str | None] = lambda item: None  # the tag that says what made the result
    keep_alpha: bool = True
    fail_fast: bool = False
    side_by_side: bool = True  # whether small pictures are computed at the same time where that is faster


def read_item(item: Item, options: RunOptions) -> Iterator[images.Picture]:
    """Read the frames that the plan promised, one at a time.

    Raises ReadError, also when the file is not any more what the plan saw, and UsageError for transparency that the
    target cannot hold.
    """
    path = item.input.path
    count = 0
    try:
        if not item.input.changed():  # asked before it is opened too: it may be a pipe by now, which would never end
            for picture in images.load_frames(item.input.stream(), options.load):
                if item.input.changed():
                    break
                if options.keep_alpha and picture.transparent:
                    images.check_target(item.format, 1, 1, True, options.save)
                yield picture
                count += 1
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except IrestoreError:
        raise
    except FileNotFoundError as error:
        raise ReadError(f"{path}: no such file any more") from error
    except (OSError, MemoryError) as error:
        raise ReadError(f"{path}: cannot be read: {error or type(error).__name__}") from error
    if count != item.frames:
        raise ReadError(f"{path}: has changed since the run began; run again")


def write_item(pictures: Iterable[images.Picture], item: Item, options: RunOptions) -> tuple[str, ...]:
    """Write a result to its target, or to standard output; returns what the format could not hold.

    Raises WriteError, and whatever `pictures` raises; then the target is as it was.
    """
    overwrite = options.save.overwrite or item.replaces
    save = replace(options.save, provenance=options.provenance(item), overwrite=overwrite)
    if item.target is not None:
        with sent(item.target, overwrite=overwrite):
            if item.frames > 1:
                return images.save_frames(pictures, item.target, save)
            return images.save(next(iter(pictures)), item.target, save)  # made before the target is opened
    content = io.BytesIO()
    notes = images.save_to(content, next(iter(pictures)), item.format, save)
    try:
        sys.stdout.buffer.write(content.getbuffer())
        sys.stdout.buffer.flush()
    except OSError as error:
        raise WriteError(f"standard output: cannot be written: {error.strerror}") from error
    return notes


def discard_unfinished(target: Path | None) -> None:
    """Remove what `images.save`, in a thread of this process, has begun to write beside a target; nothing of others."""
    for unfinished in target.parent.glob(f".irestore-{os.getpid()}-*.part") if target else ():
        unfinished.unlink(missing_ok=True)


def is_foreseen(error: Exception) -> bool:
    """Whether a picture can be blamed for the error, or the machine; else it is a fault of the program or a device."""
    return isinstance(error, (IrestoreError, OSError, MemoryError))


def reason_of(error: Exception, item: Item) -> str:
    """Why the item failed, in one line that names its file."""
    path = str(item.input.path)
    reason = "out of memory" if isinstance(error, MemoryError) else str(error) or type(error).__name__
    if not is_foreseen(error):
        reason = f"unexpected {type(error).__name__}: {reason.splitlines()[0]}"
    return reason if path in reason else f"{path}: {reason}"


def is_full_disk(error: BaseException) -> bool:
    """Whether the error is, or comes from, a disk or a quota that is full."""
    return any(isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT) for cause in _causes(error))


def is_there_already(error: BaseException) -> bool:
    """Whether the error comes from an output that has appeared since the plan."""
    return any(isinstance(cause, FileExistsError) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
