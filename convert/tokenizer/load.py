"""Read the tokenizer of a checkpoint folder, whichever of its files there are."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from chat.gguf.keys import SpacePrefix
from convert.checkpoint.json_file import read_small_file
from convert.tokenizer.added_tokens import AddedToken, TokenizerNotes, read_notes
from convert.tokenizer.default_system import default_system_prompt
from convert.tokenizer.prompt_formats import FORMAT_OF_SUFFIX, format_of_pieces, is_foreign
from convert.tokenizer.sentencepiece_file import Piece, PieceType, parse_sentencepiece
from convert.tokenizer.space_prefix import begins_with_bos, normalized_tokens, space_prefix_of, space_prefix_of_config
from convert.tokenizer.tekken import parse_tekken
from convert.tokenizer.tokenizer_json import load_tokenizer_json, parse_tokenizer_json
from convert.tokenizer.vocabulary import GgufVocabulary, unused_piece

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from convert.tokenizer.space_prefix import Prefix

ADDED_SCORE = -1000.0  # as llama.cpp's converter scores added tokens
SENTENCEPIECE = "tokenizer.model"
TEKKEN = "tekken.json"
FAST = "tokenizer.json"  # of transformers; it does not have the scores of SentencePiece's pieces
_ORDINARY = (PieceType.NORMAL, PieceType.USER_DEFINED)
_RESERVED = re.compile(rb"\[control_\d+\]|<SPECIAL_\d+>|\[PAD\d+\]|<\|?(reserved|unused|extra)[\w-]*\d+\|?>")
_VERSIONED = re.compile(r"tokenizer\.model\.(v(\d+)\w*)")
_MARKER = re.compile(rb"\[/?[A-Z][A-Z_0-9]*\]|<.*>")


def read_vocabulary(folder: Path, size: int) -> GgufVocabulary:
    """Read the folder's tokenizer for a model with `size` rows of embeddings.

    Raises:
        DataError: there is no tokenizer, it is malformed, or it has more pieces than the model has rows.
    """
    tekken, sentencepiece = folder / TEKKEN, _sentencepiece_file(folder)
    fast, warnings = _read_fast(folder / FAST, is_needed=not tekken.exists() and sentencepiece is None)
    if tekken.exists():
        path, vocabulary = tekken, parse_tekken(read_small_file(tekken), str(tekken))
    elif sentencepiece is not None:
        path, vocabulary = _choose(sentencepiece, folder / FAST, fast)
    elif fast:
        path, vocabulary = folder / FAST, parse_tokenizer_json(fast, str(folder / FAST))
    else:
        hint = f"put the release's `{SENTENCEPIECE}`, `{TEKKEN}` or `{FAST}` into the folder"
        raise DataError(f"{folder}: no tokenizer", hint=hint)
    notes = read_notes(folder, fast)
    known = {token.id for token in notes.added}
    pieces = vocabulary.pieces[:size] if known.issuperset(range(size, len(vocabulary.pieces))) else vocabulary.pieces
    if len(pieces) > size:
        raise DataError(f"{path}: {len(vocabulary.pieces)} pieces, but the model has rows for {size}")
    own = replace(vocabulary, pieces=pieces, warnings=(*vocabulary.warnings, *warnings))
    made = _with_prompts(_with_notes(own, notes, size, path.name), folder)
    if made.eos is None:
        hint = "name it as `eos_token` in tokenizer_config.json"
        raise DataError(f"{folder}: no file says which token ends an answer", hint=hint)
    add_bos = _add_bos(path, fast, notes)
    if vocabulary.add_bos is False:  # another family's, whose default in llama.cpp depends on the name of its rules
        add_bos = made.bos is not None and (bool(add_bos) or begins_with_bos(fast) is True)
    space_prefix = _space_prefix(made, path, fast, notes)
    said = (*made.warnings, *_normalized(fast)) if space_prefix == "always" else made.warnings
    return replace(made, space_prefix=space_prefix, add_bos=add_bos, warnings=said)


def _read_fast(path: Path, *, is_needed: bool) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """The folder's tokenizer.json, empty where there is none; one that is not needed may be unreadable, with a word."""
    if not path.exists():
        return {}, ()
    try:
        return load_tokenizer_json(read_small_file(path), str(path)), ()
    except DataError as error:
        if is_needed:
            raise
        return {}, (f"{error.message}: left out",)


