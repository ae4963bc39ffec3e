"""No flag is silently without effect: it is refused without what it needs and beside what makes it useless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from chat.config.conflicts import ALTERNATIVES, NO_EFFECT_WITH, superseded_by
from chat.config.option_types import option_specs
from chat.config.options import Settings
from chat.config.resolve import resolve_settings
from chat.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def refusal(flags: dict[str, Any], variables: dict[str, str] | None = None) -> tuple[str, str | None]:
    with pytest.raises(UsageError) as caught:
        resolve_settings(flags, variables or {})
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"output": "answers"}, "--output needs --batch"),
        ({"resume": True, "batch": "questions"}, "--resume needs --output"),
        ({"logprobs": 3}, "--logprobs needs --json or --batch"),
        ({"param": ["to=French"]}, "--param needs --template"),
        ({"remote_model": "large"}, "--remote-model needs --remote"),
        ({"insecure": True}, "--insecure needs --remote"),
        ({"parallel": 2}, "--parallel needs --batch"),
        ({"tool_result": ["20"]}, "--tool-result needs --continue or --session"),
    ],
)
def test_a_flag_without_what_it_needs_is_refused(flags: dict[str, Any], message: str) -> None:
    """`-o answers.txt QUESTION` once printed the answer and wrote no file."""
    assert refusal(flags) == (message, "`mistral-chat --help` shows what each does")


def test_what_a_flag_needs_may_come_from_elsewhere() -> None:
    assert (
        resolve_settings({"remote_model": "large"}, {"MISTRAL_CHAT_REMOTE": "https://x"}).settings.remote_model
        == "large"
    )
    assert resolve_settings({}, {"MISTRAL_CHAT_REMOTE_MODEL": "large"}).settings.remote is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"system": "a", "system_file": "b"}, "--system and --system-file cannot be used together"),
        ({"regex": "a", "schema": "b", "temperature": 1}, "--regex and --schema cannot be used together"),
        ({"extract_last": True, "extract": True}, "--xl and --extract cannot be used together"),
        ({"continue_last": True, "session": "s"}, "--continue and --session cannot be used together"),
        ({"stats": True, "quiet": True}, "--stats and --quiet cannot be used together"),
        ({"raw": True, "system": "a"}, "--raw and --system cannot be used together"),
        ({"tools": "a", "raw_ids": "-"}, "--tools and --raw-ids cannot be used together"),
        ({"remote": "https://x", "threads": 2}, "--remote and --threads cannot be used together"),
        ({"batch": "-", "session": "s"}, "--batch and --session cannot be used together"),
        ({"continue_last": True, "no_history": True}, "--continue and --no-history cannot be used together"),
        ({"regex": "a", "stop": ["b"]}, "--regex and --stop cannot be used together"),
    ],
)
def test_two_flags_of_which_one_has_no_effect_are_refused(flags: dict[str, Any], message: str) -> None:
    assert refusal(flags) == (message, "give only one of them")


def test_a_model_with_a_server_gets_a_hint_at_remote_model() -> None:
    assert refusal({"model": "a", "remote": "b"})[1] == "`--remote-model` names the server's model"


@pytest.mark.parametrize(
    ("beside", "idle"), [(beside, idle) for beside, names in NO_EFFECT_WITH.items() for idle in names]
)
def test_every_pair_of_the_table_is_refused_in_both_orders(beside: str, idle: str) -> None:
    names = [beside, idle, *option_specs()[beside].option.needs[:1], *option_specs()[idle].option.needs[:1]]
    values = {name: _value(name) for name in names}
    flags = {option_specs()[name].option.flag for name in names}
    for order in (values, dict(reversed(values.items()))):
        message = refusal(order)[0]
        assert message.endswith(" cannot be used together")
        assert set(message.split()) & flags


def _value(name: str) -> Any:
    spec = option_specs()[name]
    if spec.kind in (int, float):
        return max(1, spec.option.lowest or 0)
    return True if spec.kind is bool else (*spec.choices, *spec.words, "x")[0]


def test_the_tables_name_options() -> None:
    named = {
        *(name for group in ALTERNATIVES for name in group),
        *NO_EFFECT_WITH,
        *(n for row in NO_EFFECT_WITH.values() for n in row),
    }
    assert named <= option_specs().keys()


def test_a_flag_replaces_an_alternative_from_an_earlier_source(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('system = "a"\nquiet = true\nremote = "https://x"\n', encoding="utf-8")
    resolved = resolve_settings({"system_file": "b", "stats": True, "model": "m"}, {}, file)
    assert (resolved.settings.system, resolved.settings.quiet, resolved.settings.remote) == (None, False, None)
    assert set(resolved.origins) == {"system_file", "stats", "model"}


def test_a_value_that_is_off_replaces_nothing() -> None:
    assert superseded_by({"stats": False, "extract": False}) == set()
    assert resolve_settings({}, {"MISTRAL_CHAT_QUIET": "1", "MISTRAL_CHAT_STATS": "0"}).settings == Settings(quiet=True)


def test_a_setting_that_leaves_a_flag_without_effect_is_named_with_its_origin() -> None:
    assert refusal({"context": 99}, {"MISTRAL_CHAT_REMOTE": "https://x"}) == (
        "--context and --remote cannot be used together", "`remote` comes from $MISTRAL_CHAT_REMOTE",
    )  # fmt: skip


def test_a_setting_without_effect_beside_a_flag_is_no_error() -> None:
    assert resolve_settings({"remote": "https://x"}, {"MISTRAL_CHAT_THREADS": "1"}).settings.threads == 1
    assert resolve_settings({"raw": True}, {"MISTRAL_CHAT_SYSTEM": "a"}).settings.system == "a"
