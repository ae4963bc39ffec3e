"""Collect from all files of a folder what they say of added tokens, end tokens and chat templates.

Where two files disagree, the order is that of transformers 5: tokenizer.json, tokenizer_config.json, added_tokens.json.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from chat.errors import DataError
from convert.architecture.config_reader import told
from convert.checkpoint.folder import inside
from convert.checkpoint.json_file import read_json_object, read_small_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

TEMPLATE_LIMIT_BYTES = 1_000_000
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class AddedToken:
    """A token that the tokenizer's model does not have, or has as something else."""

    id: int
    text: str
    is_special: bool  # never matched in plain text
    file: str = ""  # that names it


@dataclass(frozen=True)
class TokenizerNotes:
    """Everything beside the tokenizer's model."""

    added: tuple[AddedToken, ...]
    special: tuple[str, ...]  # names of special tokens, of which some may be without an id
    bos: str  # names; empty where they are not given
    eos: str
    bos_ids: tuple[int, ...]  # of the model's configuration
    end_ids: tuple[int, ...]
    chat_templates: Mapping[str, str]
    tokenizer: Mapping[str, Any]  # tokenizer_config.json
    model_type: str
    warnings: tuple[str, ...] = ()


def read_notes(folder: Path, fast: Mapping[str, Any]) -> TokenizerNotes:
    """Read added_tokens.json, the three configurations, special_tokens_map.json and the chat templates.

    Every one of them may be missing.

    Args:
        folder: The checkpoint.
        fast: Its tokenizer.json, empty where there is none.

    Raises:
        DataError: one of them is malformed.
    """
    config, generation, tokenizer, names = (
        read_json_object(folder / name) if (folder / name).exists() else {}
        for name in ("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json")
    )
    inner = config.get("text_config")
    config = {**inner, **config} if isinstance(inner, dict) else config
    # transformers reads special_tokens_map.json only where tokenizer_config.json does not list the added tokens
    first, second = (tokenizer, names) if "added_tokens_decoder" in tokenizer else (names, tokenizer)
    special = {**_special_names(second), **_special_names(first)}
    added, warnings = _union(folder, fast, tokenizer, frozenset(special.values()) | {*_listed(first), *_listed(second)})
    templates, template_warnings = _chat_templates(folder, tokenizer)
    return TokenizerNotes(
        added=added,
        special=tuple(dict.fromkeys((*special.values(), *_listed(first), *_listed(second)))),
        bos=special.get("bos_token", ""),
        eos=special.get("eos_token", ""),
        bos_ids=tuple(_ids(config.get("bos_token_id"))),
        end_ids=_unique((*_ids(config.get("eos_token_id")), *_ids(generation.get("eos_token_id")))),
        chat_templates=MappingProxyType(templates),
        tokenizer=tokenizer,
        model_type=str(config.get("model_type")),
        warnings=(*warnings, *_disagreeing_names(tokenizer, names), *template_warnings),
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


def _unique(ids: Iterable[int]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(ids))


def _special_names(values: Mapping[str, Any]) -> dict[str, str]:
    """The special tokens that a file names by their use."""
    return {key: text for key in _NAMED if (text := _content(values.get(key)))}


def _listed(values: Mapping[str, Any]) -> list[str]:
    """The special tokens that a file lists or names by a use of its own."""
    found: list[str] = []
    for key in _LISTS:
        value = values.get(key)
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        found += [text for item in items if (text := _content(item))]
    return found


def _disagreeing_names(tokenizer: Mapping[str, Any], names: Mapping[str, Any]) -> Iterator[str]:
    one, other = _special_names(tokenizer), _special_names(names)
    used = "tokenizer_config.json" if "added_tokens_decoder" in tokenizer else "special_tokens_map.json"
    for key in ("bos_token", "eos_token"):
        if key in one and key in other and one[key] != other[key]:
            yield (
                f"`{key}` is `{one[key]}` in tokenizer_config.json, but `{other[key]}` in special_tokens_map.json: "
                f"{used} is followed"
            )


def _union(
    folder: Path, fast: Mapping[str, Any], tokenizer: Mapping[str, Any], special: frozenset[str]
) -> tuple[tuple[AddedToken, ...], list[str]]:
    """The added tokens of all files by their ids, and where two files disagree. The first file is followed."""
    found: dict[int, AddedToken] = {}
    ids: dict[str, int] = {}
    warnings: list[str] = []
    is_special = set(special)
    sources = (*_of_fast(folder, fast), *_of_config(folder, tokenizer), *_of_old_file(folder))
    is_special |= {token.text for token in sources if token.is_special}
    for token in sources:
        known, place = found.get(token.id), ids.get(token.text)
        if known is None and place is None:
            found[token.id] = AddedToken(token.id, token.text, token.text in is_special, token.file)
            ids[token.text] = token.id
        elif known is not None and known.text != token.text:
            warnings.append(
                f"id {token.id} is `{known.text}` in {known.file}, but `{token.text}` in {token.file}: "
                f"{known.file} is followed"
            )
        elif place is not None and place != token.id:
            first = found[place]
            warnings.append(
                f"`{token.text}` has id {place} in {first.file}, but {token.id} in {token.file}: "
                f"{first.file} is followed"
            )
    return tuple(found[token] for token in sorted(found)), warnings


def _of_fast(folder: Path, fast: Mapping[str, Any]) -> list[AddedToken]:
    """Those of tokenizer.json."""
    listed = fast.get("added_tokens") or []
    path = folder / "tokenizer.json"
    if not isinstance(listed, list):
        raise DataError(f"{path}: `added_tokens` must be a list")
    tokens: list[AddedToken] = []
    for number, value in enumerate(listed):
        text, token = _content(value), value.get("id") if isinstance(value, dict) else None
        if type(token) is not int or token < 0 or not text:
            raise DataError(f"{path}: the added token {number} must have a whole number as id and a content")
        tokens.append(AddedToken(token, text, value.get("special") is True or _looks_special(text), path.name))
    return tokens


def _of_config(folder: Path, tokenizer: Mapping[str, Any]) -> list[AddedToken]:
    """Those of tokenizer_config.json."""
    path = folder / "tokenizer_config.json"
    decoder = tokenizer.get("added_tokens_decoder") or {}
    if not isinstance(decoder, dict):
        raise DataError(f"{path}: `added_tokens_decoder` must be an object")
    tokens: list[AddedToken] = []
    for key, value in decoder.items():
        text = _content(value)
        if not key.isascii() or not key.isdigit() or len(key) > 9 or not text or not isinstance(value, dict):
            raise DataError(f"{path}: the added token `{key[:60]}` must have a number and a content")
        tokens.append(AddedToken(int(key), text, value.get("special") is True or _looks_special(text), path.name))
    return tokens


def _of_old_file(folder: Path) -> list[AddedToken]:
    """Those of added_tokens.json, the oldest format, which does not say what is special."""
    path = folder / "added_tokens.json"
    if not path.exists():
        return []
    tokens: list[AddedToken] = []
    for text, token in read_json_object(path).items():
        if type(token) is not int or token < 0:
            raise DataError(f"{path}: the id of `{text[:60]}` is {told(token)}, but must be a whole number from 0")
        tokens.append(AddedToken(token, text, _looks_special(text), path.name))
    return tokens


def _looks_special(text: str) -> bool:
    """Whether a token must be one that no user's text can become, though nobody marked it."""
    return text in ("<pad>", "<mask>", "<s>", "</s>", "<unk>") or (text.startswith("<|") and text.endswith("|>"))


# --- chat templates


def _chat_templates(folder: Path, tokenizer: Mapping[str, Any]) -> tuple[dict[str, str], list[str]]:
    """The templates by name, and what to say of them; files of templates replace those of tokenizer_config.json."""
    files = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    files = {"default": folder / "chat_template.jinja", **{name: files[name] for name in files if name != "default"}}
    found = {name: _template_text(folder, path) for name, path in files.items() if path.exists()}
    stated = _stated_templates(tokenizer.get("chat_template"))
    old = folder / "chat_template.json"
    if not found and not stated and old.exists():
        stated = _stated_templates(read_json_object(old).get("chat_template"))
    if not found:
        return stated, []
    if "default" in stated and stated["default"] != found.get("default"):
        name = "chat_template.jinja" if "default" in found else "additional_chat_templates"
        return found, [f"the chat template in {name} is another one than in tokenizer_config.json: {name} is followed"]
    return found, []


def _stated_templates(given: Any) -> dict[str, str]:
    if isinstance(given, str):
        return {"default": given}
    if isinstance(given, dict):
        return {str(name): text for name, text in given.items() if isinstance(text, str)}
    if not isinstance(given, list):
        return {}
    return {
        str(item["name"]): item["template"]
        for item in given
        if isinstance(item, dict) and isinstance(item.get("name"), str) and isinstance(item.get("template"), str)
    }


def _template_text(folder: Path, path: Path) -> str:
    """The text of a file, which must not be a link out of the folder: the GGUF would hold what is there."""
    try:
        return read_small_file(inside(folder, str(path.relative_to(folder))), TEMPLATE_LIMIT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})") from error
