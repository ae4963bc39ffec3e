"""Hostile pictures on each way into the program: a picture is seen, or refused in one sentence.

The engine's process outlives all of them. Any number: `python -m tests.chat.inference.try_hostile_pictures COUNT
[--seed N] [--first PLACE]`.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import sys
import warnings
import zipfile
import zlib
from contextlib import closing
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from chat.batch.records import conversation_of
from chat.core.conversation import Conversation, Message, Picture
from chat.core.request import EngineOptions, Prompt, Request
from chat.documents.open_document import open_document, text_of_stdin
from chat.documents.pictures import picture_size, split_dropped
from chat.history.records import SessionRecord
from chat.history.session_json import from_json, to_json
from chat.worker.client import LocalBackend
from tests import hostile_commands
from tests.chat import seeing
from tests.hostile_commands import Trial

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = ((1, 1), (40, 30), (3, 200), (1, 9000), (9000, 1), (64, 64))
MODES = ("RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK", "YCbCr", "I", "F")
KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PNG", "JPEG", "WEBP", "GIF")
NUMBERS = (0, 1, 2, 0x7FFF, 0xFFFF, 65_500, 65_501, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
ENCODED_EACH = 8  # of the pictures that are decoded, one is also read by the model


def picture_file(random: Random) -> bytes:
    """The file of a valid picture, of any kind."""
    width, height = random.choice(SIZES)
    pixels = np.random.default_rng(random.randrange(1 << 30)).integers(0, 256, (height, width, 3), dtype=np.uint8)
    made, kind = Image.fromarray(pixels), random.choice(KINDS)
    options: dict[str, Any] = {}
    if random.random() < 0.3:
        options["exif"] = _exif(random)
    if random.random() < 0.2:
        options["icc_profile"] = random.choice((b"", b"x" * 300, random.randbytes(70_000), bytes(1 << 20)))
    if kind in ("PNG", "WEBP", "GIF", "TIFF") and random.random() < 0.3:
        frames = [made.rotate(90 * turn) for turn in range(random.choice((1, 3, 40)))]
        options |= {"save_all": True, "append_images": frames, "duration": random.choice((0, 20))}
    if kind == "JPEG":
        options |= {"progressive": random.random() < 0.5, "quality": random.choice((1, 50, 100))}
    if kind == "WEBP":
        options["lossless"] = random.random() < 0.5
    modes = [random.choice(MODES), "RGB"]
    if random.random() < 0.3 and kind in ("PNG", "GIF"):
        options["transparency"] = random.choice((0, 5, 255))
    for mode in modes:
        target = io.BytesIO()
        try:
            made.convert("L" if mode.startswith("I;") else mode).convert(mode).save(target, kind, **options)
            return target.getvalue()
        except (OSError, ValueError, KeyError, SystemError, TypeError, SyntaxError, struct.error):
            options = {}  # this kind has no such mode, or it wants to read the Exif block
    return seeing.file_of(pixels)


def _exif(random: Random) -> bytes:
    """An Exif block: an orientation, odd ones among them, or damaged."""
    made = Image.Exif()
    made[0x0112] = random.choice((*range(10), 65_535))
    made[0x010E] = random.choice(("\x1b[2J", "x" * 60_000, ""))
    raw = made.tobytes()
    return raw if random.random() < 0.6 else raw[: random.randrange(len(raw))] + random.randbytes(20)


def _chunk(name: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _header(random: Random, raw: bytearray) -> None:
    """Other sizes in the header, in a PNG with the right checksum."""
    sizes = random.choice(NUMBERS), random.choice(NUMBERS)
    if raw[:4] == b"\x89PNG":
        header = struct.pack(">II", *sizes) + raw[24:29]
        if random.random() < 0.3:
            header = header[:8] + bytes(random.choices(range(17), k=5))
        raw[8:33] = _chunk(b"IHDR", header)
    elif raw[:2] == b"BM":
        raw[18:26] = struct.pack("<II", *sizes)
        raw[28:30] = struct.pack("<H", random.choice((0, 1, 4, 8, 16, 24, 32, 64)))
    elif raw[:3] == b"GIF":
        raw[6:10] = struct.pack("<HH", *(size & 0xFFFF for size in sizes))
    elif raw[:2] == b"\xff\xd8":
        at = next((raw.find(mark) for mark in (b"\xff\xc0", b"\xff\xc2") if mark in raw), 2)
        raw[at + 5 : at + 9] = struct.pack(">HH", *(size & 0xFFFF for size in sizes))
    else:
        raw[20:30] = random.randbytes(10)


def _bomb(random: Random, raw: bytearray) -> None:
    """A part that unpacks to far more, or one that says so."""
    squeezed = zlib.compress(bytes(random.choice((1 << 16, 1 << 26))))
    extra = random.choice(
        (
            _chunk(b"iCCP", b"x\0\0" + squeezed),
            _chunk(b"zTXt", b"x\0\0" + squeezed),
            _chunk(b"iTXt", b"x\0\1\0\0\0" + squeezed),
            _chunk(b"acTL", struct.pack(">II", random.choice(NUMBERS), 0)),
            _chunk(b"tRNS", random.randbytes(random.choice((0, 3, 6, 300)))),
            _chunk(b"eXIf", _exif(random)),
            _chunk(b"IDAT", squeezed),
            b"\xff\xda\x00\x02" * random.choice((3, 300)),
        )
    )
    at = 33 if raw[:4] == b"\x89PNG" else random.randrange(len(raw) + 1)
    raw[at:at] = extra


def _bytes(random: Random, raw: bytearray) -> None:
    for _ in range(random.choice((1, 2, 8, 60))):
        at = random.randrange(len(raw) + 1)
        raw[at : at + random.choice((1, 1, 4))] = random.randbytes(random.choice((0, 1, 1, 4)))


def _cut(random: Random, raw: bytearray) -> None:
    del raw[random.randrange(1, len(raw) + 1) :]


def _joined(random: Random, raw: bytearray) -> None:
    """A file of two kinds: a zip archive, a page or another picture behind the picture, or inside it."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    other = random.choice((target.getvalue(), b"<html><script>x</script>", picture_file(random), b"%PDF-1.4\n"))
    at = random.choice((len(raw), random.randrange(len(raw) + 1), 8))
    raw[at:at] = other


