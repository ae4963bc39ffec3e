"""Tell by which of llama.cpp's rules a tokenizer.json of byte-level byte pairs splits and normalizes text.

llama.cpp names the rules in `tokenizer.ggml.pre` (src/llama-vocab.cpp, `llm_tokenizer_bpe`); a name also says whether a
word that is a piece is taken as it is, without merges. Rules that llama.cpp lacks have no name here.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"
# The steps of a pre-tokenizer: a regular expression that splits, or one of these
_BYTES = "bytes"  # bytes become letters, text is not split
_WORDS = "words"  # the same after GPT-2's own regular expression
_DIGITS = "digits"  # every digit is a word
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
_QWEN35 = (
    rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
    rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_SPACES}"
)
# By the steps, and whether a word that is a piece ignores the merges
_NAMES: Mapping[tuple[tuple[str, ...], bool], str] = MappingProxyType(
    {
        ((_LLAMA3, _BYTES), True): "llama-bpe",
        ((_LLAMA3, _BYTES), False): "smaug-bpe",
        ((_QWEN2, _BYTES), False): "qwen2",
        ((_QWEN35, _BYTES), False): "qwen35",
        ((_DIGITS, _WORDS), False): "smollm",
        ((_WORDS,), False): "gpt-2",
    }
)


def find_pre(data: Mapping[str, Any]) -> str | None:
    """The value of `tokenizer.ggml.pre` for a tokenizer.json, or None where llama.cpp lacks its rules.

    Args:
        data: The parsed file.
    """
    model = data["model"]
    if model.get("type", "BPE") != "BPE" or model.get("dropout"):
        return None
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        return None
    if normal_form(data) is None:
        return None
    return _NAMES.get((tuple(_steps(data.get("pre_tokenizer"))), bool(model.get("ignore_merges"))))


def normal_form(data: Mapping[str, Any]) -> str | None:
    """The Unicode normal form that a tokenizer.json gives text, "" for none; None where it changes text otherwise."""
    kinds = [str(step.get("type")) for step in _leaves(data.get("normalizer"), "normalizers")]
    return {(): "", ("NFC",): "NFC"}.get(tuple(kinds))


def _steps(pre_tokenizer: Any) -> Iterator[str]:
    for step in _leaves(pre_tokenizer, "pretokenizers"):
        yield _STEPS.get(str(step.get("type")), _unknown)(step)


def _leaves(step: Any, inner: str) -> Iterator[Mapping[str, Any]]:
    """A step, or those of a sequence of steps, which are under the key `inner`."""
    if not isinstance(step, dict):
        return
    if step.get("type") != "Sequence":
        yield step
    for each in step.get(inner) or ():
        yield from _leaves(each, inner)


def _split(step: Mapping[str, Any]) -> str:
    """The regular expression of a Split that keeps what it matches and all the rest; each of ours matches any text."""
    pattern = step.get("pattern")
    how = (step.get("behavior"), bool(step.get("invert")))
    if how not in (("Isolated", False), ("Removed", True)) or not isinstance(pattern, dict):
        return _unknown(step)
    return str(pattern.get("Regex"))


def _byte_level(step: Mapping[str, Any]) -> str:
    if step.get("add_prefix_space", True):
        return _unknown(step)
    return _WORDS if step.get("use_regex", True) else _BYTES


def _digits(step: Mapping[str, Any]) -> str:
    return _DIGITS if step.get("individual_digits") else _unknown(step)


def _unknown(step: Mapping[str, Any]) -> str:
    return f"unknown {step.get('type')}"


_STEPS = {"Split": _split, "ByteLevel": _byte_level, "Digits": _digits}
