"""Decode the files of pictures to pixels, within limits: they come from anywhere.

Runs in the engine's process, where a fault of a decoder costs no conversation. Pillow is imported with the first
picture.
"""

from __future__ import annotations

import io
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from chat.core.conversation import MOST_PICTURE_BYTES
from chat.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

MOST_PIXELS = 120_000_000  # decoded, that takes about a gigabyte for a moment
LONGEST_SIDE = 65_500  # pixels
MOST_SECONDS = 20.0
MOST_SCANS = 200  # of a progressive JPEG, each of which goes over the whole picture; encoders write about ten
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_ORIENTATION = 0x0112  # the tag of Exif
_SCAN = b"\xff\xda"  # JPEG's marker of a scan


class _TimedFile(io.BytesIO):
    """Bytes that can be read only for so long: decoders ask for more between their steps."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._end = time.monotonic() + MOST_SECONDS

    def read(self, size: int | None = -1, /) -> bytes:
        if time.monotonic() > self._end:
            raise TimeoutError
        return super().read(size)


def decode_picture(data: bytes, name: str, size_of: Callable[[int, int], tuple[int, int]]) -> NDArray[np.uint8]:
    """The pixels of a picture, upright, on white where it is transparent; of an animation the first frame.

    Args:
        data: PNG, JPEG, WebP, GIF or BMP.
        name: for errors.
        size_of: the width and height to scale to, from the picture's own.

    Returns:
        (height, width, 3) red, green and blue, scaled.

    Raises:
        DataError: it is no such picture, damaged, or larger than the limits.
    """
    if not data:
        raise DataError(f"{name}: the picture's file is empty")
    if len(data) > MOST_PICTURE_BYTES:
        raise DataError(f"{name}: the picture's file is larger than the limit of {MOST_PICTURE_BYTES >> 20} MiB")
    if data.count(_SCAN) > MOST_SCANS and data.startswith(b"\xff\xd8"):
        raise DataError(f"{name}: the picture has more than {MOST_SCANS} scans")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged tags, and of sizes, for which there are our own limits
            return _decode(data, name, size_of)
    except DataError:
        raise
    except MemoryError as error:
        raise DataError(f"{name}: there is not enough memory for the picture") from error
    except TimeoutError as error:
        raise DataError(f"{name}: the picture takes more than {MOST_SECONDS:.0f} seconds to be decoded") from error
    except Exception as error:  # the decoders expect files that are whole
        raise DataError(f"{name}: the picture is damaged, or not complete") from error


def _decode(data: bytes, name: str, size_of: Callable[[int, int], tuple[int, int]]) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - the others register themselves

    Image.MAX_IMAGE_PIXELS = MOST_PIXELS
    try:
        opened = Image.open(_TimedFile(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise DataError(f"{name}: is not a picture that can be read", hint="PNG, JPEG, WebP, GIF or BMP") from error
    except Image.DecompressionBombError as error:
        raise _too_large(name) from error
    with opened:
        width, height = opened.size
        if width < 1 or height < 1:
            raise DataError(f"{name}: the picture has no pixels")
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDE:
            raise _too_large(name, f" with {width:,} x {height:,} pixels")
        opened.load()
        turned = _upright(opened, Image)
        picture = _on_white(turned, Image)
    size = size_of(*turned.size)
    scaled = picture if picture.size == size else picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(scaled, dtype=np.uint8)


def _too_large(name: str, size: str = "") -> DataError:
    most = f"{MOST_PIXELS // 1_000_000} million pixels, and {LONGEST_SIDE:,} on a side"
    return DataError(f"{name}: the picture{size} is larger than the limit of {most}", hint="scale it down")


def _upright(picture: Any, pillow: Any) -> Any:
    """The picture turned as its Exif data say; damaged data say nothing."""
    turns = pillow.Transpose
    orientation = None
    with suppress(Exception):
        orientation = picture.getexif().get(_ORIENTATION)
    turn = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_270,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_90,
    }.get(orientation or 0)
    return picture if turn is None else picture.transpose(turn)


def _on_white(picture: Any, pillow: Any) -> Any:
    """The picture in red, green and blue; what is transparent becomes white, as in mistral-common."""
    if picture.mode == "RGB":
        return picture
    if picture.mode.startswith("I"):  # 16 bits of grey
        return picture.convert("I").point(lambda value: value * (1 / 256)).convert("L").convert("RGB")
    if picture.mode in ("L", "1", "CMYK", "YCbCr") and "transparency" not in picture.info:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    ground = pillow.new("RGBA", layered.size, "WHITE")
    ground.paste(layered, (0, 0), layered)
    return ground.convert("RGB")
