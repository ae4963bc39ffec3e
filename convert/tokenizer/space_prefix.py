"""Tell from transformers' files where a tokenizer puts a space before a text, and whether it begins with BOS."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from chat.gguf.keys import SpacePrefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Where the space goes that SentencePiece puts before a text:
#   always    before every text between control pieces, as SentencePiece itself does
#   missing   before every such text that does not begin with a space
#   first     before the first text of a prompt, unless it begins with a space
#   never     nowhere, though Mistral's own formats have one
#   none      nowhere at all
Prefix = Literal["always", "missing", "first", "never", "none"]
_SPACE = "\u2581"
_DOUBLES = {"Regex": rf"\A{_SPACE}"}  # a Replace that keeps Metaspace from leaving the space out


def space_prefix_of(data: Mapping[str, Any]) -> Prefix:
    """What a tokenizer.json says: its normalizer in older files, its pre-tokenizer in newer ones."""
    normalizers = list(_steps(data.get("normalizer"), "normalizers"))
    if any(step.get("type") == "Prepend" for step in normalizers):
        return "always"
    steps = [*normalizers, *_steps(data.get("pre_tokenizer"), "pretokenizers")]
    spaces = [step for step in steps if step.get("type") == "Metaspace"]
    if not spaces:
        return SpacePrefix.NEVER
    scheme = spaces[0].get("prepend_scheme", "always")
    if scheme == "never" or not spaces[0].get("add_prefix_space", True):
        return SpacePrefix.NEVER
    if scheme == "first":
        return SpacePrefix.FIRST
    return "always" if any(step.get("pattern") == _DOUBLES for step in normalizers) else SpacePrefix.MISSING


def space_prefix_of_config(tokenizer: Mapping[str, Any]) -> Prefix:
    """What `LlamaTokenizer` of transformers 5 makes of a tokenizer_config.json, whatever tokenizer.json says."""
    if tokenizer.get("add_prefix_space") is False:
        return SpacePrefix.NEVER
    return SpacePrefix.MISSING if tokenizer.get("legacy") is True else SpacePrefix.FIRST


def normalized_tokens(data: Mapping[str, Any]) -> list[str]:
    """The ordinary added tokens of a tokenizer.json that are looked for in the normalized text, with its space."""
    steps = _steps(data.get("normalizer"), "normalizers")
    if not any(step.get("type") == "Prepend" or step.get("pattern") == _DOUBLES for step in steps):
        return []
    tokens = [token for token in data.get("added_tokens") or () if isinstance(token, dict)]
    return [str(token.get("content")) for token in tokens if token.get("normalized") and not token.get("special")]


def begins_with_bos(data: Mapping[str, Any]) -> bool | None:
    """Whether a tokenizer.json puts a control piece before a text; None where it does not say."""
    for step in _steps(data.get("post_processor"), "processors"):
        if step.get("type") == "TemplateProcessing":
            single = step.get("single")
            return (
                isinstance(single, list)
                and bool(single)
                and isinstance(single[0], dict)
                and "SpecialToken" in single[0]
            )
    return None


def _steps(step: Any, inner: str) -> Iterator[Mapping[str, Any]]:
    """A step, or those of a sequence of steps, which are under the key `inner`."""
    if isinstance(step, dict):
        yield step
        for each in step.get(inner) or ():
            yield from _steps(each, inner)
