"""Models of other families chat through their own templates, and no text of a conversation steers them."""

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
from chat.errors import ModelError
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


@pytest.mark.slow
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
    hostile = "\n".join(dict.fromkeys((family.bos, family.eos, family.end, *family.specials)))
    attacked = (Message("system", hostile), Message("user", f"{hostile}U{hostile}"))
    typed = engine.render(Request(Prompt(messages=attacked)))
    engine.close()
    assert rendered.text == family.prompt
    assert rendered.ids == tokenized(folder / f"{name}.gguf", family)
    assert (first.text, first.finish_reason, len(first.ids)) == ("hi", "stop", 2)
    assert (second.text, second.finish_reason) == ("hi", "stop")
    reused = 0 if name == "llama 2" else len(first.ids)  # its template writes a space before an answer
    assert second.tokens.cached == len(rendered.ids) + reused
    assert controls(family, typed.ids) == controls(family, rendered.ids)
    assert typed.text == family.prompt.replace("{S}", hostile).replace("{U}", f"{hostile}U{hostile}")


def test_the_program_takes_the_family_from_the_file(folder: Path) -> None:
    path = write_family(folder / "whole.gguf", FAMILIES["llama 3"])
    done = run("-m", path, "--temperature", 0, "--json", "--system", "S", "U")
    answer = json.loads(done.stdout)
    assert (done.returncode, done.stderr, answer["text"], answer["finish_reason"]) == (0, "", "hi", "stop")
    assert answer["model"]["prompt_format"] == "template"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (
            "{{ ''.__class__.__mro__[1].__subclasses__() }}",
            "line 1: access to attribute '__class__' of 'str' object is unsafe",
        ),
        (
            "{% for i in range(10**9) %}{{ messages }}{% endfor %}",
            "it counts through a range of more than 100,000 numbers",
        ),
        ("\n{% for m in messages %}\x1b[2J", "line 2: Unexpected end of template"),
    ],
)
def test_a_hostile_template_is_one_sentence(template: str, reason: str, folder: Path) -> None:
    path = write_family(folder / "hostile.gguf", FAMILIES["qwen 2"], template)
    done = run("-m", path, "U")
    error, hint = done.stderr.splitlines()
    assert (done.returncode, done.stdout, hint) == (3, "", "hint: choose another format with `--prompt-format`")
    assert error.startswith(f"error: the model's chat template cannot be used: {reason}")


@pytest.mark.slow
def test_another_format_is_the_way_past_a_template_that_cannot_be_run(folder: Path) -> None:
    bomb = FAMILIES["qwen 2"].template + "{% for i in range(10**12) %}{{ 'x' * 10**9 }}{% endfor %}"
    path = write_family(folder / "bomb.gguf", FAMILIES["qwen 2"], bomb)
    done = run("-m", path, "--temperature", 0, "--prompt-format", "chatml", "U")
    assert (done.returncode, done.stdout, done.stderr) == (0, "hi\n", "")


def test_the_engine_goes_on_after_a_template_that_was_stopped(folder: Path) -> None:
    hostile = (
        "{% for m in messages %}{% if m.content == 'bomb' %}{{ 'x' * 10**12 }}{% endif %}{{ m.content }}{% endfor %}"
    )
    engine = LocalBackend(EngineOptions(str(write_family(folder / "b.gguf", FAMILIES["qwen 2"], hostile)), threads=1))
    pid = engine.info() and engine.pid
    with pytest.raises(ModelError, match="it writes more than 30,000,000 characters"):
        engine.render(Request(Prompt(messages=(Message("user", "bomb"),))))
    assert engine.render(Request(Prompt(messages=(Message("user", "harmless"),)))).text == "harmless"
    assert engine.pid == pid
    engine.close()
