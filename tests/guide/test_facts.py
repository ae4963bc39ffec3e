"""What the guide is taught is true of the program as it is built: commands, options, variables and numbers."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from chat.config.option_types import option_specs
from chat.errors import ExitCode
from chat.guide.facts import (
    ELSE,
    Topic,
    covering,
    facts,
    off_topic,
    patterns,
    read_table,
    refusal,
    small_talk,
    synonyms,
    unfold,
)
from chat.history.export import format_of_suffix
from chat.hub.names import find_official
from chat.models import OLLAMA_PREFIX
from chat.models.stores import Where
from chat.tools.approval import CHOICES
from chat.tui.commands.session_options import think_words
from chat.tui.commands.table import NAMES
from tests.command_lines import flags_of, unknown_flags

if TYPE_CHECKING:
    from collections.abc import Iterator

QUOTED = re.compile(r"`([^`]+)`")
INSTALLERS = ("pip install ", "uv tool install ", "pipx install ")
ROOT = Path(__file__).parent.parent.parent
PAGES = ROOT / "docs" / "pages"
OTHER_VARIABLES = {"MISTRAL_CHAT_REMOTE_KEY"}
CODES = {
    "done": ExitCode.DONE,
    "unexpected": ExitCode.UNEXPECTED,
    "wrong usage": ExitCode.USAGE,
    "model missing": ExitCode.MODEL,
    "too little memory": ExitCode.MEMORY,
    "prompt too long": ExitCode.CONTEXT,
    "bad input": ExitCode.DATA,
    "cannot read or write": ExitCode.FILE,
    "engine died": ExitCode.ENGINE,
    "interrupted": ExitCode.INTERRUPTED,
}


def topics() -> list[Topic]:
    return [*facts(), *small_talk(), refusal()]


def quoted() -> Iterator[tuple[str, str]]:
    """(topic, text between backticks) of every answer, and of those that depend on turns before."""
    table = read_table("dialogues.toml")
    answers = [(topic.id, topic.answer) for topic in topics()]
    answers += [(memory["id"], memory["answer"]) for memory in table["memory"]]
    for id, answer in answers:
        for text in QUOTED.findall(answer):
            yield id, text


def fact(id: str) -> Topic:
    return next(topic for topic in facts() if topic.id == id)


@pytest.mark.parametrize(("id", "text"), [pair for pair in quoted() if "mistral-chat " in pair[1]])
def test_every_command_line_is_one_the_program_takes(id: str, text: str) -> None:
    assert unknown_flags(text[text.index("mistral-chat ") :]) == set(), f"{id}: {text}"


@pytest.mark.parametrize(("id", "text"), [pair for pair in quoted() if pair[1].startswith("-")])
def test_every_option_is_one_of_the_program_or_of_convert(id: str, text: str) -> None:
    flag = text.split()[0].partition("=")[0]
    assert flag in flags_of([]) | flags_of(["convert"]), f"{id}: {text}"


@pytest.mark.parametrize(("id", "text"), [pair for pair in quoted() if pair[1].startswith("/")])
def test_every_slash_command_is_one_of_the_session(id: str, text: str) -> None:
    words = text.split()
    assert words[0].removeprefix("/") in NAMES, f"{id}: {text}"
    if words[0] == "/set":
        assert len(words) == 1 or words[1] in option_specs()
    if words[0] == "/think":
        assert words[1] in think_words()


def test_every_quoted_text_is_of_a_kind_that_is_checked() -> None:
    kinds = ("-", "/", "mistral-chat", "mchat", "export MISTRAL_CHAT_", 'model = "', *INSTALLERS)
    strange = [(id, text) for id, text in quoted() if not text.startswith(kinds) and "| mistral-chat " not in text]
    assert strange == []


def test_every_installation_is_one_that_the_pages_tell() -> None:
    told = "\n".join(page.read_text(encoding="utf-8") for page in PAGES.rglob("*.md"))
    installed = {text for _, text in quoted() if text.startswith(INSTALLERS)}
    assert installed
    assert [text for text in installed if text not in told] == []


def test_every_variable_is_one_that_is_read() -> None:
    known = {f"MISTRAL_CHAT_{name.upper()}" for name, each in option_specs().items() if each.option.persistent}
    named = {name for topic in topics() for name in re.findall(r"MISTRAL_CHAT_\w+", topic.answer)}
    assert named
    assert named <= known | OTHER_VARIABLES


def test_exit_codes_are_those_of_the_program() -> None:
    said = dict(re.findall(r"(\d+) (?:is )?([a-z ]+)", fact("codes").answer))
    assert {words: ExitCode(int(number)) for number, words in said.items()} == CODES


def test_the_recommended_model_and_the_sizes_are_those_of_the_catalogue() -> None:
    seven = find_official("mistral")
    assert seven is not None
    assert seven.repository == "mistralai/Mistral-7B-Instruct-v0.3"
    sizes = {name: official.q4_bytes for name in ("mistral", "nemo", "mixtral") if (official := find_official(name))}
    said = re.findall(r"(\d+\.\d) GB", fact("sizes").answer)
    assert [f"{size / 1e9:.1f}" for size in sizes.values()] == [said[0], said[3], said[4]]
    assert said[2] == f"{seven.download_bytes / 1e9:.1f}"


def test_defaults_that_are_told_are_the_defaults() -> None:
    assert f"the default is {option_specs()['temperature'].default}" in fact("temperature").answer
    assert option_specs()["draft"].default == "lookup"
    assert option_specs()["gpu_layers"].default == "auto"
    assert option_specs()["stats"].default is False
    assert option_specs()["model"].default is None
    assert "Without `-m`" in fact("default-model").answer


def test_the_models_that_are_told_fit_the_memory_that_is_told() -> None:
    said = re.findall(r"Ministral 3 (\d+)B", fact("which-model").answer)
    small, large = (find_official(f"ministral-{billions}b") for billions in said)
    seven = find_official("mistral")
    assert small
    assert large
    assert seven
    assert "8 GB" in fact("which-model").answer
    assert "16 GB" in fact("which-model").answer
    assert small.memory_bytes < seven.memory_bytes < 8e9 < large.memory_bytes < 16e9


def test_the_programs_whose_models_are_found_are_those_that_are_searched() -> None:
    programs = {*get_args(Where)} - {"models", "hub cache", "elsewhere"}
    assert [name for name in programs if name not in fact("found").answer] == []
    assert f"-m {OLLAMA_PREFIX}" in fact("found").answer


def test_the_letters_before_a_call_are_those_that_are_shown() -> None:
    assert re.findall(r"\b(\w) for ", fact("allow").answer) == re.findall(r"(?:^|· )(\w) ", CHOICES)


def test_the_short_name_is_a_command_that_is_installed() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert scripts["mchat"] == scripts["mistral-chat"]
    assert "`mchat`" in fact("mchat").answer


def test_the_formats_of_an_export_are_those_that_are_written() -> None:
    written = {format_of_suffix(Path(f"chat{suffix}")) for suffix in (".md", ".txt", ".html", ".json")}
    assert written <= {*re.findall(r"\w+", fact("export").answer.lower())}


def test_an_answer_holds_its_own_key_phrases_and_those_of_no_refusal() -> None:
    assert [topic.id for topic in topics() if not topic.is_answered_by(topic.answer)] == []
    assert [topic.id for topic in facts() if refusal().is_answered_by(topic.answer)] == []


def test_no_fact_is_right_for_another_fact() -> None:
    """Else a wrong answer would be judged right: the key phrases tell every two facts apart."""
    both = [
        (asked.id, said.id)
        for asked in facts()
        for said in facts()
        if asked != said and asked.is_answered_by(said.answer)
    ]
    assert both == []


def test_there_are_enough_ways_to_ask_for_each_fact() -> None:
    ways = {topic.id: len(topic.wants) + len(topic.questions) + len(topic.words) for topic in facts()}
    assert {id: count for id, count in ways.items() if count < 25} == {}
    assert len(off_topic()[0]) > 500


def test_dialogues_speak_of_known_facts() -> None:
    known = {topic.id for topic in facts()}
    for follow in read_table("dialogues.toml")["follow"]:
        assert {*follow["after"], follow["fact"]} <= known
    assert ELSE not in known


def test_synonyms_are_single_small_words() -> None:
    assert [word for word in synonyms() if not re.fullmatch(r"[a-z0-9]+", word)] == []


def test_a_pattern_unfolds_by_the_parts_that_are_picked() -> None:
    assert unfold("{how|can i} {leave|quit}", lambda parts: parts[0]) == "how leave"
    assert unfold("{how|can i} {leave|quit}", lambda parts: parts[-1]) == "can i quit"


def test_an_empty_part_leaves_no_double_space() -> None:
    assert unfold("is it {really|} free", lambda parts: parts[-1]) == "is it free"


def test_slots_are_filled_also_from_within_a_part() -> None:
    slots = {"food": ("bread", "soup")}
    assert unfold("{bake <food>|eat}", lambda parts: parts[0], slots) == "bake bread"


def test_covering_shows_every_part_once_within_the_limit() -> None:
    assert list(covering("{a|b|c} {x|y}", 8)) == ["a x", "b y", "c x"]
    assert list(covering("{a|b|c} {x|y}", 2)) == ["a x", "b y"]
    assert list(covering("plain", 8)) == ["plain"]


def test_blank_lines_of_a_block_are_no_patterns() -> None:
    assert patterns("\n one \n\n two\n") == ("one", "two")
