"""Another size without a network: transparency brought to that of a picture, a picture made smaller."""

import numpy as np
from PIL import Image

from irestore.images.colour import fill_transparent
from irestore.images.picture import Picture, Plane
from irestore.images.samples import one_channel


def resize_alpha(alpha: Plane, height: int, width: int) -> Plane:
    """Alpha as a plane of that size, by cubic interpolation of the whole plane, in 0..1.

    Cubic, since its one negative lobe is clipped away: Lanczos would leave a faint second outline around cut-outs.
    Constant alpha stays that constant.
    """
    if alpha.shape == (height, width):
        return alpha
    if (alpha == alpha[0, 0]).all():
        return np.full((height, width), alpha[0, 0], np.float32)
    return _resized(alpha, height, width, Image.Resampling.BICUBIC)


def reduced(picture: Picture, height: int, width: int) -> Picture:
    """The picture made smaller, to that size: by Lanczos in float32, in the picture's own colour space."""
    if (picture.height, picture.width) == (height, width):
        return picture
    pixels = fill_transparent(picture).pixels
    planes = [one_channel(pixels)] if picture.grey else np.moveaxis(pixels, 2, 0)
    planes = [_resized(plane, height, width, Image.Resampling.LANCZOS) for plane in planes]
    small = np.broadcast_to(np.stack(planes, axis=2), (height, width, 3))
    return picture.replaced(small, None if picture.alpha is None else resize_alpha(picture.alpha, height, width))


def _resized(plane: Plane, height: int, width: int, filter_: Image.Resampling) -> Plane:
    """A plane (H, W) as (height, width), in 0..1."""
    image = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(image.resize((width, height), filter_), np.float32).clip(0, 1)
