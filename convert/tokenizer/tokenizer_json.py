"""Parse a Hugging Face tokenizer.json as the vocabulary of a GGUF.

Fine-tunes often ship no other tokenizer file. SentencePiece's scores are not in it; the order of the merges is, and
scores that fall in that order give the same ids.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.tokenizer.prompt_formats import format_of_pieces
from convert.tokenizer.sentencepiece_file import PIECE_LIMIT, Piece, PieceType
from convert.tokenizer.tekken import KNOWN_PATTERN
from convert.tokenizer.vocabulary import GgufVocabulary, unused_piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_UNMERGED_SCORE = -1e9  # as SentencePiece scores runs of spaces that it never merges


@dataclass(frozen=True)
class _Read:
    """What a tokenizer.json says, checked for its form."""

    names: Mapping[int, str]
    special: Mapping[int, bool]  # of the added tokens
    merges: Sequence[tuple[str, ...]]
    unknown: str
    is_sentencepiece: bool
    adds_space: bool
    patterns: frozenset[str]


def parse_tokenizer_json(content: bytes, what: str) -> GgufVocabulary:
    """The vocabulary of a tokenizer.json; `what` begins every error message.

    Raises:
        DataError: no JSON, or no byte pairs that llama.cpp reads as SentencePiece or Tekken.
    """
    try:
        read = _read(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{what} is not a tokenizer of byte pairs ({reason})") from error
    if not read.is_sentencepiece and read.patterns != {KNOWN_PATTERN}:
        raise DataError(f"{what} is a tokenizer of another kind than Mistral's", hint="it needs `tokenizer.model`")
    return _vocabulary(read)


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
        adds_space=is_sentencepiece and _adds_space(data),
        patterns=frozenset(_patterns(data.get("pre_tokenizer"))),
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
        adds_space=read.adds_space,
        prompt_format=format_of_pieces({piece.text for piece in pieces}) if read.is_sentencepiece else None,
    )


def _names(vocab: Mapping[str, int], added: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """Names by id; an added token replaces what the model has there."""
    names = {token: name for name, token in vocab.items()} | {token["id"]: token["content"] for token in added}
    if not names or not all(isinstance(token, int) and 0 <= token < PIECE_LIMIT for token in names):
        raise ValueError(f"ids that are not whole numbers below {PIECE_LIMIT:,}")
    if not all(isinstance(name, str) for name in names.values()):
        raise ValueError("a piece that is no text")
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


def _adds_space(data: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text: by the normalizer in older files, by the pre-tokenizer in newer ones."""
    steps = [data.get("normalizer") or {}, data.get("pre_tokenizer") or {}]
    steps += [each for step in steps for each in step.get("normalizers", [])]
    if any(step.get("type") == "Prepend" for step in steps):
        return True
    spaces = [step for step in steps if step.get("type") == "Metaspace"]
    return any(
        step.get("prepend_scheme", "always") != "never" and step.get("add_prefix_space", True) for step in spaces
    )
