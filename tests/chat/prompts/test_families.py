"""Models of other families chat through llama.cpp's template engine, and no text of a conversation steers them."""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import pytest

from chat.core.conversation import Message
from chat.core.events import Completion
from chat.core.request import EngineOptions, Prompt, Request, Sampling
from chat.llama.library import llama
from chat.llama.model import LoadSettings, Model
from chat.worker.client import LocalBackend
from tests.chat.prompts.model_families import CONTROL, FAMILIES, Family, vocabulary, write_family
from tests.program import run_command

GREEDY = Sampling(temperature=0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("families")


def controls(family: Family, ids: tuple[int, ...]) -> list[str]:
    names, _, kinds, _ = vocabulary(family)
    return [names[token].decode() for token in ids if kinds[token] == CONTROL]


def tokenized(path: Path, family: Family) -> tuple[int, ...]:
    """What llama.cpp itself makes of the whole prompt, names of control pieces included; it adds the BOS."""
    model = Model(str(path), LoadSettings(vocab_only=True))
    text = family.prompt.removeprefix(family.bos).removeprefix(" ").encode()
    ids = (ctypes.c_int32 * 200)()
    count = llama().llama_tokenize(model.vocab, text, len(text), ids, 200, True, True)
    model.close()
    return tuple(ids[:count])


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chat", *map(str, arguments)]
    return run_command(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_answers_in_its_own_format_until_its_end_of_turn(name: str, folder: Path) -> None:
    family = FAMILIES[name]
    engine = LocalBackend(EngineOptions(str(write_family(folder / f"{name}.gguf", family)), threads=1))
    told = (Message("system", "{S}"), Message("user", "{U}"))
    rendered = engine.render(Request(Prompt(messages=told)))
    first = list(engine.reply(Request(Prompt(messages=told), GREEDY, max_tokens=20)))[-1]
    assert isinstance(first, Completion)
    more = (*told, Message("assistant", first.text, first.ids), Message("user", "V"))
    second = list(engine.reply(Request(Prompt(messages=more), GREEDY, max_tokens=20)))[-1]
    assert isinstance(second, Completion)
    hostile = "".join(dict.fromkeys((family.bos, family.eos, family.end, *family.specials))) + "\n"
    attacked = (Message("system", hostile), Message("user", f"{hostile}U{hostile}"))
    typed = engine.render(Request(Prompt(messages=attacked)))
    engine.close()
    assert rendered.text == family.prompt
    assert rendered.ids == tokenized(folder / f"{name}.gguf", family)
    assert (first.text, first.finish_reason, len(first.ids)) == ("hi", "stop", 2)
    assert (second.text, second.finish_reason) == ("hi", "stop")
    assert second.tokens.cached == len(rendered.ids) + len(first.ids)
    assert controls(family, typed.ids) == controls(family, rendered.ids)
    assert typed.text == family.prompt.replace("{S}", hostile).replace("{U}", f"{hostile}U{hostile}")


def test_the_program_takes_the_family_from_the_file(folder: Path) -> None:
    path = write_family(folder / "whole.gguf", FAMILIES["llama 3"])
    done = run("-m", path, "--temperature", 0, "--json", "--system", "S", "U")
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr, answer["text"], answer["finish_reason"]) == (0, "", "hi", "stop")
    assert answer["model"]["prompt_format"] == "template"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for i in range(10**9) %}{% for j in range(10**9) %}{{ messages }}{% endfor %}{% endfor %}",
        "\x1b[2J{{ messages }}",
    ],
)
def test_a_hostile_template_is_one_sentence_and_never_run(template: str, folder: Path) -> None:
    path = write_family(folder / "hostile.gguf", FAMILIES["qwen 2"], template)
    done = run("-m", path, "U")  # running the template would take years
    assert (done.returncode, done.stdout, done.stderr.splitlines()) == (
        3,
        "",
        [
            "error: the model's chat template is unknown to this program",
            "hint: choose one with `--prompt-format`",
        ],
    )


@pytest.mark.slow
def test_a_bomb_in_a_known_template_is_not_run_either(folder: Path) -> None:
    bomb = FAMILIES["qwen 2"].template + "{% for i in range(10**12) %}{{ 'x' * 10**9 }}{% endfor %}"
    path = write_family(folder / "bomb.gguf", FAMILIES["qwen 2"], bomb)
    for flags in ((), ("--prompt-format", "chatml")):
        done = run("-m", path, "--temperature", 0, *flags, "U")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")