def _choose(sentencepiece: Path, path: Path, fast: Mapping[str, Any]) -> tuple[Path, GgufVocabulary]:
    """The vocabulary of tokenizer.model, unless tokenizer.json has other pieces: transformers reads that one first."""
    vocabulary = _read_sentencepiece(sentencepiece)
    model = fast.get("model")
    stated = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(stated, dict):
        return sentencepiece, vocabulary
    added = {token.get("id") for token in fast.get("added_tokens") or () if isinstance(token, dict)}
    names = {token: name for name, token in stated.items() if token not in added}
    own = {token: piece.text.decode() for token, piece in enumerate(vocabulary.pieces) if token not in added}
    different = sorted(token for token in own.keys() | names.keys() if own.get(token) != names.get(token))
    if not different:
        return sentencepiece, vocabulary
    other = parse_tokenizer_json(fast, str(path))
    warning = (
        f"{path.name} and {sentencepiece.name} name {len(different)} pieces differently (the first is id "
        f"{different[0]}): {path.name} is used, as transformers does"
    )
    return path, replace(other, warnings=(*other.warnings, warning))


def _space_prefix(made: GgufVocabulary, path: Path, fast: Mapping[str, Any], notes: TokenizerNotes) -> Prefix:
    """Where the space before a text goes: Mistral's own formats are SentencePiece's, others as transformers has it."""
    if made.model != "llama" or (path.name != FAST and made.prompt_format is not None):
        return made.space_prefix
    kind = str(notes.tokenizer.get("tokenizer_class")).removesuffix("Fast")
    if notes.model_type == "llama" and kind == "LlamaTokenizer":
        return space_prefix_of_config(notes.tokenizer)
    if fast:
        return space_prefix_of(fast)
    is_new = notes.tokenizer.get("legacy") is False and made.adds_space
    return SpacePrefix.FIRST if is_new else made.space_prefix


def _normalized(fast: Mapping[str, Any]) -> Iterator[str]:
    """A warning where transformers looks for added tokens after it has put a space before the text."""
    names = normalized_tokens(fast)
    if names:
        what = (
            f"`{names[0][:60]}` is"
            if len(names) == 1
            else f"{len(names)} added tokens, the first is `{names[0][:60]}`, are"
        )
        yield (
            f"{what} marked as normalized in {FAST}: in the middle of a text, transformers can give other ids there "
            "than this program"
        )


def _add_bos(path: Path, fast: Mapping[str, Any], notes: TokenizerNotes) -> bool | None:
    """Whether prompts begin with BOS; None where llama.cpp's own rule gives what transformers does."""
    value = notes.tokenizer.get("add_bos_token")
    stated = value if isinstance(value, bool) else None
    begins = None if path.name == TEKKEN else begins_with_bos(fast)  # which transformers asks first
    if begins is None or (begins and stated is None):
        return stated
    return begins


def _sentencepiece_file(folder: Path) -> Path | None:
    """The plain name first: a fine-tune changes that one and leaves the release's versioned copies behind."""
    names = [SENTENCEPIECE, *(f"{SENTENCEPIECE}.{suffix}" for suffix in reversed(list(FORMAT_OF_SUFFIX)))]
    known = (folder / name for name in names if (folder / name).exists())
    return next(iter([*known, *_unknown_versions(folder)[::-1]]), None)


def _unknown_versions(folder: Path) -> list[Path]:
    """Files of versions that are not known here, the newest last."""
    files = {path: _VERSIONED.fullmatch(path.name) for path in folder.glob(f"{SENTENCEPIECE}.v*")}
    found = [(int(match[2]), path) for path, match in files.items() if match and match[1] not in FORMAT_OF_SUFFIX]
    return [path for _, path in sorted(found)]


def _read_sentencepiece(path: Path) -> GgufVocabulary:
    content = read_small_file(path)
    model = parse_sentencepiece(content, str(path))
    pieces = tuple(
        piece if (kind := _stored_type(piece)) is piece.type else replace(piece, type=kind) for piece in model.pieces
    )
    known = _format_of_file(path, content)
    version = "" if known else _unknown_version_of(path, content)
    return GgufVocabulary(
        model="llama",
        pre="default",
        pieces=pieces,
        bos=model.bos,
        eos=model.eos,
        space_prefix="always" if model.adds_space else "none",
        prompt_format=None if version else known or format_of_pieces({piece.text for piece in pieces}),
        unknown_version=version,
    )


def _unknown_version_of(path: Path, content: bytes) -> str:
    """The version that is not known here, if the file is of one by its suffix or a copy's; else empty."""
    for versioned in _unknown_versions(path.parent):
        if versioned == path or read_small_file(versioned) == content:
            return versioned.name.rpartition(".")[2]
    return ""


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