CHANGES: tuple[Callable[[Random, bytearray], None], ...] = (_header, _header, _bomb, _bytes, _bytes, _cut, _joined)


def mutant(random: Random) -> bytes:
    """A picture's file with up to three changes, or none."""
    raw = bytearray(picture_file(random))
    for change in random.choices(CHANGES, k=random.choice((0, 1, 1, 1, 2, 3))):
        if len(raw) > 40:
            change(random, raw)
    return bytes(raw)


def _attached(folder: Path, data: bytes, random: Random) -> Picture | None:
    path = folder / random.choice(("photo.png", "a b.JPG", "x", "\x1b[2J.png", "\u202ephoto.gif"))
    path.write_bytes(data)
    split_dropped(str(path))
    return open_document(str(path)).picture


def _piped(_folder: Path, data: bytes, _random: Random) -> Picture | None:
    return next(iter(text_of_stdin(data).pictures), None)


def _in_batch(_folder: Path, data: bytes, random: Random) -> Picture | None:
    address = f"data:{random.choice(('image/png', 'text/html', ''))};base64,{base64.b64encode(data).decode()}"
    if random.random() < 0.1:
        at = random.randrange(len(address))
        address = address[:at] + random.choice(("", "%", "\n", "\x1b", "=", "\ud800")) + address[at + 1 :]
    content = [{"type": "image_url", "image_url": {"url": address}}, {"type": "text", "text": "x"}]
    made = conversation_of([{"role": "user", "content": content}], None, 1)
    return next(iter(made.path()[-1].message.pictures), None)


def _imported(_folder: Path, data: bytes, random: Random) -> Picture | None:
    picture = Picture.of_file(data, "image/png", "photo.png")
    record = SessionRecord("s", title="t", model="m", leaf="q")
    plain = json.loads(to_json(record, Conversation().add(Message("user", "x", pictures=(picture,)), "q")))
    if random.random() < 0.3:
        key = random.choice(("sha256", "media_type", "place", "data", "name"))
        plain["nodes"][0]["pictures"][0][key] = random.choice(
            (None, "", 0, -1, "x" * 64, "a" * 64, [], "\x1b[2J", 1e400)
        )
    conversation = from_json(json.dumps(plain))[1]
    return next(iter(next(iter(conversation.nodes.values())).message.pictures), None)


WAYS = {"file": _attached, "stdin": _piped, "batch": _in_batch, "import": _imported}


def try_pictures(home: Path, count: int, seed: int, first: int = 0, model: Path | None = None) -> Trial:
    """Meet hostile pictures, `count` times from the `first` of a seed on; `model` is a tiny one that sees."""
    trial = Trial()
    model = model or _tiny_model(home)
    encoder = next(model.parent.glob(f"mmproj-{model.stem}*.gguf"))
    options = EngineOptions(str(model), mmproj=str(encoder), threads=1, draft="off", repack="off")
    with closing(LocalBackend(options)) as engine, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = (engine.info(), engine.pid)[1]
        for place in range(first, first + count):
            random = Random(f"{seed}/{place}")
            way = random.choice(list(WAYS))
            label = f"{way}/{place}"
            data = mutant(random)
            trial.call(f"size/{place}", lambda data=data: picture_size(data))
            picture = trial.call(label, lambda data=data, way=way, random=random: WAYS[way](home, data, random))
            if picture is None:
                continue
            message = Message("user", "what is it?", pictures=(picture,))
            seen = trial.call(f"decoded/{place}", lambda message=message: engine.count((message,)))
            if seen and place % ENCODED_EACH == 0:
                request = Request(Prompt((message,)), max_tokens=1)
                trial.call(f"read/{place}", lambda request=request: list(engine.reply(request))[-1])
            if engine.pid != child:
                trial.faults.append(f"{label}: the engine ended")
                child = (engine.info(), engine.pid)[1]
    return trial


def _tiny_model(home: Path) -> Path:
    from convert.draft import ConversionOptions
    from convert.pipeline import convert

    folder, target = seeing.make_folder(home / "checkpoint", "small3"), home / "models" / "model.gguf"
    target.parent.mkdir()
    convert(ConversionOptions(folder, target, "F32", show_progress=False))
    return target


if __name__ == "__main__":
    sys.exit(hostile_commands.main(__doc__, try_pictures))
