"""Pictures of five formats become pixels; damaged and hostile ones are refused with one sentence each."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chat.errors import DataError
from chat.inference import picture_decoding
from chat.inference.picture_decoding import decode_picture
from tests.chat.seeing import file_of, picture_of_noise
from tests.grids import FULL

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
MUTANTS = 4000 if FULL else 60  # of each format


def decoded(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return decode_picture(data, "p", lambda width, height: (width, height))


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_read(kind: str) -> None:
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:10, :, 0], pixels[10:, :, 2] = 250, 250
    found = decoded(file_of(pixels, kind))
    assert found.shape == pixels.shape
    assert np.abs(found.astype(int) - pixels).mean() < (12 if kind in ("JPEG", "WEBP") else 0.1)


def test_a_picture_is_scaled_as_pillow_scales() -> None:
    pixels = picture_of_noise(50, 40, 1)
    found = decode_picture(file_of(pixels), "p", lambda width, height: (28, 56))
    assert (found == np.asarray(Image.fromarray(pixels).resize((28, 56), Image.Resampling.BICUBIC))).all()


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 255), (0, 0, 0)),
        ("LA", (0, 0), (255, 255, 255)),
        ("L", 77, (77, 77, 77)),
        ("1", 0, (0, 0, 0)),
        ("I;16", 256 * 77, (77, 77, 77)),
    ],
)
def test_transparency_is_white_and_grey_stays(
    mode: str, colour: int | tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert decoded(file_of(Image.new(mode, (3, 2), colour))).tolist() == [[list(expected)] * 3] * 2


def test_a_transparent_palette_is_white() -> None:
    image = Image.new("P", (2, 2), 0)
    image.putpalette([10, 20, 30] * 256)
    assert decoded(file_of(image, "GIF", transparency=0)).min() == 255


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation: int) -> None:
    """A red corner stays at the upper left, whatever way the camera was held."""
    upright = Image.new("RGB", (40, 24), "white")
    upright.paste("red", (0, 0, 8, 8))
    turns = Image.Transpose
    backwards = {
        2: turns.FLIP_LEFT_RIGHT,
        3: turns.ROTATE_180,
        4: turns.FLIP_TOP_BOTTOM,
        5: turns.TRANSPOSE,
        6: turns.ROTATE_90,
        7: turns.TRANSVERSE,
        8: turns.ROTATE_270,
    }
    turn = backwards.get(orientation)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decoded(file_of(upright if turn is None else upright.transpose(turn), "JPEG", exif=exif, quality=95))
    assert found.shape == (24, 40, 3)
    assert found[3, 3, 1] < 60 < 200 < found[20, 36, 1]


def test_damaged_exif_data_turn_nothing() -> None:
    data = file_of(picture_of_noise(8, 8, 1), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert decoded(data).shape == (8, 8, 3)


def test_of_an_animation_the_first_frame_is_read() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP"):
        data = file_of(frames[0], kind, save_all=True, append_images=frames[1:])
        assert decoded(data)[0, 0, 0] > 200


@pytest.mark.parametrize("size", [(1, 1), (1, 10_000), (10_000, 1), (65_500, 1)])
def test_odd_sizes_are_read(size: tuple[int, int]) -> None:
    assert decoded(file_of(Image.new("RGB", size))).shape == (size[1], size[0], 3)


def png(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims a size."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the picture's file is empty"),
        (b"hello" * 100, "is not a picture that can be read"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture that can be read"),
        (png(0, 5), "is not a picture that can be read"),
        (png(50_000, 50_000), "is larger than the limit of 120 million pixels, and 65,500 on a side"),
        (png(100_000, 3), "with 100,000 x 3 pixels is larger than the limit"),
        (png(300, 300, b"\0" * 50), "the picture is damaged, or not complete"),
        (png(30, 30, bytes(9000))[:50], "the picture is damaged, or not complete"),
        (b"GIF89a" + b"\xff" * 7 + b"\0" * 40, "picture"),
        (b"\xff\xd8\xff" + b"\xff\xda\0\x08" * 300, "the picture has more than 200 scans"),
        (b"\x89PNG\r\n\x1a\n" + bytes(picture_decoding.MOST_PICTURE_BYTES), "is larger than the limit of 32 MiB"),
    ],
)
def test_what_is_no_whole_picture_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(DataError) as caught:
        decoded(data)
    assert caught.value.message.startswith("p: ")
    assert message in caught.value.message


@pytest.mark.parametrize("kind", FORMATS)
def test_cut_pictures_are_refused(kind: str) -> None:
    data = file_of(picture_of_noise(30, 20, 1), kind)
    for length in (10, 60, len(data) // 2, len(data) - 40):
        with pytest.raises(DataError, match=r"^p: "):
            decoded(data[:length])


def test_decoding_ends_after_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture_decoding, "MOST_SECONDS", -1.0)
    with pytest.raises(DataError, match=r"^p: the picture takes more than -1 seconds to be decoded$"):
        decoded(file_of(picture_of_noise(30, 20, 1)))


@pytest.mark.parametrize("kind", FORMATS)
def test_mutants_are_read_or_refused(kind: str) -> None:
    """Bytes changed, doubled, left out: nothing but pixels or one sentence comes of it."""
    dice = random.Random(kind)
    original = file_of(picture_of_noise(24, 16, 1), kind)
    outcomes = {True: 0, False: 0}
    for _ in range(MUTANTS):
        data = bytearray(original)
        for _ in range(dice.choice((1, 1, 2, 8))):
            at = dice.randrange(min(len(data), dice.choice((40, 200, len(data)))))
            change = dice.randrange(4)
            if change == 0:
                data[at] = dice.randrange(256)
            elif change == 1:
                data[at : at + 4] = dice.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\1\0"))
            elif change == 2:
                del data[at : at + dice.randrange(1, 9)]
            else:
                data[at:at] = data[at : at + dice.randrange(1, 40)]
        try:
            found = decode_picture(bytes(data), "p", lambda width, height: (min(width, 64), min(height, 64)))
        except DataError as error:
            outcomes[False] += 1
            assert error.message.startswith("p: ")
        else:
            outcomes[True] += 1
            assert found.dtype == np.uint8
            assert found.shape[2] == 3
    assert min(outcomes.values()) > 0


def test_pillow_is_not_imported_before_the_first_picture() -> None:
    source = Path(picture_decoding.__file__).read_text()
    assert "\nfrom PIL" not in source
    assert "\nimport PIL" not in source