def _with_notes(vocabulary: GgufVocabulary, notes: TokenizerNotes, size: int, file: str) -> GgufVocabulary:
    """Write the added tokens over the pieces that `file` names, and find the ids of the named tokens."""
    pieces = list(vocabulary.pieces) + [unused_piece(token) for token in range(len(vocabulary.pieces), size)]
    ids = {piece.text: token for token, piece in enumerate(pieces)}
    warnings = [*vocabulary.warnings, *notes.warnings]
    added = (*notes.added, *_without_id(notes, ids, size))
    for token in added:
        text = token.text.encode()
        if token.id >= size:
            warnings.append(
                f"added token `{token.text}` has id {token.id}, but the model has rows for {size}: left out"
            )
        elif ids.get(text, token.id) != token.id:
            warnings.append(f"added token `{token.text}` exists already as id {ids[text]}: left out")
        else:
            old = pieces[token.id]
            if old.text != text and token.file != file and not _RESERVED.fullmatch(old.text):
                warnings.append(
                    f"id {token.id} is `{old.text.decode('utf-8', 'replace')}` in {file}, but `{token.text}` in "
                    f"{token.file}: {token.file} is followed"
                )
            ids.pop(old.text, None)
            pieces[token.id] = _added_piece(old, token)
            ids[text] = token.id
    for known in map(ids.get, map(str.encode, notes.special)):
        if known is not None and _MARKER.fullmatch(pieces[known].text) and pieces[known].type in _ORDINARY:
            pieces[known] = replace(pieces[known], type=PieceType.CONTROL)
    unused = [(token, piece) for token, piece in enumerate(pieces) if piece.type is PieceType.UNUSED]
    unnamed = [token for token, piece in unused if piece == unused_piece(token)]
    if unnamed:
        warnings.append(_unnamed_rows(unnamed))
    named = ids.get(notes.eos.encode()) if notes.eos else None
    ends = list(dict.fromkeys(end for end in (named, *notes.end_ids) if end is not None and end < size))
    begins = [start for start in (ids.get(notes.bos.encode()), *notes.bos_ids) if start is not None and start < size]
    template = notes.chat_templates.get("default")
    return replace(
        vocabulary,
        pieces=tuple(pieces),
        bos=begins[0] if begins else vocabulary.bos,
        eos=ends[0] if ends else vocabulary.eos,
        further_ends=tuple(ends[1:]),
        chat_templates=notes.chat_templates,
        prompt_format=None if is_foreign(template) else vocabulary.prompt_format,
        warnings=tuple(warnings),
    )


def _without_id(notes: TokenizerNotes, ids: Mapping[bytes, int], size: int) -> list[AddedToken]:
    """Special tokens that no file gives an id: they take the next rows of the embeddings, as in transformers."""
    known = {token.text for token in notes.added}
    names = [name for name in notes.special if name not in known and name.encode() not in ids]
    used = [token.id for token in notes.added]
    used += [token for name, token in ids.items() if name != unused_piece(token).text]
    first = max(used, default=-1) + 1
    tokens = [AddedToken(first + number, name, True, "special_tokens_map.json") for number, name in enumerate(names)]
    return [token for token in tokens if token.id < size or token.text in (notes.bos, notes.eos)]


def _unnamed_rows(unnamed: Sequence[int]) -> str:
    if not unnamed[1:]:
        row = unnamed[0]
        return f"no file names row {row} of the embeddings: it is written as `[PAD{row}]`, which no text becomes"
    return (
        f"no file names {len(unnamed)} rows of the embeddings, the first is {unnamed[0]}: they are written as "
        "`[PADn]`, which no text becomes"
    )


def _with_prompts(vocabulary: GgufVocabulary, folder: Path) -> GgufVocabulary:
    """The vocabulary with what the folder says of prompts: a template of another family, or a system prompt."""
    template = vocabulary.chat_templates.get("default")
    if is_foreign(template):
        return replace(vocabulary, unknown_version="")
    if vocabulary.unknown_version:
        warning = (
            f"the tokenizer is of version {vocabulary.unknown_version}, whose prompts are not known here; chats need "
            "`--prompt-format`"
        )
        return replace(vocabulary, warnings=(*vocabulary.warnings, warning))
    if vocabulary.prompt_format is None:
        return vocabulary
    return replace(vocabulary, system_prompt=default_system_prompt(template, folder))


def _added_piece(old: Piece, token: AddedToken) -> Piece:
    """A piece that the tokenizer's model knows keeps its score, and its type unless it is an ordinary one."""
    text = token.text.encode()
    if old.text == text and old.type is not PieceType.UNUSED:
        return replace(old, type=PieceType.CONTROL) if token.is_special and old.type in _ORDINARY else old
    if token.is_special:
        return Piece(text, ADDED_SCORE, PieceType.CONTROL)
    return Piece(token.text.replace("\u2581", " ").encode(), ADDED_SCORE, PieceType.USER_DEFINED)
