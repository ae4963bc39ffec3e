"""Seeded broken tokenizers and chat templates, and files that take most memory or time for their size."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from random import Random
from typing import Any

from tests.chat.vocabulary_files import tekken_json
from tests.convert.hostile_folders import STRINGS, Folder, content
from tests.convert.hostile_json import ODD_VALUES, broken_bytes, hostile_json
from tests.convert.samples import V01, Sizes, make_checkpoint, safetensors_bytes
from tests.convert.tokenizer.byte_level_files import references, tokenizer_json


def make_tuned(folder: Path) -> str:
    make_checkpoint(folder, Sizes(layers=1, width=64, heads=2, kv_heads=1, head_dim=32, hidden=64, vocabulary=514))
    named = {"content": "<|im_start|>", "lstrip": False, "special": True}
    settings = {
        "added_tokens_decoder": {"512": named, "513": {**named, "content": "<|im_end|>"}},
        "chat_template": [{"name": "default", "template": "{{ messages }}"}, {"name": "tools", "template": "{{ x }}"}],
        "eos_token": {"content": "<|im_end|>"},
        "add_bos_token": True,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 513], "bos_token_id": 1}))
    return "."


def spoil_template(files: Folder, random: Random) -> None:
    """Templates that are bombs, are no templates, or would steer a terminal, in any of the files that hold one."""
    text = "".join(
        random.choices((*STRINGS, "[INST] {{ m }} [/INST]", "{{ messages[0].content }}"), k=random.randint(1, 3))
    )
    place = random.randrange(5)
    if place == 0:
        files["chat_template.jinja"] = random.choice((text.encode("utf-8", "replace"), b"\xff\xfe", None, "/dev/zero"))
    elif place == 1:
        files["chat_template.json"] = json.dumps({"chat_template": random.choice((text, [text], {"a": text}))}).encode()
    elif place == 2:
        files["additional_chat_templates/x.jinja"] = text.encode("utf-8", "replace")
        files["additional_chat_templates/\x1b[2J.jinja"] = text.encode("utf-8", "replace")
    else:
        settings = json.loads(content(files, "tokenizer_config.json"))
        odd = random.choice((text, [{"name": text, "template": text}] * 2, [{"name": 1}], {"default": text}, 7))
        settings["chat_template"] = odd
        files["tokenizer_config.json"] = json.dumps(settings).encode()
    if random.random() < 0.2:
        files["SYSTEM_PROMPT.txt"] = random.choice((text.encode("utf-8", "replace"), b"\xff", b"\0", None, "/dev/zero"))


def make_byte_level(folder: Path) -> str:
    merges = references()["merges"][:200]
    data = tokenizer_json("llama-bpe", merges)
    rows = len(data["model"]["vocab"]) + len(data["added_tokens"])
    make_checkpoint(folder, Sizes(1, 64, 2, 1, 32, 64, rows))
    (folder / "tokenizer.model").unlink()
    (folder / "tokenizer.json").write_text(json.dumps(data))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|end_of_text|>"}))
    return "."


def spoil_tokenizer(files: Folder, random: Random) -> None:
    """Patterns, merges and pieces that are bombs, cycles or half characters."""
    name = "tokenizer.json"
    data = json.loads(content(files, name))
    model, change = data["model"], random.randrange(9)
    if change == 0:
        split = {"type": "Split", "pattern": {"Regex": random.choice(STRINGS)}, "behavior": "Isolated", "invert": False}
        data["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [split] * random.choice((1, 1000))}
    elif change == 1:
        deep = random.choice((10, 200, 330, 480, 5000))
        key = random.choice(("pretokenizers", "normalizers"))
        data[random.choice(("pre_tokenizer", "normalizer", "post_processor"))] = "DEEP"
        text = f'{{"type": "Sequence", "{key}": [' * deep + "]}" * deep
        files[name] = json.dumps(data).replace('"DEEP"', text).encode()
        return
    elif change == 2:
        odd = ("", " ", "a", "a b c", ["a"], ["a", "b", "c"], [1, 2], ["\ud800", "b"], None, {}, "he he", ["a b", "c"])
        model["merges"] = [random.choice((*odd, *model["merges"][:5])) for _ in range(random.choice((1, 5, 2000)))]
    elif change == 3:
        for piece in random.sample(list(model["vocab"]), random.choice((1, 3, 100))):
            model["vocab"][piece] = random.choice((-1, 0, 5, 10**6, 2**31, 2**64, 1.5, True, None, "7", [], 1e308))
    elif change == 4:
        piece = random.choice(("\ud800", "\0", "x" * 70_000, "\x1b[2J", "<0x00>", "[EMPTY_3]", "", "\udfff\ud800"))
        model["vocab"][piece] = random.choice((len(model["vocab"]), 3, 99_999))
    elif change == 5:
        odd = random.choice(ODD_VALUES)
        token = {"id": 3, "content": "x", "special": True, random.choice(("id", "content", "special")): odd}
        data["added_tokens"] = [*data["added_tokens"], token] * random.choice((1, 2))
    elif change == 6:
        model[random.choice(list(model))] = random.choice((*ODD_VALUES, *STRINGS))
    elif change == 7:
        model["vocab"] = {f"p{number}": number * random.choice((0, 1)) for number in range(random.choice((0, 1, 3000)))}
    else:
        files[name] = hostile_json(data, random)
        return
    files[name] = json.dumps(data).encode()


def varint(value: int) -> bytes:
    raw = b""
    while value >= 0x80:
        raw, value = raw + bytes([value & 0x7F | 0x80]), value >> 7
    return raw + bytes([value])


def spoil_sentencepiece(files: Folder, random: Random) -> None:
    """A protobuf with false lengths, messages in messages, odd wire types, and pieces of any content."""
    name, change = "tokenizer.model", random.randrange(5)
    raw = content(files, name)
    if change == 0:
        files[name] = broken_bytes(raw, random)
        return
    made = raw
    for _ in range(random.choice((1, 1, 3, 50))):
        number = random.choice((1, 1, 1, 2, 3, 5, 41, 2**29 - 1, 2**40))
        text = random.choice(
            (b"<s>", b"\xff", b"", b"\xed\xa0\x80", b"x" * 5000, b"\x1b[2J", b"a\0b", b"<0x00>", b"[INST]")
        )
        score = random.choice((b"\0\0\xc0\x7f", b"\0\0\x80\x7f", b"\0\0\x80\xff", b"\0\0\0\0", b"\0\0"))
        kind = random.choice((0, 1, 2, 3, 4, 5, 6, 7, 2**31, 2**63))
        piece = b"\n" + varint(len(text)) + text + b"\x15" + score + b"\x18" + varint(kind)
        odd = random.choice(
            (
                varint(number << 3 | 2) + varint(len(piece)) + piece,
                varint(number << 3 | 2) + varint(random.choice((2**31, 2**63, 2**64 - 1, len(raw)))) + piece,
                varint(number << 3 | random.choice((0, 1, 3, 4, 5, 6, 7))) + piece,
                b"\xff" * random.choice((9, 10, 11, 100)),
                b"\n\x02" * random.choice((3, 3000)),
                b"\x12\x06\x18" + varint(random.choice((1, 3, 4, 2**40)))[:4].ljust(5, b"\0"),
                b"\x12\x07\xc8\x02" + varint(random.choice((0, 511, 512, 2**31, 2**63)))[:5].ljust(5, b"\0"),
            )
        )
        made = odd + made if random.random() < 0.5 else made + odd
    files[name] = made[: random.randrange(len(made))] if change == 1 else made


def make_tekken(folder: Path) -> str:
    make_checkpoint(folder, Sizes(1, 64, 2, 1, 32, 64, 600))
    (folder / "tokenizer.model").unlink()
    (folder / "tekken.json").write_bytes(tekken_json("v7", 500))
    return "."


def spoil_tekken(files: Folder, random: Random) -> None:
    """Odd counts, ranks, bytes and patterns."""
    name, change = "tekken.json", random.randrange(6)
    data = json.loads(content(files, name))
    if change == 0:
        files[name] = hostile_json(data, random)
        return
    if change == 1:
        data["config"][random.choice(list(data["config"]))] = random.choice((*ODD_VALUES, *STRINGS))
    elif change == 2:
        entry = random.choice(data["vocab"])
        entry[random.choice(list(entry))] = random.choice((*ODD_VALUES, *STRINGS))
    elif change == 3:
        raw = random.choice((b"", b"\0", b"a" * 20_000, b"ab" * 300, b"\xff\xfe", random.randbytes(8)))
        random.choice(data["vocab"][256:])["token_bytes"] = base64.b64encode(raw).decode() + random.choice(
            ("", "=", " ")
        )
    elif change == 4:
        token = random.choice(data["special_tokens"])
        token[random.choice(list(token))] = random.choice((*ODD_VALUES, *STRINGS, "<s>", "</s>"))
    else:
        data[random.choice((*data, "multimodal", "audio", "model_settings_builder"))] = random.choice(ODD_VALUES)
    files[name] = json.dumps(data).encode()


def make_bomb_folder(folder: Path) -> str:
    make_byte_level(folder)
    shutil.copy(V01 / "tokenizer.model", folder / "spare.model")
    (folder / "spare.json").write_bytes(tekken_json("v7", 300))
    return "."


def spoil_with_bomb(files: Folder, random: Random) -> None:
    """Files within their limits that take most memory or time for their size."""
    bomb = random.randrange(20)
    data: Any = json.loads(content(files, "tokenizer.json"))
    lists = random.choice((b"[],", b"{},", b'{"a":0},', b"[[]],", b'"",', b"1.5,", b'"\xc3\xa9\xf0\x9f\x98\x80",'))
    listed = b'{"a": [' + lists * (90_000_000 // len(lists)) + b"0]}"
    if bomb < 5:
        name = ("config.json", "tokenizer.json", "tokenizer_config.json", "tekken.json", "special_tokens_map.json")[
            bomb
        ]
        files[name] = listed
    elif bomb == 5:
        files["model.safetensors"] = safetensors_bytes(listed, b"")
    elif bomb == 6:
        data["model"]["merges"] = ["a b"] * random.choice((10**6, 3 * 10**6))
    elif bomb == 7:
        data["model"]["vocab"] = {f"p{number}": number for number in range(10**6)}
    elif bomb == 8:
        data["added_tokens"] = [{"id": n, "content": f"<{n}>", "special": True} for n in range(500_000)]
    elif bomb in (9, 10, 11):
        tekken = json.loads(content(files, "spare.json"))
        long = ([b"a" * 20_000_000], [b"a" * 10_000] * 2000, [b"a%d" % number * 100 for number in range(90_000)])[
            bomb - 9
        ]
        for rank, raw in enumerate(long, len(tekken["vocab"])):
            tekken["vocab"].append({"rank": rank, "token_bytes": base64.b64encode(raw).decode(), "token_str": None})
        tekken["config"]["default_vocab_size"] = len(tekken["vocab"]) + tekken["config"]["default_num_special_tokens"]
        files["tekken.json"] = json.dumps(tekken).encode()
    elif bomb in (12, 13, 14):
        fields = (b"\n\0" * 45_000_000, b"\x08\0" * 45_000_000, b"\x12\x80\x80\x80\x20" + b"\x08\0" * 33_554_432)
        files["tokenizer.model"] = fields[bomb - 12]
    elif bomb == 15:
        pieces = b"".join(
            b"\n" + bytes([len(b"%d" % n) + 2]) + b"\n" + bytes([len(b"%d" % n)]) + b"%d" % n for n in range(999_999)
        )
        files["tokenizer.model"] = pieces + b"\x12\x02\x18\x02"
    elif bomb in (16, 17, 18):
        what = ("{{ a }}", "{% if a %}{% endif %}", "+ a ")[bomb - 16] * 50_000
        start = "{% set default_system_message = a " if bomb == 18 else "{% set default_system_message = 'x' %}"
        files["chat_template.jinja"] = f"[INST] {start}{what}{' %}' if bomb == 18 else ''}".encode()
    else:
        old = {f"<t{number}>": 10_000 + number for number in range(400_000)}
        files["added_tokens.json"] = json.dumps(old).encode()
    if bomb in (6, 7, 8):
        files["tokenizer.json"] = json.dumps(data).encode()
