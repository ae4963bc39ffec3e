"""Seeded broken shards, weights and archives."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from random import Random
from typing import Any

from tests.convert.adapters import make_original
from tests.convert.hostile_folders import CANARY, NAMES, TINY, Folder, content
from tests.convert.hostile_json import broken_bytes, hostile_json
from tests.convert.hostile_pickles import ATTACKS, hostile_pickles
from tests.convert.samples import (
    V01,
    hugging_face_tensors,
    make_checkpoint,
    params_of,
    safetensors_bytes,
    write_safetensors,
)
from tests.convert.torch_writer import Part, Program, Saved, archive, records


def make_shards(folder: Path) -> str:
    make_checkpoint(folder, TINY)
    tensors = hugging_face_tensors(TINY)
    names = list(tensors)
    halves = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, held in halves.items():
        write_safetensors(folder / file, {name: tensors[name] for name in held})
    (folder / "model.safetensors").unlink()
    weight_map = {name: file for file, held in halves.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return "."


def spoil_shards(files: Folder, random: Random) -> None:
    """Shards that lie elsewhere, are links, folders or FIFOs, or of which two hold one tensor."""
    index = "model.safetensors.index.json"
    data = json.loads(content(files, index))
    weight_map = data["weight_map"]
    files |= {"loop.safetensors": "loop.safetensors", "fifo.safetensors": None, "out.safetensors": "/etc/passwd"}
    files["folder/x"] = b""
    for _ in range(random.choice((1, 1, 2, 30))):
        change, name = random.randrange(6), random.choice(list(weight_map))
        if change < 3:
            weight_map[name] = random.choice(NAMES)
        elif change == 3:
            weight_map[random.choice((*NAMES, f"{name}x"))] = weight_map[name]
        elif change == 4:
            weight_map[name] = random.choice(list(weight_map.values()))
        else:
            files[f"model-{random.choice('12')}.safetensors"] = random.choice(
                (None, "/dev/zero", "/proc/self/environ", "../../outside", "model-2.safetensors", b"", b"\0" * 9)
            )
    files[index] = json.dumps(data).encode()


def make_plain(folder: Path) -> str:
    make_checkpoint(folder, TINY)
    return "."


def spoil_safetensors(files: Folder, random: Random, name: str = "model.safetensors") -> None:
    """A header that lies, or weights that are no numbers."""
    raw = content(files, name)
    length = struct.unpack("<Q", raw[:8])[0]
    header, data = json.loads(raw[8 : 8 + length]), bytearray(raw[8 + length :])
    change = random.randrange(8)
    if change == 0:
        files[name] = safetensors_bytes(hostile_json(header, random), bytes(data))
        return
    if change == 1:
        files[name] = broken_bytes(raw[: 8 + length], random) + bytes(data)
        return
    if change == 2:
        lie = random.choice((0, 1, 2, length - 1, length + 1, length + 8, 10**8, 10**8 + 1, 2**31, 2**63, 2**64 - 1))
        files[name] = safetensors_bytes(json.dumps(header).encode(), bytes(data), lie)
        return
    if change == 3:
        text = json.dumps(header).encode()
        again = random.choice((text[1:-1], b'"__metadata__":' + b"[" * random.choice((10, 100_000))))
        files[name] = safetensors_bytes(text[:-1] + b", " + again + b"}", bytes(data))
        return
    for _ in range(random.choice((1, 1, 2, 5))):
        tensor = random.choice(list(header))
        fields = header[tensor]
        if change == 4:
            fields["data_offsets"] = [
                random.choice((offset, offset + 2, offset - 2, 0, -1, 2**63, 10**30, 1.5, True, "0", None))
                for offset in fields["data_offsets"]
            ][: random.choice((1, 2, 2, 2))]
        elif change == 5:
            fields["shape"] = random.choice(
                ([], [0], [2**62, 4], [-1, -1], [1] * 70, fields["shape"][::-1], [2**32] * 2, [1, *fields["shape"]])
            )
        elif change == 6:
            fields["dtype"] = random.choice(("F64", "F32", "F16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "I64", "X"))
            other = random.choice(list(header))
            header[random.choice((other, *NAMES, f"{tensor}_scale_inv", f"{tensor[:-7]}.qweight"))] = fields
        else:
            at = random.randrange(len(data) // 2) * 2
            odd = random.choice((b"\xc0\x7f", b"\x80\x7f", b"\x80\xff", b"\xff\xff", b"\xff\x7f"))
            data[at : at + 2 * random.choice((1, 1, 500))] = odd * random.choice((1, 1, 500))
            del data[length_of(header) :]
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    files[name] = safetensors_bytes(text, bytes(data))


def length_of(header: dict[str, Any]) -> int:
    """How many bytes a header's tensors take."""
    return max(int(fields["data_offsets"][1]) for fields in header.values())


