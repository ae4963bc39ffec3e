"""tokenizer.json files as other families have them, and the ids that the library `tokenizers` gives for texts.

Usage: python -m tests.convert.tokenizer.byte_level_files
in an environment with `tokenizers`. Writes byte_level_ids.json: the merges of all files, and the ids for each.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from chat.llama.tokenizer.vocabulary import BYTE_LETTERS

REFERENCES = Path(__file__).with_name("byte_level_ids.json")
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|" + SPACES
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = CONTRACTIONS + (r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|" + SPACES)


def byte_level(*, use_regex: bool, add_prefix_space: bool = False) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": use_regex}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def split(pattern: str, behavior: str = "Isolated", *, invert: bool = False) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


DIGITS = {"type": "Digits", "individual_digits": True}
NFC = {"type": "NFC"}
# by the name of llama.cpp's rules: pre-tokenizer, normalizer, ignore_merges
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, bool]] = {
    "llama-bpe": (sequence(split(LLAMA3), byte_level(use_regex=False)), None, True),
    "smaug-bpe": (sequence(split(LLAMA3, "Removed", invert=True), byte_level(use_regex=False)), None, False),
    "qwen2": (sequence(split(QWEN2), byte_level(use_regex=False)), NFC, False),
    "qwen35": (sequence(split(QWEN35), byte_level(use_regex=False)), NFC, False),
    "smollm": (sequence(DIGITS, byte_level(use_regex=True)), None, False),
    "gpt-2": (byte_level(use_regex=True), None, False),
}
UNMERGED = ("ĠHello", "don't", "123")  # pieces that no merges make
SPECIAL = ("<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
_PARTS = (
    *("Hello", "I'll", "DON'T", "don't", "we'Re", "12345", "3.14", " ", "  ", "\n", "\n\n", "\t", "\r\n", " \n "),
    *("é", "e\u0301", "Grüße", "привет", "你好", "สวัสดี", "नमस्ते", "क्ष", "한국어", "🚀", "👩‍👩‍👧", "½", "²", "Ⅷ", "٣٤"),
    *("__init__", "()", "--", "...", "!?", "<think>", "\u00a0", "\u200b", "\u3000", "\u0085", "ſ", "ﬁ", "İ", "'S"),
    *("’s", "\x1f", "def f(x):\n    return x\n", "\u2028", "🇩🇪", "ﷺ", "Å", "𝔘", "ẞ"),
)


def texts(count: int) -> list[str]:
    dice = random.Random(4)
    found = ["".join(dice.choice(_PARTS) + dice.choice(("", "", " ")) for _ in range(9)) for _ in range(count // 2)]
    while len(found) < count:
        codes = (dice.randrange(0x20, dice.choice((0x3000, 0x1FFFF))) for _ in range(12))
        found.append("".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000))
    return found


def tokenizer_json(kind: str, merges: list[str], *, pairs: bool = False) -> dict[str, Any]:
    """A file whose pieces are the bytes, those of `merges`, `UNMERGED`, `SPECIAL` and `<think>`, in this order."""
    pre_tokenizer, normalizer, ignore_merges = KINDS[kind]
    names = dict.fromkeys((*BYTE_LETTERS, *(merge.replace(" ", "") for merge in merges), *UNMERGED))
    added = [(name, True) for name in SPECIAL] + [("<think>", False)]
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": len(names) + place, "content": name, "special": special, "normalized": False}
            | {"single_word": False, "lstrip": False, "rstrip": False}
            for place, (name, special) in enumerate(added)
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": byte_level(use_regex=True),
        "decoder": byte_level(use_regex=True),
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": ignore_merges,
            "vocab": {name: token for token, name in enumerate(names)},
            "merges": [merge.split(" ") for merge in merges] if pairs else merges,
        },
    }


def references() -> dict[str, Any]:
    """`merges`, and for every kind the `ids` of `texts(len(ids))`."""
    found: dict[str, Any] = json.loads(REFERENCES.read_text())
    return found


def _write() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=700, initial_alphabet=letters, show_progress=False)
    learner.train_from_iterator(texts(2000), trainer)
    merges = [" ".join(merge) for merge in json.loads(learner.to_str())["model"]["merges"]]
    ids = {}
    for kind in KINDS:
        tokenizer = Tokenizer.from_str(json.dumps(tokenizer_json(kind, merges)))
        ids[kind] = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts(120)]
    REFERENCES.write_text(json.dumps({"merges": merges, "ids": ids}, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    _write()
