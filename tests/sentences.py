"""List every sentence that a user can see, from the code: `python -m tests.sentences`.

The list is in sentences.txt, so that all of them can be read in one sitting. A part that is filled in at run time is
in braces, as in the code.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LIST = Path(__file__).with_name("sentences.txt")
PACKAGES = ("chat", "convert")
FILLED = "\N{REPLACEMENT CHARACTER}"
WORD = re.compile(r"[\"'“(`*-]*(?:[A-Za-z]?[a-z'’-]+|I|a|" + FILLED + r"\S*)[\"'”)`,.:;?!*]*(?:\s|$)")
LETTERS = re.compile(r"[A-Za-z]?[a-z]{2,}")
NO_SENTENCE = re.compile(  # queries, styles of terminal and page, markup, grammars, shell scripts, types
    r"^(SELECT|INSERT|UPDATE|DELETE|CREATE|ALTER|DROP|PRAGMA|BEGIN|ATTACH|FROM|WHERE|AND|JOIN|SET|ORDER|WITH|n\.|s\.) |"
    r"^(<|[A-Za-z]+:[^ ]+;|\.TH|\.PP|%llg|!|#compdef|_mistral_chat|\{seen\}|root ::=|start:)|"
    r"^(complete -c |bind |case |words='|bytes |\{name\}\(\)|json list|id and text|blocks with id)|"
    r"^(s\.|nodes\.|Bearer |wire type|default-src|page_size|\(\{PROGRAM\}|'\*:)|__fish|mistral_chat_names|"
    r"\b(no)?(reverse|dim|bold|italic|underline|cyan)\b.*\b(dim|bold|italic|underline|reverse|link)\b|"
    r"^\{\S+\} (bold|dim|cyan|link)|\w\s*\{[^}]*:[^}]*;|\| None$"
)
NOT_SHOWN = {  # functions whose arguments are for developers or machines
    *(
        "compile",
        "search",
        "match",
        "sub",
        "split",
        "replace",
        "startswith",
        "endswith",
        "removeprefix",
        "removesuffix",
    ),
    *("debug", "info", "exception", "log", "execute", "executescript", "executemany", "cast", "TypeVar", "getLogger"),
    *("TypeError", "NotImplementedError", "AssertionError"),
}
MODEL_INPUT = {"chat/guide/facts.py", "chat/guide/features.py", "chat/guide/topics.py"}  # what the guide's model reads


def sentences() -> str:
    """The list: each file's path, then its sentences in the order of the code, each indented."""
    parts = []
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            found = list(dict.fromkeys(_in_code(path.read_text(encoding="utf-8"))))
            if found and name not in MODEL_INPUT:
                parts.append(f"{name}\n" + "".join(f"    {each}\n" for each in found))
    return "\n".join(parts)


def _in_code(code: str) -> list[str]:
    finder = _Finder()
    finder.visit(ast.parse(code))
    return finder.found


class _Finder(ast.NodeVisitor):
    """Collects string literals that read as sentences; docstrings count only where a command shows them as its help."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_Expr(self, node: ast.Expr) -> None:
        if not isinstance(node.value, ast.Constant):
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        is_command = any(
            "command" in ast.unparse(each) or "callback" in ast.unparse(each) for each in node.decorator_list
        )
        if is_command and (text := ast.get_docstring(node)):
            self._take(text, text)
        self.generic_visit(node)

    def visit_Assert(self, _node: ast.Assert) -> None:
        """An assertion's message is for developers."""

    def visit_Compare(self, node: ast.Compare) -> None:
        """A text that another is compared with is not shown."""
        for each in (node.left, *node.comparators):
            if not isinstance(each, (ast.Constant, ast.JoinedStr, ast.Tuple, ast.Set, ast.List)):
                self.visit(each)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        """A key or a type shows nothing, except the help of an option that an annotation holds."""
        self.visit(node.value)
        if ast.unparse(node.value) == "Annotated":
            self.visit(node.slice)

    def visit_arg(self, node: ast.arg) -> None:
        if isinstance(node.annotation, ast.Subscript):
            self.visit(node.annotation)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if isinstance(node.annotation, ast.Subscript):
            self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name not in NOT_SHOWN:
            self.generic_visit(node)
            return
        for each in (node.func, *node.args):
            if not isinstance(each, (ast.Constant, ast.JoinedStr)):
                self.visit(each)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str):
            self._take(node.value, node.value)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        text = plain = ""
        for each in node.values:
            if isinstance(each, ast.Constant):
                text, plain = text + each.value, plain + each.value
            elif isinstance(each, ast.FormattedValue):
                text += "{" + ast.unparse(each.value) + "}"
                plain += FILLED
                self.visit(each.value)
        self._take(text, plain)

    def _take(self, text: str, plain: str) -> None:
        """Adds the text if it reads as a sentence or part of one.

        Args:
            text: what is listed.
            plain: the same with `FILLED` for every part that is filled in.
        """
        text, plain = " ".join(text.split()), " ".join(plain.split())
        words = WORD.findall(plain)
        if len(words) > 1 and any(LETTERS.search(each) for each in words) and not NO_SENTENCE.search(text):
            self.found.append(text)


if __name__ == "__main__":
    LIST.write_text(sentences(), encoding="utf-8")
