"""Every number that a user can set, with every kind of text that is none or has no end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from chat.config.option_types import OptionSpec, checked, option_specs
from chat.config.resolve import resolve_settings
from chat.errors import UsageError

TEXTS = (
    "inf", "-inf", "nan", "1e300", "1e999", "-1", "-0.5", "9" * 400, "9" * 5000, "", " ", "x", "0x10", "0b1", "1_0",
    "1,5", "\u0663", "\uff11", "\u00b2", "1e", "--1", "None", "\x1b[2J", "\ud800", "1\n2", "true",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    float("inf"), float("-inf"), float("nan"), 1e300, -1, 10**400, True, None, [], {}, [1],
)  # fmt: skip


def numeric() -> list[OptionSpec]:
    return [spec for spec in option_specs().values() if spec.kind in (int, float) or spec.option.lowest is not None]


def allowed(spec: OptionSpec, value: Any) -> bool:
    """Whether the option's limits, or its words, allow a value that is a plain number."""
    text = str(value)
    kind = float if spec.kind is float else int
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and (kind is float or type(value) is int)
    if not is_number and not re.fullmatch(r"-?[0-9]+" if kind is int else r"-?[0-9.]+(e[0-9]+)?", text):
        return False
    lowest, highest = spec.option.lowest, spec.option.highest
    assert lowest is not None and highest is not None
    return len(text) < 400 and lowest <= kind(value) <= highest


def test_every_number_has_limits_and_each_wrong_value_is_refused_with_them(tmp_path: Path) -> None:
    """`--state-cache inf` was exit code 1, `--top-k` took digits of all scripts, and some had no upper limit."""
    assert {spec.name for spec in numeric()} >= {"temperature", "state_cache", "context", "window", "gpu_layers"}
    for spec in numeric():
        for value in (*TEXTS, *VALUES):
            if allowed(spec, value):
                checked(spec, value)
                continue
            with pytest.raises(UsageError) as caught:
                checked(spec, value)
            message = caught.value.message
            is_no_text = (spec.kind is str and isinstance(value, (bool, list, dict))) or (
                spec.kind is str and value is None
            )
            assert re.match(rf"{spec.option.flag} must be .*(from [0-9.]+ to [0-9.]+|a text), not ", message), message
            assert is_no_text == ("a text" in message) and message.isprintable() and len(message) < 250
    settings = tmp_path / "config.toml"
    for spec in (each for each in numeric() if each.option.persistent):
        for text in ("inf", "nan", "-1", "1e300", "'\u0663'", "''", "999999999999999999999"):
            settings.write_text(f"{spec.name} = {text}\n", encoding="utf-8")
            with pytest.raises(UsageError, match=rf"config.toml, line 1: {spec.option.flag} must be "):
                resolve_settings({}, {}, settings)
        for text in ("inf", "nan", "-1", "1e300", "\u0663", " "):
            with pytest.raises(UsageError, match=rf"^\$MISTRAL_CHAT_{spec.name.upper()}: {spec.option.flag} must be "):
                resolve_settings({}, {f"MISTRAL_CHAT_{spec.name.upper()}": text}, None)


@pytest.mark.parametrize("scale", ["nan", "inf", "-inf", "1e300", "-1001"])
def test_the_scale_of_an_adapter_has_limits(scale: str) -> None:
    from chat.app.request_builder import engine_options

    settings = resolve_settings({"lora": (f"a.gguf:{scale}",)}, {}, None).settings
    with pytest.raises(UsageError, match=rf"^the scale of --lora must be from -1000 to 1000, not {scale}$"):
        engine_options(settings, Path("m.gguf"), session=False, state_folder=None)
