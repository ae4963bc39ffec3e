"""Check on our side that a server kept an answer within its constraint: some ignore what they do not know."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from chat.errors import ChatError
from chat.remote.request_body import WRAPPED

if TYPE_CHECKING:
    from chat.core.request import Constraint
    from chat.remote.request_body import Wrapping

FLAGS = {"schema": "--schema", "lark": "--grammar", "gbnf": "--grammar", "regex": "--regex", "choice": "--choice"}


def unwrapped(text: str, wrapping: Wrapping) -> str | None:
    """The answer in the JSON that a server made of it; None if it is not in there."""
    if wrapping == "none":
        return text
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if wrapping == "object":
        plain = plain.get(WRAPPED) if isinstance(plain, dict) else None
    return plain if isinstance(plain, str) else None


def check_answer(text: str | None, constraint: Constraint) -> str:
    """A whole answer that matches its constraint.

    Args:
        text: the answer; None if the server gave none of the form that was asked for.

    Raises:
        ChatError: it does not match.
    """
    if text is None or not _matches(text, constraint):
        raise ChatError(
            f"the server's answer does not match {FLAGS[constraint.kind]}",
            hint="the server may not know such a constraint; a local model always keeps it",
        )
    return text


def _matches(text: str, constraint: Constraint) -> bool:
    if constraint.kind == "choice":
        return text in json.loads(constraint.source)
    from llguidance import LLMatcher, LLTokenizer
    from llguidance.gbnf_to_lark import any_to_lark

    if constraint.kind == "schema":
        text = text.strip()
        grammar = LLMatcher.grammar_from_json_schema(constraint.source)
    elif constraint.kind == "regex":
        grammar = LLMatcher.grammar_from_regex(constraint.source)
    else:
        grammar = LLMatcher.grammar_from_lark(any_to_lark(constraint.source))
    matcher = LLMatcher(LLTokenizer("byte"), grammar, log_level=0)
    if matcher.is_error():  # the server knows more than this library, and took it
        return True
    return bool(matcher.consume_tokens(list(text.encode("utf-8", "replace"))) and matcher.is_accepting())
