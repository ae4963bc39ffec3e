"""What README and the site tell people to type is what the program takes, and it does what they say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from chat.core.document_kinds import DOCUMENTS
from chat.errors import ExitCode
from chat.hub.names import CATALOGUE
from chat.tui.commands.table import COMMANDS as SLASH_COMMANDS
from docs.generate import PAGES as GENERATED
from docs.generate import pages
from docs.generate.gguf_keys import described_keys
from docs.generate.markdown import text
from tests import grids
from tests.command_lines import ShellLine, all_options, calls_in, named_options, shell_lines, unknown_flags
from tests.conftest import Converted
from tests.folders import ROOT
from tests.shell_commands import fill_folder, leave_session, run_line

README = ROOT / "README.md"
FOLDER = ROOT / "docs" / "pages"
WRITTEN = [README, *sorted(FOLDER.rglob("*.md"))]
OTHER_OPTIONS = {
    "--force-reinstall",
    "--no-cache-dir",
    "--only-binary",
    "--full",
    "--no-warmup",
    "--no-repack",
}  # pip's and so on
CUT = "error: the answer was cut after 24 tokens\nhint: `-n` allows more\n"
REPORTS = re.compile(r"^(?:error|hint): .*\n", re.MULTILINE)
EXPECTED = {" --schema ": (1, CUT)}  # a model of random weights ends nothing
NOT_RUN = {"answer", "checks"}  # they install
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
# What takes a new interpreter or more than a moment, and what needs the files of such a line
HEAVY = re.compile(
    r"mistral-chat (?:convert (?!.*--dry-run)|bench|doctor|-m v0.3.gguf)| -f (?:paper|book)| && | \|\| |uses\.txt"
)


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def texts() -> dict[str, str]:
    """Every page of the site and README, by its path in the repository."""
    written = {name_of(path): path.read_text(encoding="utf-8") for path in WRITTEN}
    return {**written, **{f"docs/pages/{name}": text for name, text in pages().items()}}


@pytest.fixture(scope="module")
def documents() -> dict[str, str]:
    return texts()


def lines_to_run(path: Path) -> list[ShellLine]:
    """The lines of a page that can be run here and that no earlier document has."""
    earlier = {line.text for each in WRITTEN[: WRITTEN.index(path)] for line in shell_lines(each.read_text())}
    lines = shell_lines(path.read_text(encoding="utf-8"))
    if path == README:  # elsewhere everything is run that has no reason against it
        return [line for line in lines if line.mark == "one-liners"]
    return [line for line in lines if not line.mark.startswith("not run: ") and line.text not in earlier]


@pytest.mark.slow
def test_every_command_is_one_the_program_takes(documents: dict[str, str]) -> None:
    calls = {call for page in documents.values() for call in calls_in(page)}
    assert len(calls) > 60
    assert {call: unknown_flags(call) for call in calls if unknown_flags(call)} == {}


def test_every_option_that_is_named_is_there(documents: dict[str, str]) -> None:
    named = {option for name, page in documents.items() if "/reference/" not in name for option in named_options(page)}
    assert len(named) > 40
    assert named - all_options() - OTHER_OPTIONS == set()


def test_every_path_that_is_named_is_there(documents: dict[str, str]) -> None:
    named = {path for page in documents.values() for path in re.findall(r"`(tests/[^`]+)`", page)}
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_no_link_is_dead(documents: dict[str, str]) -> None:
    """MkDocs checks the same when it builds the site, but not README and its links into the pages."""
    more = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")}
    dead = []
    for name, source in {**documents, **more}.items():
        for link in LINK.findall(re.sub(r"```.*?```", "", source, flags=re.DOTALL)):
            path, _, anchor = link.partition("#")
            target = (ROOT / name).parent.joinpath(path).resolve() if path else ROOT / name
            page = {**documents, **more}.get(name_of(target)) if target.is_relative_to(ROOT) else None
            is_picture = target.parent == FOLDER / "pictures" and (ROOT / "tests/pictures" / target.name).exists()
            is_there = "://" in link or is_picture or page is not None or target.exists()
            if not is_there or (anchor and "://" not in link and anchor not in anchors_of(page or "")):
                dead.append(f"{name}: {link}")
    assert dead == []


def anchors_of(page: str) -> set[str]:
    """The anchors of a page's headings: those that they name, else made of their words as Markdown's `toc` does."""
    headings = re.findall(r"^#+ (.+?)(?: \{ #([\w-]+) \})?$", page, re.MULTILINE)
    return {
        named or re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", words).strip().lower()) for words, named in headings
    }


def test_the_page_of_documents_names_each_kind_that_is_read() -> None:
    assert f"{DOCUMENTS}." in " ".join((FOLDER / "how-to" / "documents.md").read_text("utf-8").split())


def test_the_site_lists_each_page_once() -> None:
    def listed(entries: list[object]) -> list[str]:
        values = [next(iter(entry.values())) for entry in entries if isinstance(entry, dict)]
        return [path for value in values for path in (listed(value) if isinstance(value, list) else [value])]

    there = [path.relative_to(FOLDER).as_posix() for path in WRITTEN[1:]] + list(GENERATED)
    configuration = yaml.safe_load((ROOT / "docs" / "mkdocs.yml").read_text(encoding="utf-8"))
    assert sorted(listed(configuration["nav"])) == sorted(there)


def test_the_reference_is_complete(documents: dict[str, str]) -> None:
    reference = "".join(page for name, page in documents.items() if "/reference/" in name)
    names = all_options() - {"--help", "-h"} | {f"### `/{name}" for name in SLASH_COMMANDS}
    names |= {model.repository for model in CATALOGUE} | {f"| {int(code)} |" for code in ExitCode}
    assert {name for name in names if name not in reference} == set()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("Q4_K_M, <file> or *.py", r"Q4\_K\_M, \<file\> or `*.py`"),
        ("as -t does, see `a_b`", "as `-t` does, see `a_b`"),
        ("$MISTRAL_CHAT_REMOTE_KEY, or a [remote.NAME]", "`$MISTRAL_CHAT_REMOTE_KEY`, or a `[remote.NAME]`"),
        ("PATH[:SCALE] well-known", r"PATH\[:SCALE\] well-known"),
    ],
)
def test_a_help_text_is_shown_as_it_is(words: str, shown: str) -> None:
    assert text(words) == shown


def test_a_key_without_a_description_is_an_error() -> None:
    source = 'class K:\n    A: Final = "a"  # one\n    B: Final = "b"\n'
    with pytest.raises(ValueError, match="K: b has no comment that describes it"):
        described_keys(source, "K")


@pytest.mark.parametrize("path", [path for path in WRITTEN if lines_to_run(path)], ids=name_of)
@pytest.mark.slow
def test_each_line_does_what_it_says(
    path: Path, tiny_v3_model: Path, converted: Converted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default without the sessions and the heavy lines; all of them with `--full`."""
    found = lines_to_run(path)
    lines = [line.text for line in found if grids.FULL or (line.mark != "session" and not HEAVY.search(line.text))]
    sessions = {line.text for line in found if line.mark == "session"}
    if not lines:
        pytest.skip("its lines are heavy: --full")
    fill_folder(tmp_path, tiny_v3_model, converted("mistral-v0.1", window="off"))
    for name, value in {"MODEL": "model.gguf", "MAX_TOKENS": "24", "SEED": "1"}.items():
        monkeypatch.setenv(f"MISTRAL_CHAT_{name}", value)
    for line in lines:
        if line in sessions:
            assert (line, leave_session(line, tmp_path)) == (line, 0)
            continue
        done = run_line(line, tmp_path)
        is_caught = " || " in line  # its error is expected, too
        code, errors = next((each for flag, each in EXPECTED.items() if flag in line and not is_caught), (0, ""))
        said = "" if is_caught else "".join(REPORTS.findall(done.stderr.decode()))
        assert (line, done.returncode, said) == (line, code, errors)
        for json_line in done.stdout.splitlines() if "--batch -" in line else ():
            assert json.loads(json_line)["finish_reason"] in ("stop", "length")
