"""What the documents for contributors name is there."""

from __future__ import annotations

import re

import pytest

from chat import __version__
from tests.folders import ROOT
from tests.sentences import LIST, sentences
from tests.test_architecture import CONVERT_LAYERS, LAYERS

TOP = ("chat", "convert", "tests")
AWKWARD = {  # what a sentence for the user does not say, and what it says instead
    r"\[Errno": "what `reason_text` makes of the error",
    r"\btalk\b": "conversation",
    r"\bgo(es|ing)? on with\b": "continue",
    r"\bexclude each other\b": "cannot be used together",
    r"(?<!here )\b(is|are) no (?!longer|more)\w": "is not a",
    r"\bnear it\b": "similar names",
    r"\bnot (im|un)\w+(ible|able)\b|\bnot without\b": "it without the double negative",
    r"\b1 \w+s (of|were|are)\b": "the singular",
}
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md"])
def test_every_file_that_a_document_names_is_there(document: str) -> None:
    """A path may be cut at its front: `cli/argv.py` stands for `chat/cli/argv.py`."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`((?:chat|convert|tests)/[\w./-]*|[\w./-]+\.(?:py|md|toml))`", text)
    tracked = [f"/{path.relative_to(ROOT).as_posix()}" for top in TOP for path in (ROOT / top).rglob("*")]
    tracked += [f"/{path.name}" for path in ROOT.iterdir()] + ["/config.toml"]  # the user's settings file
    assert named
    assert [path for path in named if not any(each.endswith(f"/{path.rstrip('/')}") for each in tracked)] == []


def test_the_tree_lists_every_package_in_the_order_of_imports() -> None:
    chat, convert = re.findall(r"^(?:chat|convert)/\n((?:  .*\n)+)", ARCHITECTURE, flags=re.MULTILINE)
    columns = [line[2:16].split() for line in chat.splitlines()]
    listed = [name.rstrip("/").removesuffix(".py") for names in columns for name in names]
    assert listed == [layer.removeprefix("chat.") for layer in LAYERS]
    assert re.findall(r"^  (\w+)/", convert, flags=re.MULTILINE) == [
        layer.removeprefix("convert.") for layer in CONVERT_LAYERS
    ]


def test_the_glossary_is_in_order() -> None:
    words = re.findall(r"^\| ([^|]+?) \|", ARCHITECTURE.partition("## Glossary")[2], flags=re.MULTILINE)[2:]
    assert len(words) >= 30
    assert words == sorted(words, key=str.lower)


def test_the_changelog_has_a_section_for_this_version() -> None:
    assert f"## [{__version__}] - " in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_list_of_sentences_is_up_to_date() -> None:
    assert LIST.read_text(encoding="utf-8") == sentences(), "run `python -m tests.sentences`"


def test_sentences_are_plain() -> None:
    found = [
        f"{line.strip()}: say {better}"
        for line in LIST.read_text(encoding="utf-8").splitlines()
        for pattern, better in AWKWARD.items()
        if line.startswith(" ") and re.search(pattern, line)
    ]
    assert found == []
