"""The manual pages that are installed: one for the program, one per command, all from the specs of the options."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from chat.cli.command_tree import CommandSpec, main_flags
from chat.cli.manpage import VARIABLES, man_page, man_pages
from chat.config.option_types import option_specs
from tests.command_lines import commands
from tests.folders import ROOT

PAGES = man_pages("1.0", main_flags(), commands())
SET_BY_OTHERS = {  # of terminals and desktops, or second spellings
    *("TERM", "TERM_PROGRAM", "COLORTERM", "VTE_VERSION", "PATH", "XDG_CACHE_HOME", "HUGGINGFACE_HUB_CACHE"),
    *("EDITOR", "PAGER", "PYTHONPATH", "GGML_NO_BACKTRACE", "LLAMA_CPP_LIB_PATH", "SYSTEMROOT"),
}


def test_each_command_has_a_page() -> None:
    names = [f"mistral-chat-{command.name}.1" for command in commands()]
    assert sorted(PAGES) == sorted(["mistral-chat.1", "mchat.1", *names])
    assert PAGES["mchat.1"] == ".so man1/mistral-chat.1\n"


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.name)
def test_a_page_has_every_option_of_its_command(command: CommandSpec) -> None:
    page = PAGES[f"mistral-chat-{command.name}.1"].replace(r"\-", "-")
    for each in (command, *command.parts):
        assert each.help in page
        flags = [flag.spellings[0] for flag in each.flags if "--help" not in flag.spellings]
        assert [flag for flag in flags if f"\\fB{flag}\\fR" not in page] == []


def test_groff_has_no_warning(tmp_path: Path) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here")
    for name, page in PAGES.items():
        (tmp_path / name).write_text(page, encoding="utf-8")
    names = [name for name in PAGES if name != "mchat.1"]
    done = subprocess.run([groff, "-man", "-Tutf8", "-ww", "-z", *names], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_whole_manual_has_the_commands_options() -> None:
    page = man_page("1.0", main_flags(), commands()).replace(r"\-", "-")
    assert all(f"mistral-chat {command.name}" in page for command in commands())
    assert "--calibrate" in page
    assert "--calibrate" not in PAGES["mistral-chat.1"].replace(r"\-", "-")


def test_every_variable_that_the_program_reads_is_explained() -> None:
    reads = re.compile(r"(?:variables|environ|environment)(?:\.get\(|\[)\s*[\"']([A-Z_]+)[\"']")
    sources = [path.read_text(encoding="utf-8") for top in ("chat", "convert") for path in (ROOT / top).rglob("*.py")]
    read = {name for source in sources for name in reads.findall(source)}
    assert len(read) > 10
    options = {f"MISTRAL_CHAT_{name.upper()}" for name in option_specs()}
    assert read - VARIABLES.keys() - options == SET_BY_OTHERS & read
