"""The log probabilities that a server gives for tokens, in the local engine's form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from chat.core.token_ids import MAX_TOKEN_ID
from chat.system.characters import whole_characters

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def token_logprobs(plain: Any) -> list[dict[str, Any]]:
    """One object for each token: `id` (null where the server gives none), `text`, `logprob`, and alternatives as `top`.

    Args:
        plain: `logprobs` of a choice: `content` of chat completions, or the parallel lists of completions.
    """
    if not isinstance(plain, dict):
        return []
    if isinstance(content := plain.get("content"), list):
        return [
            {**_entry(each), "top": [_entry(other) for other in _objects(each.get("top_logprobs"))]}
            for each in _objects(content)
        ]
    tokens, values, tops = ([*_list(plain.get(key))] for key in ("tokens", "token_logprobs", "top_logprobs"))
    tops += [None] * (len(tokens) - len(tops))
    return [
        {
            "id": None,
            "text": _text(token),
            "logprob": _finite(value),
            "top": [
                {"id": None, "text": whole_characters(text), "logprob": _finite(other)}
                for text, other in (top.items() if isinstance(top, dict) else ())
            ],
        }
        for token, value, top in zip(tokens, values, tops, strict=False)
    ]


def choice_probabilities(options: Sequence[str], tokens: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """The probability of each option, from the alternatives of the first token; None where these do not part them.

    Args:
        options: the texts of which one is the answer.
        tokens: what `token_logprobs` gives of the answer.
    """
    found = dict.fromkeys(options, 0.0)
    for token in tokens[0]["top"] if tokens else ():
        text = token["text"].lstrip()
        begun = [option for option in options if text and option.startswith(text)]
        if len(begun) > 1 or token["logprob"] is None:
            return None
        for option in begun:
            found[option] += math.exp(min(token["logprob"], 0.0))
    total = sum(found.values())
    return {option: value / total for option, value in found.items()} if total > 0 else None


def _entry(plain: dict[str, Any]) -> dict[str, Any]:
    token = plain.get("id")
    return {
        "id": token if type(token) is int and 0 <= token <= MAX_TOKEN_ID else None,
        "text": _text(plain.get("token")),
        "logprob": _finite(plain.get("logprob")),
    }


def _text(value: Any) -> str:
    return whole_characters(value) if isinstance(value, str) else ""


def _finite(value: Any) -> float | None:
    """A number that JSON has; else None."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else []


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in _list(value) if isinstance(each, dict)]
