"""The question before a call runs, and what its answers mean."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from chat.errors import UsageError
from chat.tools.rules import ToolRule, read_rule

if TYPE_CHECKING:
    from chat.tools.runner import PreparedCall

CHOICES = "y yes · s yes in this session · a always · n no · or say what to do instead"
HELP = "y, s, a or n; `s` and `a` may have a pattern after them, such as `a path=src/*`"
LONGEST_DESCRIPTION = 400  # characters, of a function that has changed
_WORDS = {"y": "y", "yes": "y", "n": "n", "no": "n", "s": "s", "session": "s", "a": "a", "always": "a"}


@dataclass(frozen=True)
class Decision:
    """What the user decided about a call.

    Attributes:
        runs: whether it runs.
        words: what the model should do instead; empty for nothing.
        rule: what else may run without a question; None for nothing.
        lasts: how long the rule counts.
    """

    runs: bool
    words: str = ""
    rule: ToolRule | None = None
    lasts: Literal["session", "always"] = "session"


def changed_note(prepared: PreparedCall) -> str:
    """What the user should know before they allow a function again that has changed."""
    assert prepared.tool is not None
    own = prepared.tool.own
    words = " ".join(own.description.split())[:LONGEST_DESCRIPTION]
    names = ", ".join(own.parameters.get("properties", {})) or "none"
    shown = f"{words or 'no description'} (arguments: {names})"
    return f"{prepared.tool.qualified_name} has changed since you allowed it: {shown}"


def read_decision(text: str, prepared: PreparedCall) -> Decision | None:
    """The decision that a line stands for; None if it is not clear, and is to be asked again.

    Raises:
        UsageError: it is a pattern that does not match the call.
    """
    word, _, rest = text.strip().partition(" ")
    meant = _WORDS.get(word.lower())
    if not word or (len(word) == 1 and meant is None and not rest):
        return None
    if meant in ("y", "n") and not rest:
        return Decision(meant == "y")
    is_pattern = "=" in rest.partition(" ")[0]
    if meant in ("s", "a") and (not rest or is_pattern):
        assert prepared.tool is not None and prepared.arguments is not None
        name = prepared.tool.qualified_name
        rule = read_rule(f"{name}({rest.strip()})", "the pattern") if rest else ToolRule(name)
        rule = replace(rule, version=prepared.tool.version)
        if rest and not rule.allows(prepared.tool, prepared.arguments):
            raise UsageError(f"`{rule.of_any_version}` does not allow this call", hint=HELP)
        return Decision(True, rule=rule, lasts="session" if meant == "s" else "always")
    return Decision(False, text.strip())
