"""Parse a Hugging Face tokenizer.json as the vocabulary of a GGUF.

Fine-tunes often come with no other tokenizer file. SentencePiece's scores are not in it; the order of the merges is,
and scores that fall in that order give the same ids.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.checkpoint.json_file import load_json
from convert.tokenizer.byte_level import find_pre, normal_form
from convert.tokenizer.prompt_formats import format_of_pieces
from convert.tokenizer.sentencepiece_file import Piece, PieceType
from convert.tokenizer.space_prefix import space_prefix_of
from convert.tokenizer.tekken import KNOWN_PATTERN, PIECE_LIMIT
from convert.tokenizer.vocabulary import GgufVocabulary, unused_piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from convert.tokenizer.space_prefix import Prefix

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_TEKKEN_STARTS = ("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]")
_UNMERGED_SCORE = -1e9  # as SentencePiece scores runs of spaces that it never merges


@dataclass(frozen=True)
class _Read:
    """What a tokenizer.json says, checked for its form."""

    names: Mapping[int, str]
    special: Mapping[int, bool]  # of the added tokens
    merges: Sequence[tuple[str, ...]]
    unknown: str
    is_sentencepiece: bool
    space_prefix: Prefix
    patterns: frozenset[str]
    pre: str | None  # llama.cpp's rules for splitting text, those of another family than Mistral's
    normal_form: str


def load_tokenizer_json(content: bytes, what: str) -> dict[str, Any]:
    """The object in a tokenizer.json; `what` begins every error message.

    Raises:
        DataError: no JSON object.
    """
    try:
        data = load_json(content.decode(json.detect_encoding(content)))
        if not isinstance(data, dict):
            raise ValueError("no object")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is not a tokenizer of byte pairs ({error})") from error
    return data


def parse_tokenizer_json(data: Mapping[str, Any], what: str) -> GgufVocabulary:
    """The vocabulary of a tokenizer.json; `what` begins every error message.

    Raises:
        DataError: no byte pairs that llama.cpp reads as SentencePiece, as Tekken or as another family's.
    """
    try:
        read = _read(data)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{what} is not a tokenizer of byte pairs ({reason})") from error
    if read.is_sentencepiece or read.patterns == {KNOWN_PATTERN}:
        return _vocabulary(read)
    if not _is_tekken(read):
        if read.pre is None:
            raise DataError(
                f"{what} is a tokenizer of a kind that is not known here",
                hint="put the `tokenizer.model` or `tekken.json` of the model's release into the folder, if it has one",
            )
        if any(" " in part for merge in read.merges for part in merge):
            raise DataError(f"{what} has a merge of pieces with spaces, which a GGUF cannot hold")
        return _of_other_family(read)
    warning = (
        f"{what} splits text by another pattern than Tekken, as some releases of 2025 did by mistake: "
        "Tekken's own is used"
    )
    return replace(_vocabulary(read), warnings=(warning,))


def _is_tekken(read: _Read) -> bool:
    """Whether the special pieces are those that begin every Tekken vocabulary."""
    return all(read.names.get(token) == name and read.special.get(token) for token, name in enumerate(_TEKKEN_STARTS))


def _read(data: Any) -> _Read:
    model, added = data["model"], data.get("added_tokens") or ()
    merges = [tuple(merge.split(" ")) if isinstance(merge, str) else tuple(merge) for merge in model["merges"]]
    if any(len(merge) != 2 or not all(isinstance(part, str) for part in merge) for merge in merges):
        raise ValueError("a merge that is not of two pieces")
    is_sentencepiece = bool(model.get("byte_fallback"))
    return _Read(
        names=_names(model["vocab"], added),
        special={token["id"]: bool(token["special"]) for token in added},
        merges=merges,
        unknown=str(model.get("unk_token")),
        is_sentencepiece=is_sentencepiece,
        space_prefix=space_prefix_of(data) if is_sentencepiece else "none",
        patterns=frozenset(_patterns(data.get("pre_tokenizer"))),
        pre=None if is_sentencepiece else find_pre(data),
        normal_form=normal_form(data) or "",
    )


def _vocabulary(read: _Read) -> GgufVocabulary:
    scores = {left + right: -float(rank) for rank, (left, right) in reversed(list(enumerate(read.merges)))}
    pieces = tuple(
        _piece(read.names[token], read.special.get(token), scores if read.is_sentencepiece else None, read.unknown)
        if token in read.names
        else unused_piece(token)
        for token in range(max(read.names) + 1)
    )
    ids = {name: token for token, name in read.names.items()}
    return GgufVocabulary(
        model="llama" if read.is_sentencepiece else "gpt2",
        pre="default" if read.is_sentencepiece else "tekken",
        pieces=pieces,
        bos=ids.get("<s>", 1),
        eos=ids.get("</s>", 2),
        merges=() if read.is_sentencepiece else tuple(f"{left} {right}" for left, right in read.merges),
        add_bos=None if read.is_sentencepiece else True,
        space_prefix=read.space_prefix,
        prompt_format=format_of_pieces({piece.text for piece in pieces}) if read.is_sentencepiece else None,
    )


def _of_other_family(read: _Read) -> GgufVocabulary:
    """Byte pairs of Llama 3, Qwen, SmolLM and the like, which have no ids in common: the other files name the ends."""
    vocabulary = _vocabulary(read)
    return replace(vocabulary, pre=str(read.pre), bos=None, eos=None, add_bos=False, normal_form=read.normal_form)


def _names(vocab: Mapping[str, int], added: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Names by id; an added token replaces what the model has there."""
    names = {token: name for name, token in vocab.items()} | {token["id"]: token["content"] for token in added}
    if not names or not all(isinstance(token, int) and 0 <= token < PIECE_LIMIT for token in names):
        raise ValueError(f"ids that are not whole numbers below {PIECE_LIMIT:,}")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("a piece that is not text")
    for name in names.values():
        name.encode()
    return names


def _piece(name: str, is_special: bool | None, scores: Mapping[str, float] | None, unknown: str) -> Piece:
    """One piece; `is_special` is None for one that was not added, `scores` where the kind is SentencePiece."""
    if scores is None:
        kind = PieceType.NORMAL if is_special is None else _ADDED[is_special]
        return Piece(name.encode(), 0.0, kind)
    if name == unknown:
        return Piece(name.encode(), 0.0, PieceType.UNKNOWN)
    if is_special is not None:
        text = name if is_special else name.replace("\u2581", " ")
        return Piece(text.encode(), 0.0, _ADDED[is_special])
    if _BYTE.fullmatch(name):
        return Piece(name.encode(), 0.0, PieceType.BYTE)
    return Piece(name.encode(), scores.get(name, _UNMERGED_SCORE), PieceType.NORMAL)


_ADDED = {True: PieceType.CONTROL, False: PieceType.USER_DEFINED}


def _patterns(step: Any) -> Iterator[str]:
    """The regular expressions by which a pre-tokenizer splits text."""
    if not isinstance(step, dict):
        return
    for each in step.get("pretokenizers") or ():
        yield from _patterns(each)
    if step.get("type") == "Split":
        yield str(step["pattern"].get("Regex"))
