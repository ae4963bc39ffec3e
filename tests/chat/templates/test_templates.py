"""Templates: what they put where, what they may set, and what is refused."""

from __future__ import annotations

import json
import os

import pytest

from chat.cli.main import run
from chat.cli.session import unused_template
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.errors import DataError, FileError, UsageError
from chat.templates import store
from chat.templates.store import given_values, parse
from tests.environments import pipes, terminal


def test_every_example_is_a_valid_template_that_uses_its_input() -> None:
    assert set(store.names()) == {"classify", "commit", "explain", "extract", "summarise", "translate"}
    for name in store.names():
        assert "input" in store.load(name).variables()


def test_text_is_put_in_as_it_is() -> None:
    template = parse("t", 'prompt = """\nIn $to:\n$input costs $$5"""\n[defaults]\nto = "French"\n')
    assert template.fill("a $to b", {}) == "In French:\na $to b costs $5"
    assert template.fill("x", {"to": "Thai"}) == "In Thai:\nx costs $5"


def test_a_template_without_input_has_it_appended() -> None:
    assert parse("t", 'prompt = "Be kind."').fill("hello", {}) == "Be kind.\n\nhello"
    assert parse("t", 'prompt = "Be kind."').fill("", {}) == "Be kind."


def test_a_session_says_that_it_does_not_use_the_text_of_a_template() -> None:
    """`-t summarise` without a prompt began a session that used its temperature and, without a word, not its text."""
    single = "is for a single prompt; a session"
    assert unused_template(Settings(template="commit")) == (
        f"the text of template `commit` {single} uses only its settings"
    )
    store.own_path("mine").parent.mkdir(parents=True)
    store.own_path("mine").write_text('prompt = "Be kind: $input"')
    assert unused_template(Settings(template="mine")) == f"the text of template `mine` {single} does not use it"
    store.own_path("mine").write_text("temperature = 0.1")
    assert unused_template(Settings(template="mine")) == unused_template(Settings()) == ""


def test_flags_override_a_templates_settings_and_its_constraint() -> None:
    template = parse("t", 'temperature = 0.1\ntop-k = 3\nchoice = ["a", "b"]')
    flags = {"temperature": "0.5", "schema": "x int"}
    resolved = resolve_settings(flags, {}, None, template.settings)
    assert (resolved.settings.temperature, resolved.settings.top_k, resolved.settings.choice) == (0.5, 3, ())
    assert resolved.origins["top_k"] == "template"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prompt = 3", "`prompt` must be a text"),
        ('prompt = "costs $ 5"', "a lone `$` in the prompt"),
        ("colour = 1", "unknown setting `colour`"),
        ("file = 'x'", "unknown setting `file`"),
        ("top_p = 3", "--top-p must be a number from 0 to 1, not 3"),
        ("= 1", "template `t`: "),
        ("a = " + "[" * 100_000, "template `t`: it is nested too deeply"),
        ("top_k = " + "9" * 5000, "template `t`: a number in it has too many digits"),
    ],
)
def test_a_bad_template_is_refused_with_its_name(text: str, message: str) -> None:
    with pytest.raises(DataError, match="template `t`") as caught:
        parse("t", text)
    assert message in caught.value.message


def test_variables_are_checked_both_ways() -> None:
    template = parse("t", 'prompt = "$a $input"')
    with pytest.raises(UsageError, match="template `t` needs a value for `a`"):
        template.fill("x", {})
    with pytest.raises(UsageError, match="template `t` has no variable `b`"):
        template.fill("x", {"a": "1", "b": "2"})
    with pytest.raises(UsageError, match="-p needs NAME=TEXT, not 'a'"):
        given_values(["a"])


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "", ".hidden", "a/b"])
def test_a_name_never_leads_out_of_the_folder(name: str) -> None:
    with pytest.raises(UsageError, match="a template's name has letters"):
        store.text_of(name)


def test_a_template_that_is_a_pipe_is_refused_at_once() -> None:
    """Listing the templates waited forever for somebody to write into it."""
    path = store.own_path("t")
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    with pytest.raises(FileError, match=r"t\.toml: is not a regular file$"):
        store.load("t")


def test_a_broken_template_is_named_and_the_others_are_listed() -> None:
    """The list was its error alone."""
    folder = store.own_path("good").parent
    folder.mkdir(parents=True)
    for name, text in (("good", 'prompt = "$input"'), ("bad", 'prompt = "a lone $ here"'), ("-odd", "")):
        (folder / f"{name}.toml").write_text(text)
    environment = pipes()
    assert run(["templates", "list", "--json"], environment) == 0
    assert {"name": "good", "origin": "own", "variables": ["input"]} in json.loads(environment.out)
    assert len(json.loads(environment.out)) == 7
    assert environment.err == (
        "note: a template's name has letters, digits, `_`, `-` and `.`, not '-odd'\n"
        "note: template `bad`: a lone `$` in the prompt\n"
    )


def test_a_template_is_shown_on_a_terminal_without_control_characters() -> None:
    path = store.own_path("t")
    path.parent.mkdir(parents=True)
    path.write_text('prompt = "\u202e"\n')
    for environment, shown in ((terminal(), "⟨RLO⟩"), (pipes(), "\u202e")):
        assert run(["templates", "show", "t"], environment) == 0
        assert environment.out == f'prompt = "{shown}"\n'


def test_own_templates_come_before_examples_and_can_be_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/French/Welsh/")
    monkeypatch.delenv("VISUAL", raising=False)
    assert run(["templates", "edit", "translate"]) == 0
    assert store.names()["translate"] == "own"
    assert "Welsh" in store.text_of("translate")
    assert run(["templates", "rm", "translate"]) == 0
    assert store.names()["translate"] == "example"
    assert run(["templates", "rm", "translate"]) == 2
    assert capsys.readouterr().err == "error: no template `translate` of your own\n"


def test_unknown_names_are_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["templates", "show", "sumarise"]) == 2
    assert capsys.readouterr().err == "error: no template `sumarise`\nhint: did you mean `summarise`?\n"


def test_the_list_in_a_pipe_is_a_record_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Names were padded with spaces before their tab, so that `cut -f1` gave `commit          `."""
    assert run(["templates", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["classify\texample\t$input", "commit\texample\t$input"]
    assert run(["templates", "list", "--json"]) == 0
    first, *_ = json.loads(capsys.readouterr().out)
    assert first == {"name": "classify", "origin": "example", "variables": ["input"]}
