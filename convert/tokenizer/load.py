"""Read the tokenizer of a checkpoint folder, whichever of its files there are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.errors import DataError
from convert.checkpoint.json_file import read_small_file
from convert.tokenizer.added_tokens import AddedToken, TokenizerNotes, read_notes
from convert.tokenizer.prompt_formats import FORMAT_OF_SUFFIX, format_of_pieces, is_foreign
from convert.tokenizer.sentencepiece_file import Piece, PieceType, parse_sentencepiece
from convert.tokenizer.tekken import parse_tekken
from convert.tokenizer.tokenizer_json import parse_tokenizer_json
from convert.tokenizer.vocabulary import GgufVocabulary, unused_piece

if TYPE_CHECKING:
    from pathlib import Path

ADDED_SCORE = -1000.0  # as llama.cpp's converter scores added tokens
SENTENCEPIECE = "tokenizer.model"
TEKKEN = "tekken.json"
FAST = "tokenizer.json"  # of transformers; last, as it leaves things out that the others say
_MARKER = re.compile(rb"\[/?[A-Z][A-Z_0-9]*\]|<.*>")


def read_vocabulary(folder: Path, size: int) -> GgufVocabulary:
    """Read the folder's tokenizer for a model with `size` rows of embeddings.

    Raises:
        DataError: there is no tokenizer, it is malformed, or it has more pieces than the model has rows.
    """
    tekken, sentencepiece = folder / TEKKEN, _sentencepiece_file(folder)
    if tekken.exists():
        path, vocabulary = tekken, parse_tekken(read_small_file(tekken), str(tekken))
    elif sentencepiece is not None:
        path, vocabulary = sentencepiece, _read_sentencepiece(sentencepiece)
    elif (fast := folder / FAST).exists():
        path, vocabulary = fast, parse_tokenizer_json(read_small_file(fast), str(fast))
    else:
        hint = f"put the release's `{SENTENCEPIECE}` or `{TEKKEN}` into the folder"
        raise DataError(f"{folder}: no tokenizer", hint=hint)
    if len(vocabulary.pieces) > size:
        raise DataError(f"{path}: {len(vocabulary.pieces)} pieces, but the model has rows for {size}")
    return _with_notes(vocabulary, read_notes(folder), size)


def _sentencepiece_file(folder: Path) -> Path | None:
    """The plain name first: a fine-tune changes that one and leaves the release's versioned copies behind."""
    names = [SENTENCEPIECE, *(f"{SENTENCEPIECE}.{suffix}" for suffix in reversed(list(FORMAT_OF_SUFFIX)))]
    return next((folder / name for name in names if (folder / name).exists()), None)


def _read_sentencepiece(path: Path) -> GgufVocabulary:
    content = read_small_file(path)
    model = parse_sentencepiece(content, str(path))
    pieces = tuple(replace(piece, type=_stored_type(piece)) for piece in model.pieces)
    return GgufVocabulary(
        model="llama",
        pre="default",
        pieces=pieces,
        bos=model.bos,
        eos=model.eos,
        adds_space=model.adds_space,
        prompt_format=_format_of_file(path, content) or format_of_pieces({piece.text for piece in pieces}),
    )


def _stored_type(piece: Piece) -> PieceType:
    """A marker that llama.cpp would match in a user's text becomes one that it never does."""
    if piece.type is PieceType.USER_DEFINED and _MARKER.fullmatch(piece.text):
        return PieceType.CONTROL
    return piece.type


def _format_of_file(path: Path, content: bytes) -> str | None:
    """The format that the file's suffix names, or that of a versioned copy with the same content."""
    for suffix, prompt_format in FORMAT_OF_SUFFIX.items():
        versioned = path.with_name(f"{SENTENCEPIECE}.{suffix}")
        if versioned == path or (versioned.exists() and read_small_file(versioned) == content):
            return prompt_format
    return None


def _with_notes(vocabulary: GgufVocabulary, notes: TokenizerNotes, size: int) -> GgufVocabulary:
    pieces = list(vocabulary.pieces) + [unused_piece(token) for token in range(len(vocabulary.pieces), size)]
    ids = {piece.text: token for token, piece in enumerate(pieces)}
    warnings: list[str] = list(vocabulary.warnings)
    for token in notes.added:
        if token.id >= size:
            warnings.append(
                f"added token `{token.text}` has id {token.id}, but the model has rows for {size}: left out"
            )
        elif ids.get(token.text.encode(), token.id) != token.id:
            warnings.append(f"added token `{token.text}` exists already as id {ids[token.text.encode()]}: left out")
        else:
            pieces[token.id] = _added_piece(pieces[token.id], token)
            ids[token.text.encode()] = token.id
    ends = [end for end in notes.ends if end < size]
    template = notes.chat_templates.get("default")
    return replace(
        vocabulary,
        pieces=tuple(pieces),
        bos=vocabulary.bos if notes.bos is None or notes.bos >= size else notes.bos,
        eos=ends[0] if ends else vocabulary.eos,
        eot=ends[1] if len(ends) > 1 else None,
        add_bos=notes.add_bos,
        chat_templates=notes.chat_templates,
        prompt_format=None if is_foreign(template) else vocabulary.prompt_format,
        warnings=tuple(warnings),
    )


def _added_piece(old: Piece, token: AddedToken) -> Piece:
    """A piece that the tokenizer's model knows keeps its score, and its type unless it is an ordinary one."""
    text = token.text.encode()
    if old.text == text and old.type is not PieceType.UNUSED:
        is_ordinary = old.type in (PieceType.NORMAL, PieceType.USER_DEFINED)
        return replace(old, type=PieceType.CONTROL) if token.is_special and is_ordinary else old
    if token.is_special:
        return Piece(text, ADDED_SCORE, PieceType.CONTROL)
    return Piece(token.text.replace("\u2581", " ").encode(), ADDED_SCORE, PieceType.USER_DEFINED)
