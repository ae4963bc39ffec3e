"""Documents, chapters of the README and files of the tests that a comment or a docstring names are there."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
CHAPTERS = set(re.findall(r"^#+ (.+)$", README, re.MULTILINE))
CITED_FILE = re.compile(r"[\w./-]*\w\.md\b|\btests/[\w./-]*\w")
CITED_CHAPTER = re.compile(r"README(?:\.md)?(?:'s)?,? (?:chapter )?[\"“]([^\"”]+)[\"”]")
PARTS_OF_CITATIONS = (".md", "tests/", "README")
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def explanations(source: str) -> Iterator[str]:
    """Every comment and docstring of a module."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, DOCUMENTED):
            yield " ".join((ast.get_docstring(node) or "").split())


def missing(text: str, folder: Path) -> list[str]:
    """What a text in a module of `folder` cites and is not there; a path may begin at the folder or at one above it."""
    folders = [folder, *(each for each in folder.parents if each.is_relative_to(ROOT))]
    files = [name for name in CITED_FILE.findall(text) if not any((each / name).exists() for each in folders)]
    return files + [name for name in CITED_CHAPTER.findall(text) if name not in CHAPTERS]


def test_everything_that_is_cited_exists() -> None:
    """Four places gave a document and a chapter as their reason that were never part of the repository."""
    modules = [path for top in ("chat", "convert", "tests") for path in (ROOT / top).rglob("*.py")]
    assert len(modules) > 400
    sources = {path: path.read_text(encoding="utf-8") for path in modules}
    lost = {
        str(path.relative_to(ROOT)): names
        for path, source in sources.items()
        if any(part in source for part in PARTS_OF_CITATIONS)  # to parse all others takes seconds
        for text in explanations(source)
        if (names := missing(text, path.parent))
    }
    assert lost == {}


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("so that nothing is lost (reliability.md, F3)", ["reliability.md"]),
        ('see the README\'s "How it works"', ["How it works"]),
        ('see README.md, chapter "Use it"', []),
        ("README.md names it, making/README.md has the figures", []),
        ("measured by tests/bench/no_such_measurement.py", ["tests/bench/no_such_measurement.py"]),
        ("see `tests/guide/making`.", []),
    ],
)
def test_what_is_missing_is_found(text: str, lost: list[str]) -> None:
    assert missing(text, ROOT / "tests" / "guide") == lost
