"""Read added tokens, end tokens and chat templates from the files of a Hugging Face folder."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.architecture.config_reader import told
from convert.checkpoint.json_file import read_json_object, read_small_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TEMPLATE_LIMIT_BYTES = 1_000_000


@dataclass(frozen=True)
class AddedToken:
    """A token that the tokenizer's model does not have, or has as something else."""

    id: int
    text: str
    is_special: bool  # never matched in plain text


@dataclass(frozen=True)
class TokenizerNotes:
    """Everything beside the tokenizer's model."""

    added: tuple[AddedToken, ...]
    bos: int | None
    ends: tuple[int, ...]  # the first one is the end token
    add_bos: bool | None
    chat_templates: Mapping[str, str]


def read_notes(folder: Path) -> TokenizerNotes:
    """Read added_tokens.json, tokenizer_config.json, config.json, generation_config.json and the chat templates.

    Every one of them may be missing.

    Raises:
        DataError: one of them is malformed.
    """
    config, generation, tokenizer = (
        read_json_object(folder / name) if (folder / name).exists() else {}
        for name in ("config.json", "generation_config.json", "tokenizer_config.json")
    )
    added = _added_tokens(folder, tokenizer)
    ids = {token.text: token.id for token in added}
    end_of_tokenizer = ids.get(_content(tokenizer.get("eos_token")))
    ends = _unique([end_of_tokenizer, *_ids(config.get("eos_token_id")), *_ids(generation.get("eos_token_id"))])
    start = _unique([ids.get(_content(tokenizer.get("bos_token"))), *_ids(config.get("bos_token_id"))])
    add_bos = tokenizer.get("add_bos_token")
    return TokenizerNotes(
        added=added,
        bos=start[0] if start else None,
        ends=ends,
        add_bos=add_bos if isinstance(add_bos, bool) else None,
        chat_templates=MappingProxyType(_chat_templates(folder, tokenizer)),
    )


def _content(token: Any) -> str:
    """The text of a token that is given as text or as an object; empty when it is not given."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _ids(value: Any) -> Iterator[int]:
    for item in value if isinstance(value, list) else [value]:
        if type(item) is int and item >= 0:
            yield item


def _unique(ids: Iterable[int | None]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(token for token in ids if token is not None))


def _added_tokens(folder: Path, tokenizer: Mapping[str, Any]) -> tuple[AddedToken, ...]:
    """The later source wins: added_tokens.json is the older format and does not say what is special."""
    found: dict[int, AddedToken] = {}
    path = folder / "added_tokens.json"
    if path.exists():
        for text, token in read_json_object(path).items():
            if type(token) is not int or token < 0:
                raise DataError(f"{path}: the id of `{text[:60]}` is {told(token)}, but must be a whole number from 0")
            found[token] = AddedToken(token, text, _looks_special(text))
    path = folder / "tokenizer_config.json"
    decoder = tokenizer.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise DataError(f"{path}: `added_tokens_decoder` must be an object")
    for key, value in decoder.items():
        text = _content(value)
        if not key.isascii() or not key.isdigit() or len(key) > 9 or not text or not isinstance(value, dict):
            raise DataError(f"{path}: the added token `{key[:60]}` must have a number and a content")
        found[int(key)] = AddedToken(int(key), text, value.get("special") is True or _looks_special(text))
    return tuple(found[token] for token in sorted(found))


def _looks_special(text: str) -> bool:
    """Whether a token must be one that no user's text can become, though nobody marked it."""
    return text in ("<pad>", "<mask>", "<s>", "</s>", "<unk>") or (text.startswith("<|") and text.endswith("|>"))


def _chat_templates(folder: Path, tokenizer: Mapping[str, Any]) -> dict[str, str]:
    given = tokenizer.get("chat_template")
    jinja = folder / "chat_template.jinja"
    if given is None and jinja.exists():
        try:
            given = read_small_file(jinja, TEMPLATE_LIMIT_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"{jinja} is not UTF-8 (byte {error.start})") from error
    old = folder / "chat_template.json"
    if given is None and old.exists():
        given = read_json_object(old).get("chat_template")
    if isinstance(given, str):
        return {"default": given}
    if not isinstance(given, list):
        return {}
    return {
        str(item["name"]): item["template"]
        for item in given
        if isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)
    }
