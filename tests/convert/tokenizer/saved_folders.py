"""Tokenizer files as fine-tuning programs save them, made of the tiny checkpoints', and what transformers reads there.

`transformers_ids.json` holds what `AutoTokenizer` of transformers 5.24 makes of each folder: the ids of `TEXTS`, and
of `CONVERSATIONS` by `apply_chat_template`.
"""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path
from typing import Any

from convert.tokenizer.sentencepiece_file import PieceType, parse_sentencepiece
from tests.folders import CHECKPOINTS

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
INST = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
# normalizer and pre-tokenizer of tokenizer.json, as programs of different years write them
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
_DOUBLE = {"type": "Replace", "pattern": {"Regex": "\\A▁"}, "content": "▁▁"}
_PREPEND = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, _REPLACE]}


def _metaspace(scheme: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}


def _sequence(key: str, *steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}


STEPS: dict[str, tuple[Any, Any]] = {
    "prepend": (_PREPEND, None),
    **{f"metaspace-{scheme}": (None, _metaspace(scheme)) for scheme in ("first", "always", "never")},
    **{
        f"sequence-{scheme}": (_sequence("normalizers", _REPLACE), _sequence("pretokenizers", _metaspace(scheme)))
        for scheme in ("first", "always", "never")
    },
    "saved-legacy": (
        _sequence("normalizers", _REPLACE, _DOUBLE),
        _sequence("pretokenizers", _metaspace("always")),
    ),
}
FOLDERS = (
    *(f"{steps} {template}" for steps in STEPS for template in ("chatml", "inst")),
    *(f"tokenizer.model legacy={legacy} chatml" for legacy in (None, True, False)),
    *(f"llama legacy={legacy} chatml" for legacy in (None, True, False)),
)


def _texts() -> list[str]:
    dice = random.Random(8)
    letters = "  \n\tabcdefghij klmnop xyzäéß漢🙂.,;▁0123"
    made = ["".join(dice.choice(letters) for _ in range(dice.randrange(1, 24))) for _ in range(60)]
    return ["hi there", " hi", "  hi", "▁hi", "\nhi", "hi ", "a <note> b", "<note> b", " <note>", *made]


TEXTS = _texts()
CONVERSATIONS = [
    [("user", TEXTS[n % len(TEXTS)]), *([("assistant", TEXTS[n + 3]), ("user", TEXTS[n + 5])] if n % 2 else [])]
    for n in range(40)
]


def make_tokenizer_folder(folder: Path, name: str) -> int:
    """Write the tokenizer files and config.json of one of `FOLDERS`; returns how many pieces it names."""
    kind, *options, template = name.split(" ")
    source = CHECKPOINTS / ("mistral-v0.3" if template == "inst" else "mistral-v0.1")
    folder.mkdir(parents=True, exist_ok=True)
    pieces = parse_sentencepiece((source / "tokenizer.model").read_bytes(), "tokenizer.model").pieces
    names = ("<|im_start|>", "<|im_end|>", "<note>") if template == "chatml" else ("<note>",)
    added = [
        {"id": token, "content": text, "special": text != "<note>", "normalized": False, **_FLAGS}
        for token, text in enumerate(names, len(pieces))
    ]
    config: dict[str, Any] = {
        "tokenizer_class": "LlamaTokenizer" if options else "TokenizersBackend",
        "bos_token": "<s>",
        "eos_token": "<|im_end|>" if template == "chatml" else "</s>",
        "unk_token": "<unk>",
        "chat_template": CHATML if template == "chatml" else INST,
    }
    if (
        options
        and (legacy := json.loads(options[0].removeprefix("legacy=").lower().replace("none", "null"))) is not None
    ):
        config["legacy"] = legacy
    if kind == "tokenizer.model":
        shutil.copy(source / "tokenizer.model", folder)
        config["added_tokens_decoder"] = {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in [*_controls(source), *added]
        }
    else:
        made = tokenizer_json(source, *STEPS["prepend" if kind == "llama" else kind])
        made["added_tokens"] += added
        (folder / "tokenizer.json").write_text(json.dumps(made))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    model = json.loads((source / "config.json").read_text())
    if kind == "llama":
        model |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(model))
    return len(pieces) + len(names)


_FLAGS = {"single_word": False, "lstrip": False, "rstrip": False}


def _controls(source: Path) -> list[dict[str, Any]]:
    pieces = parse_sentencepiece((source / "tokenizer.model").read_bytes(), "tokenizer.model").pieces
    kinds = (PieceType.UNKNOWN, PieceType.CONTROL, PieceType.USER_DEFINED)
    return [
        {"id": token, "content": piece.text.decode(), "special": True, "normalized": False, **_FLAGS}
        for token, piece in enumerate(pieces)
        if piece.type in kinds
    ]


def tokenizer_json(source: Path, normalizer: Any = None, pre_tokenizer: Any = None) -> dict[str, Any]:
    """A tokenizer.json of a checkpoint's SentencePiece file: every way to part a piece, best score first."""
    pieces = parse_sentencepiece((source / "tokenizer.model").read_bytes(), "tokenizer.model").pieces
    ids = {piece.text.decode(): token for token, piece in enumerate(pieces)}
    ways = sorted(
        (-pieces[token].score, token, name[:at], name[at:])
        for name, token in ids.items()
        for at in range(1, len(name))
        if pieces[token].type is PieceType.NORMAL and name[:at] in ids and name[at:] in ids
    )
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text, second = ({"Sequence": {"id": which, "type_id": number}} for number, which in enumerate("AB"))
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _controls(source),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, text],
            "pair": [bos, text, second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": None,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": ids,
            "merges": [[left, right] for *_, left, right in ways],
        },
    }
