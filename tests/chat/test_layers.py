"""Defaults < file < preset < environment < flags, and what is said of a wrong value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from chat.definitions import definitions
from chat.ground.errors import UsageError
from chat.layers import layer
from chat.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_without_sources_every_value_is_its_default(tmp_path: Path) -> None:
    layered = layer({}, {}, tmp_path / "missing.toml")
    assert layered.settings == Settings()
    assert layered.origins == {}


def test_each_source_overrides_the_ones_before_it_and_is_remembered(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "temperature = 0.1\ntop-p = 0.2\ntop_k = 3\nmin_p = 0.4\n[preset.code]\ntop_p = 0.5\ntop_k = 6\nmin_p = 0.7\n",
    )
    layered = layer({"preset": "code", "min_p": "0.9"}, {"MISTRAL_CHAT_TOP_K": "8", "MISTRAL_CHAT_MIN_P": "0.8"}, file)
    s = layered.settings
    assert (s.temperature, s.top_p, s.top_k, s.min_p) == (0.1, 0.5, 8, 0.9)
    assert layered.origins == {
        "temperature": f"{file}, line 1",
        "top_p": "preset code",
        "top_k": "$MISTRAL_CHAT_TOP_K",
        "min_p": "flag",
        "preset": "flag",
    }
    assert layered.presets == ("code",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("top_k = 1\ntop_pp = 0.2\n", "{file}, line 2: unknown setting `top_pp`", "did you mean `top_p`?"),
        ("\n\ntop_k = 1.5", "{file}, line 3: --top-k needs a whole number, not 1.5", None),
        ("temperature = -1", "{file}, line 1: --temperature is at least 0, not -1", None),
        ("temperature = nan", "{file}, line 1: --temperature is at least 0, not nan", None),
        ("top_p = 2", "{file}, line 1: --top-p is at most 1, not 2", None),
        ("top_k = true", "{file}, line 1: --top-k needs a whole number, not True", None),
        ('color = "red"', "{file}, line 1: --color is one of auto, always, never, not 'red'", None),
        ("[preset.a]\nx = 1\n", None, None),
        ("json = true", "{file}, line 1: unknown setting `json`", None),
    ],
)  # fmt: skip
def test_wrong_values_in_the_file_name_file_and_line(
    tmp_path: Path, text: str, message: str | None, hint: str | None
) -> None:
    file = write(tmp_path, text)
    if message is None:
        layer({}, {}, file)  # a preset is checked when it is used
        return
    with pytest.raises(UsageError) as caught:
        layer({}, {}, file)
    assert caught.value.message == message.format(file=file)
    if hint:
        assert caught.value.hint == hint


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(UsageError, match=r"^\$MISTRAL_CHAT_SEED: --seed needs a whole number, not 'x'$"):
        layer({}, {"MISTRAL_CHAT_SEED": "x"}, None)


def test_an_unknown_preset_lists_the_known_ones(tmp_path: Path) -> None:
    file = write(tmp_path, "[preset.code]\n[preset.prose]\n")
    with pytest.raises(UsageError, match="no preset `cod`") as caught:
        layer({"preset": "cod"}, {}, file)
    assert caught.value.hint == "presets: code, prose"
    with pytest.raises(UsageError) as caught:
        layer({"preset": "cod"}, {}, write(tmp_path, ""))
    assert caught.value.hint == "there are none; `mistral-chat config edit` adds one"


def test_a_file_that_is_no_toml_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.toml: "):
        layer({}, {}, write(tmp_path, "= 3"))
    (tmp_path / "config.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="cannot be read"):
        layer({}, {}, tmp_path / "config.toml")


def test_no_two_settings_share_a_flag() -> None:
    flags = [flag for each in definitions().values() for flag in each.option.flags]
    assert len(flags) == len(set(flags))
