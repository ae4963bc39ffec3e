"""Compile a constraint in a process of its own, with limits of time and memory.

The process reads {"kind", "source", "space", "seconds"} and writes {"grammar"} or {"error"}. Some grammars take for
ever, some overflow the stack, and no limit of the library catches them all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from chat import platform
from chat.errors import UsageError
from chat.system.python_child import python_child
from chat.system.secrets import child_environment

if TYPE_CHECKING:
    from chat.core.request import Constraint

LONGEST_SOURCE = 1 << 18  # characters
SECONDS = 1.5  # of processor time; with Python's start a grammar that explodes is refused within two seconds
WAIT_SECONDS = 20.0  # on a busy machine
MEMORY_BYTES = 4 << 30
TRIED_STEPS, TRIED_BYTES = 3, 16  # depth and breadth of the trial of a grammar, in bytes
WALKED_BYTES, WALK_SECONDS = 256, 0.5  # of a trial answer, and for all of them
# What the library says where it gives up on a grammar with too many ways to match
_LIMITS = ("too many expressions", "Current row has", "fuel", "too large", "limit")
FLAGS = {"schema": "--schema", "lark": "--grammar", "gbnf": "--grammar", "regex": "--regex"}

TOO_COMPLEX = "too complex"


def checked_grammar(constraint: Constraint, space: bool) -> str:
    """Compile a constraint.

    Args:
        constraint: any but a choice.
        space: every answer starts with the space that SentencePiece puts before a text.

    Returns:
        The grammar in llguidance's JSON form.

    Raises:
        UsageError: the constraint does not compile, or exceeds a limit.
    """
    flag = FLAGS[constraint.kind]
    if len(constraint.source) > LONGEST_SOURCE:
        raise UsageError(
            f"the constraint of `{flag}` has {len(constraint.source):,} characters, the limit is {LONGEST_SOURCE:,}"
        )
    call = {"kind": constraint.kind, "source": constraint.source, "space": space, "seconds": SECONDS}
    try:
        done = _run(call)
    except subprocess.TimeoutExpired:
        try:
            done = _run(call)  # this process may have been stopped meanwhile
        except subprocess.TimeoutExpired as error:
            raise _too_slow(flag) from error
    if done.returncode == platform.OUT_OF_TIME:
        raise _too_slow(flag)
    if done.returncode != 0 or not done.stdout:
        raise UsageError(
            f"the constraint of `{flag}` is too complex: compiling it exceeds the limits of memory or stack"
        )
    result = json.loads(done.stdout)
    if result.get("error") == TOO_COMPLEX:
        raise UsageError(
            f"the constraint of `{flag}` is too complex: an answer would have too many ways to match it",
            hint="use fewer repetitions, numbers and alternatives in it",
        )
    if "error" in result:
        raise UsageError(f"the constraint of `{flag}` does not compile: {result['error']}")
    return str(result["grammar"])


def _run(call: dict[str, Any]) -> subprocess.CompletedProcess[bytes]:
    """Run this module, which limits its own processor time.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time.
    """
    return subprocess.run(
        python_child("chat.inference.grammar_sandbox"),
        input=json.dumps(call).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=WAIT_SECONDS,
        env=child_environment(),
    )


def _too_slow(flag: str) -> UsageError:
    return UsageError(
        f"the constraint of `{flag}` is too complex: compiling takes over {SECONDS} seconds",
        hint="use fewer repetitions, numbers and alternatives in it",
    )


def _grammar(kind: str, source: str, space: bool) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import any_to_lark

    if kind == "schema":
        inner: dict[str, Any] = {"json_schema": _with_plain_style(json.loads(source))}
    elif kind == "regex":
        if re.search(r"(?<!\\)\(\?R\)", source):  # the library reads it as a flag for line ends
            raise ValueError("it uses recursion, `(?R)`, which is not supported")
        inner = json.loads(LLMatcher.grammar_from_regex(source))["grammars"][0]
    elif kind == "gbnf":
        inner = {"lark_grammar": any_to_lark(source)}
    else:
        inner = {"lark_grammar": source}
    # Without forcing: the library would encode forced text itself, and not as this vocabulary does.
    start = 'start: " " @answer' if space else "start: @answer"
    first = {"lark_grammar": f'%llguidance {{"no_forcing": true}}\n{start}'}
    return json.dumps({"grammars": [first, {**inner, "name": "answer"}]})


def _with_plain_style(schema: Any) -> Any:
    """The schema for JSON in the style of `json.dumps`: otherwise a model could fill an answer with spaces."""
    style = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {"x-guidance": style, **schema} if isinstance(schema, dict) else schema


def _error(grammar: str, space: bool) -> str:
    """Why a grammar cannot be used, from a trial with a vocabulary of all bytes; empty: it can.

    Args:
        grammar: in llguidance's JSON form.
        space: every answer starts with a space that is not part of it.
    """
    from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

    class Bytes:
        eos_token_id = 256
        bos_token_id = None
        tokens = (*(bytes([byte]) for byte in range(256)), b"\xff[end]")
        special_token_ids = (256,)

        def __call__(self, text: bytes) -> list[int]:
            return list(text)

    matcher = LLMatcher(LLTokenizer(TokenizerWrapper(Bytes())), grammar, log_level=0)
    whole = matcher.deep_copy()
    if space:
        matcher.consume_token(ord(" "))
    following = _following(matcher)
    if not following:
        return _library_error(matcher) or "nothing can match it"
    if following == [Bytes.eos_token_id]:
        return "only an empty answer matches it"
    for _ in range(TRIED_STEPS):
        for token in following[:TRIED_BYTES]:
            trial = matcher.deep_copy()
            trial.consume_token(token)
            if trial.is_error() or not (trial.is_stopped() or _following(trial)):
                return _library_error(trial) or "it has beginnings that nothing can follow"
        matcher.consume_token(following[0])
        following = _following(matcher)
        if not following:  # that was the end
            break
    return _walk_error(whole)


def _walk_error(matcher: Any) -> str:
    """Why the library gives up in the middle of an answer: it builds what follows only when it is needed."""
    end = time.process_time() + WALK_SECONDS
    for choice in (0, -1):
        trial = matcher.deep_copy()
        for _ in range(WALKED_BYTES):
            following = [token for token in _following(trial) if token < 256]
            if not following or time.process_time() > end or not trial.consume_token(following[choice]):
                break
        if trial.is_error():
            return _library_error(trial)
    return ""


def _following(matcher: Any) -> list[int]:
    """The ids that may come next; none after the end, and none if the library reaches one of its limits here."""
    bits = matcher.compute_bitmask()
    return [token for token in range(257) if bits[token >> 3] >> (token & 7) & 1] if not matcher.is_stopped() else []


def _library_error(matcher: Any) -> str:
    """The library's error message; empty for a dead end, which it only names."""
    words = reason(str(matcher.get_error()))
    return words if matcher.is_error() and words != "NoExtensionBias" else ""


def reason(text: str) -> str:
    """The reason in the library's message, without its excerpts of the source, which hold our wrapping."""
    text = text.split("<state>")[0]
    if any(words in text for words in _LIMITS):
        return TOO_COMPLEX
    if found := re.search(r"^error: (.*)", text, re.MULTILINE):  # the format for regular expressions
        return found[1]
    text = re.split(r"\n\s*\d+ \| ", text)[0]  # the lines of the source
    text = re.sub(r"^(?:at )?(\d+)\((\d+)\): ", r"line \1, column \2: ", text)
    return " ".join(text.split())[:300]


def main() -> None:
    """Compile the constraint on stdin."""
    platform.limit_memory(MEMORY_BYTES)
    call = json.load(sys.stdin)
    platform.limit_processor_seconds(call["seconds"])
    try:
        grammar = _grammar(call["kind"], call["source"], call["space"])
        error = _error(grammar, call["space"])
    except RecursionError:
        grammar, error = "", "it is nested too deeply"
    except Exception as fault:  # the library's own, of many kinds
        grammar, error = "", reason(str(fault)) or type(fault).__name__
    json.dump({"error": error} if error else {"grammar": grammar}, sys.stdout)


if __name__ == "__main__":
    main()
