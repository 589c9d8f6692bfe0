"""Colours of other spaces brought to RGB, through the file's own profile where it has one."""

import io

from PIL import Image, ImageCms, ImageColor

from ..errors import UsageError

_CLIPPED = ImageCms.Flags.BLACKPOINTCOMPENSATION


def parse_colour(text: str) -> tuple[float, float, float]:
    """RGB in 0..1 of a colour as CSS writes it ("white", "#fff", "rgb(255, 255, 255)"); raises UsageError otherwise."""
    try:
        red, green, blue = ImageColor.getrgb(text)[:3]
    except ValueError as error:
        raise UsageError(f"{text!r} is no colour; write a name such as white, or #rrggbb") from error
    return red / 255, green / 255, blue / 255


def profile_space(icc: bytes | None) -> str | None:
    """The colour space that an ICC profile is for, as its header says ("RGB", "GRAY", "CMYK", "Lab"), or None."""
    if icc is None or len(icc) < 128 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("ascii", "replace").strip()


def to_srgb(image: Image.Image, icc: bytes | None, notes: list[str]) -> Image.Image:
    """A CMYK, Lab, grey or RGB image as sRGB, by relative colorimetry with black point compensation, 8 bits a sample.

    Lab needs no profile. CMYK without a usable one is converted by the plain formula, and a note says so.
    """
    spaces = {"CMYK": "CMYK", "LAB": "Lab", "L": "GRAY", "RGB": "RGB"}
    srgb = ImageCms.createProfile("sRGB")
    source = None
    if image.mode == "LAB":
        source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    elif icc is not None and profile_space(icc) == spaces[image.mode]:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
    if source is not None:
        try:
            result = ImageCms.profileToProfile(
                image, source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode="RGB", flags=_CLIPPED
            )
        except ImageCms.PyCMSError:
            notes.append("its colour profile is damaged; colours were converted without it")
        else:
            assert result is not None  # only None when asked to work in place
            return result
    elif image.mode == "CMYK":
        notes.append("CMYK without a CMYK profile; colours were converted by the plain formula")
    return image.convert("RGB")
