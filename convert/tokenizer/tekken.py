"""Parse a tekken.json as the vocabulary of a GGUF.

Special pieces take the first ids, text pieces follow by rank, and merges are derived from the ranks: every way to part
a piece into two, in the order of the pieces, as llama.cpp's converter lists them.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.checkpoint.json_file import load_json
from convert.tokenizer.sentencepiece_file import Piece, PieceType
from convert.tokenizer.vocabulary import GgufVocabulary

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PIECE_LIMIT = 1_000_000
PIECE_LIMIT_BYTES = 1000  # the longest piece in use has 128
TEXT_LIMIT_BYTES = 5_000_000  # of all pieces together, which are parted at every byte; those in use have 1 million
# Files older than v7 do not list their special pieces; the source of the names is mistral-common's Tekkenizer
_OLD_SPECIALS = (
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]"),
    *("[PREFIX]", "[MIDDLE]", "[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
)
_FORMATS = {"v3": "v3-tekken", "v7": "v7-tekken", "v11": "v11", "v13": "v13", "v15": "v15"}
KNOWN_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def parse_tekken(content: bytes, what: str) -> GgufVocabulary:
    """The vocabulary of a tekken.json; `what` begins every error message.

    Raises:
        DataError: no JSON, or its pieces break a rule of the format.
    """
    try:
        data = load_json(content.decode(json.detect_encoding(content)))
        config = data["config"]
        special = _special_pieces(data, int(config["default_num_special_tokens"]))
        texts = _text_pieces(data["vocab"], int(config["default_vocab_size"]) - len(special))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError, binascii.Error) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{what} is not a Tekken vocabulary ({reason})") from error
    if config.get("pattern", KNOWN_PATTERN) != KNOWN_PATTERN:
        raise DataError(
            f"{what} splits text by another pattern than all Tekken vocabularies so far",
            hint="this program has to learn it first; update it",
        )
    vocabulary = _vocabulary(special, texts, str(config.get("version", "v3")), what)
    return replace(vocabulary, model_settings=_model_settings(data.get("model_settings_builder"), what))


def _vocabulary(special: Sequence[str], texts: Sequence[bytes], version: str, what: str) -> GgufVocabulary:
    letters = _byte_letters()
    spelled = [text.decode("latin-1").translate(letters) for text in texts]
    return GgufVocabulary(
        model="gpt2",
        pre="tekken",
        pieces=(
            *(Piece(name.encode(), 0.0, PieceType.CONTROL) for name in special),
            *(Piece(text.encode(), 0.0, PieceType.NORMAL) for text in spelled),
        ),
        bos=_id(special, "<s>", what),
        eos=_id(special, "</s>", what),
        merges=tuple(_merges(texts, spelled)),
        add_bos=True,
        space_prefix="none",
        prompt_format=_FORMATS.get(version),
        unknown_version="" if version in _FORMATS else version,
    )


def _model_settings(builder: Any, what: str) -> str:
    """The settings that the model can be told, as JSON; empty for none."""
    if builder is None:
        return ""
    effort = builder.get("reasoning_effort") if isinstance(builder, dict) else builder
    values = effort.get("values") if isinstance(effort, dict) else None
    is_list = isinstance(values, list) and all(isinstance(value, str) and value for value in values)
    if effort is not None and not (is_list and isinstance(effort, dict) and effort.get("default") in (values or ())):
        raise DataError(f"{what}: its model_settings_builder has no reasoning efforts with a default among them")
    return json.dumps(builder, ensure_ascii=False)


def _id(names: Sequence[str], name: str, what: str) -> int:
    if name not in names:
        raise DataError(f"{what} has no special piece `{name}`")
    return names.index(name)


def _special_pieces(data: Mapping[str, Any], count: int) -> list[str]:
    """Names by id; ids that the file does not name are `<SPECIAL_id>`."""
    if not 0 < count <= PIECE_LIMIT:
        raise ValueError(f"{count} special pieces")
    listed = data.get("special_tokens")
    if listed is None:
        listed = [{"rank": rank, "token_str": name} for rank, name in enumerate(_OLD_SPECIALS)]
    if len(listed) > count:
        raise ValueError(f"{len(listed)} special pieces, where {count} have room")
    names = [f"<SPECIAL_{token}>" for token in range(count)]
    for rank, token in enumerate(listed):
        if token["rank"] != rank or not isinstance(token["token_str"], str):
            raise ValueError(f"special piece {rank} is out of order")
        names[rank] = token["token_str"]
    if len(set(names)) != count:
        raise ValueError("two special pieces of one name")
    return names


def _text_pieces(vocab: Sequence[Mapping[str, Any]], count: int) -> list[bytes]:
    """The bytes of the first `count` text pieces by rank."""
    if not 256 <= count <= min(len(vocab), PIECE_LIMIT):
        raise ValueError(f"{count} text pieces wanted of {len(vocab)}")
    pieces = [base64.b64decode(entry["token_bytes"], validate=True) for entry in vocab[:count]]
    longest, total = max(map(len, pieces)), sum(map(len, pieces))
    if longest > PIECE_LIMIT_BYTES or total > TEXT_LIMIT_BYTES:
        raise ValueError(f"text pieces of {total:,} bytes, the longest of {longest:,}")
    if pieces[:256] != [bytes([byte]) for byte in range(256)]:
        raise ValueError("the first 256 text pieces are not the single bytes")
    if len(set(pieces)) != count:
        raise ValueError("two text pieces of the same bytes")
    if any(entry["rank"] != rank for rank, entry in enumerate(vocab[:count])):
        raise ValueError("text pieces out of order")
    return pieces


def _merges(pieces: Sequence[bytes], spelled: Sequence[str]) -> list[str]:
    """`left right` for every way to part each piece into two pieces, ways of one piece in the order of their ranks."""
    ranks = {piece: rank for rank, piece in enumerate(pieces)}
    merges: list[str] = []
    for rank in range(256, len(pieces)):
        piece = pieces[rank]
        ways = [
            (left, right)
            for at in range(1, len(piece))
            if (left := ranks.get(piece[:at])) is not None and (right := ranks.get(piece[at:])) is not None
        ]
        if not ways:
            raise DataError(f"text piece {rank} of the Tekken vocabulary cannot be made of two others")
        merges += [f"{spelled[left]} {spelled[right]}" for left, right in sorted(ways)]
    return merges


def _byte_letters() -> dict[int, str]:
    """GPT-2's letter for each byte: printable ones stand for themselves, the others for letters from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(others)) for byte in range(256)}