def make_torch(folder: Path) -> str:
    make_original(folder, hugging_face_tensors(TINY), 32, params_of(TINY))
    shutil.copy(V01 / "tokenizer.model", folder)
    (folder / "consolidated.safetensors").unlink()
    (folder / "consolidated.00.pth").write_bytes(archive(torch_parts()))
    return "."


def torch_parts() -> list[Part]:
    tensors = hugging_face_tensors(TINY)
    saved = [
        Saved(name, "BFloat16", array.shape, array.tobytes(), str(place))
        for place, (name, array) in enumerate(tensors.items())
    ]
    pickle = Program().state_dict(saved).code
    return records("consolidated.00", pickle, {each.key: each.data for each in saved})


def spoil_pickle(files: Folder, random: Random) -> None:
    """A program that tries to run something, or to fill the memory, in place of the list of tensors."""
    parts = torch_parts()
    *_, (_, parts[0].data) = hostile_pickles(random.randint(1, len(ATTACKS)), random.randrange(1 << 40), canary=CANARY)
    files["consolidated.00.pth"] = archive(parts)


def spoil_archive(files: Folder, random: Random) -> None:
    """Records that are packed, overlap, lie or are missing, or another kind of file."""
    parts = torch_parts()
    count: int | None = None
    for _ in range(random.choice((1, 1, 2, 4))):
        part = random.choice(parts)
        change = random.randrange(12)
        odd = random.choice((0, 1, 2, 64, 2**16, 2**31, 2**32 - 1))
        if change == 0:
            part.method = random.choice((8, 9, 12, 14, 99))
        elif change == 1:
            part.flags = random.choice((0, 1, 8, 0x2000, 0xFFFF))
        elif change == 2:
            part.listed_bytes = odd
        elif change == 3:
            part.packed_bytes = odd
        elif change == 4:
            part.start = odd
        elif change == 5:
            part.local_name = random.choice(("../x", "/x", part.name + "x"))
        elif change == 6:
            part.name = random.choice(
                ("../x", "/etc/x", "", "a//b", "consolidated.00/data/0", "other/data.pkl", "\x1b[")
            )
        elif change == 7:
            part.extra = struct.pack("<HHQQQ", 1, random.choice((8, 24, 65535)), 2**63, 2**63, 2**64 - 1)
        elif change == 8:
            parts.remove(part)
        elif change == 9:
            parts.append(Part(part.name, part.data))
        elif change == 10:
            part.data = random.choice((b"", part.data[:-1], part.data * 2, b"big"))
        else:
            count = random.choice((0, 1, 7, 65535))
    raw = archive(parts, count=count, tail=random.choice((b"", b"", b"", b"\0", b"PK\5\6")))
    if random.random() < 0.3:
        end = len(raw) - random.choice((98, 22, 400, 4000))
        raw = raw[:end] + broken_bytes(raw[end:], random)
    files["consolidated.00.pth"] = raw
