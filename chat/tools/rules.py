"""Which calls may run without a question, and which never: `read_file(path=src/*)`.

A rule is the name of a function, with patterns for its arguments in parentheses or without; `*`, `?` and `[...]` stand
for characters as in a shell. A name of a server's function may have that of the server before it: `git/git_log`. A
rule of a yes for good ends the name with the version that the user saw, `git/git_log#0f3c...`, and allows no other.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from chat import platform
from chat.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from chat.tools.tool import RunnableTool

Verdict = Literal["allow", "deny", "ask"]
FORM = "a rule is `NAME` or `NAME(ARGUMENT=PATTERN, ...)`, such as `read_file(path=src/*)`"
_RULE = re.compile(r"(?P<name>[^\s()=,#]+)(?:#(?P<version>[0-9a-f]{16}))?(?:\((?P<patterns>.*)\))?", re.DOTALL)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_KEY = re.compile(r"\s*(?P<key>[^\s=,()\"]+)\s*=\s*")


@dataclass(frozen=True)
class ToolRule:
    """A rule.

    Attributes:
        name: the pattern of a function's name.
        patterns: (argument, pattern) of each argument that it names.
        version: of the function that it is about; empty for any.
    """

    name: str
    patterns: tuple[tuple[str, str], ...] = ()
    version: str = ""

    def __str__(self) -> str:
        name = f"{self.name}#{self.version}" if self.version else self.name
        if not self.patterns:
            return name
        return f"{name}({', '.join(f'{key}={_written(pattern)}' for key, pattern in self.patterns)})"

    def names(self, tool: RunnableTool) -> bool:
        """Whether it is about a function."""
        return fnmatchcase(tool.name, self.name) or fnmatchcase(tool.qualified_name, self.name)

    @property
    def of_any_version(self) -> ToolRule:
        """The rule without the version."""
        return replace(self, version="")

    def is_outdated(self, tool: RunnableTool) -> bool:
        """Whether it is about a function that has changed since."""
        return bool(self.version) and self.names(tool) and self.version != tool.version

    def allows(self, tool: RunnableTool, arguments: Mapping[str, Any]) -> bool:
        """Whether it lets a call run; a pattern for a path does not reach out of the path by `..` or a link."""
        if not self.names(tool) or self.is_outdated(tool):
            return False
        path = tool.source.path_argument(tool.own.name, arguments)
        texts = _texts(arguments) | ({path.key: path.written} if path is not None else {})
        patterns = [
            (key, pattern.replace(os.sep, "/") if path is not None and key == path.key else pattern)
            for key, pattern in self.patterns
        ]
        if not all(any(_matches(text, pattern) for text in texts.get(key, ())) for key, pattern in patterns):
            return False
        if path is None or not path.is_hidden:
            return True
        return any(key == path.key and _names_hidden(pattern) for key, pattern in self.patterns)

    def denies(self, tool: RunnableTool, arguments: Mapping[str, Any]) -> bool:
        """Whether it forbids a call, however the call writes a path, and by whichever name of a file."""
        if not self.names(tool):
            return False
        if not self.patterns:
            return True
        texts, path = _texts(arguments), tool.source.path_argument(tool.own.name, arguments)
        if path is not None:
            texts[path.key] = (*texts.get(path.key, ()), *path.written, *path.other_names)
        return all(
            any(_is_denied(text, pattern) for text in texts.get(key, ()))
            or (path is not None and path.key == key and path.is_same(pattern))
            for key, pattern in self.patterns
        )


@dataclass(frozen=True)
class ToolRules:
    """All rules in force; one that denies counts before those that allow."""

    allow: tuple[ToolRule, ...] = ()
    deny: tuple[ToolRule, ...] = ()

    def forbids(self, tool: RunnableTool, arguments: Mapping[str, Any]) -> bool:
        """Whether a rule denies a call."""
        return any(rule.denies(tool, arguments) for rule in self.deny)

    def verdict(self, tool: RunnableTool, arguments: Mapping[str, Any]) -> Verdict:
        """Whether a call runs, does not run, or the user is asked."""
        if self.forbids(tool, arguments):
            return "deny"
        return "allow" if any(rule.allows(tool, arguments) for rule in self.allow) else "ask"

    def with_allowed(self, rule: ToolRule) -> ToolRules:
        """The rules with one more, which replaces those for other versions of its function."""
        return replace(self, allow=with_rule(self.allow, rule))

    def are_outdated(self, tool: RunnableTool) -> bool:
        """Whether a rule once allowed calls of a function that has changed since."""
        return any(rule.is_outdated(tool) for rule in self.allow)


def with_rule(rules: Iterable[ToolRule], rule: ToolRule) -> tuple[ToolRule, ...]:
    """Rules with one more, in place of itself for any version."""
    return (*(each for each in rules if each.of_any_version != rule.of_any_version), rule)


def read_rules(texts: Iterable[str], place: str) -> tuple[ToolRule, ...]:
    """The rules that the user wrote.

    Args:
        place: where they stand, for the error.

    Raises:
        UsageError: one of them is no rule.
    """
    return tuple(read_rule(text, place) for text in texts)


def read_rule(text: str, place: str) -> ToolRule:
    """A rule.

    Raises:
        UsageError: it is none.
    """
    match = _RULE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{place}: `{text}` is not a rule for functions", hint=FORM)
    return ToolRule(match["name"], _patterns(match["patterns"] or "", text, place), match["version"] or "")


def _patterns(text: str, whole: str, place: str) -> tuple[tuple[str, str], ...]:
    """The patterns between the parentheses of a rule; one with a comma or a parenthesis is in quotes."""
    found: list[tuple[str, str]] = []
    rest = text.strip()
    while rest:
        key = _KEY.match(rest)
        if key is None:
            raise UsageError(f"{place}: `{whole}` is not a rule for functions", hint=FORM)
        rest = rest[key.end() :]
        quoted = _QUOTED.match(rest)
        if quoted is not None:
            try:
                pattern = str(json.loads(quoted[0]))
            except ValueError as error:
                raise UsageError(f"{place}: `{whole}` is not a rule for functions", hint=FORM) from error
            rest = rest[quoted.end() :].lstrip()
            if rest and not rest.startswith(","):
                raise UsageError(f"{place}: `{whole}` is not a rule for functions", hint=FORM)
            rest = rest[1:]
        else:
            pattern, _, rest = rest.partition(",")
            pattern = pattern.strip()
        found.append((key["key"], pattern))
        rest = rest.strip()
    return tuple(found)


def _written(pattern: str) -> str:
    is_plain = pattern and pattern == pattern.strip() and not re.search(r'[,()"\\\x00-\x1f]', pattern)
    return pattern if is_plain else json.dumps(pattern, ensure_ascii=False)


def _texts(arguments: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Each argument as the one text that patterns are compared with."""
    return {key: (_text(value),) for key, value in arguments.items()}


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one number for both
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _names_hidden(pattern: str) -> bool:
    """Whether a pattern is about hidden files: `*` alone is not."""
    return any(part.startswith(".") and part not in (".", "..") for part in re.split(r"[/\\]", pattern))


def _is_denied(text: str, pattern: str) -> bool:
    """Whether a pattern is about a text; where file names do not differ by case, as on macOS, nor does this."""
    pattern = platform.folded_name(pattern)
    return any(fnmatchcase(platform.folded_name(each), pattern) for each in (text, _direct(text)))


def _direct(text: str) -> str:
    return posixpath.normpath(text) if text else text


def _matches(text: str, pattern: str) -> bool:
    if ".." in re.split(r"[/\\]", text) and text != pattern:
        return False
    return fnmatchcase(text, pattern)
