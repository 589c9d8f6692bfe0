"""An item's frames from its file, and to its file."""

import errno
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from irestore import images
from irestore.batch.plan import Item
from irestore.errors import IrestoreError, ReadError, UsageError, WriteError


def read(
    item: Item, load: images.LoadOptions, save: images.SaveOptions, *, keep_alpha: bool
) -> Iterator[images.Picture]:
    """The frames that the plan promised, one at a time.

    Raises ReadError, also when the file is not any more what the plan saw, and UsageError for transparency that the
    target cannot hold.
    """
    path = item.source.path
    count = 0
    try:
        source = item.source.stream()
        for picture in images.load_frames(source, load) if item.frames > 1 else [images.load(source, load)]:
            if item.source.changed():
                break
            if keep_alpha and picture.transparent:
                images.check_target(item.format, item.info.width, item.info.height, True, save)
            yield picture
            count += 1
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except IrestoreError:
        raise
    except FileNotFoundError as error:
        raise ReadError(f"{path}: has vanished") from error
    except (OSError, MemoryError) as error:
        raise ReadError(f"{path}: cannot be read: {error or type(error).__name__}") from error
    if count != item.frames:
        raise ReadError(f"{path}: has changed since the run began; run again")


def write(frames: Iterable[images.Picture], item: Item, options: images.SaveOptions) -> tuple[str, ...]:
    """Write a result to its target, or to standard output; what the format could not hold.

    Raises WriteError, and whatever `frames` raises; then the target is as it was.
    """
    if item.frames > 1 and item.target is not None:
        return images.save_frames(frames, item.target, options)
    picture = next(iter(frames))
    if item.target is not None:
        return images.save(picture, item.target, options)
    content = images.encode(picture, item.format, options)
    try:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise WriteError(f"standard output: cannot be written: {error.strerror}") from error
    return ()


def discard_unfinished(target: Path | None) -> None:
    """Remove what `images.save`, in a thread of this process, has begun to write beside a target; nothing of others."""
    if target is None:
        return
    for unfinished in target.resolve().parent.glob(f".irestore-{os.getpid()}-*.part"):
        unfinished.unlink(missing_ok=True)


def size_bytes(picture: images.Picture) -> int:
    """Memory of a picture's pixels."""
    return picture.pixels.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)


def is_full_disk(error: BaseException) -> bool:
    """Whether the error is, or comes from, a disk or a quota that is full."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__
    return False
