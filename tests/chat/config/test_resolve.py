"""Defaults < file < preset < variables < flags, and the errors of wrong values."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from chat.config.option_types import option_specs
from chat.config.options import Settings
from chat.config.resolve import check_presets, resolve_settings
from chat.errors import FileError, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    path.write_text(text, encoding="utf-8", newline="\n")
    return path


def test_without_sources_every_value_is_its_default(tmp_path: Path) -> None:
    resolved = resolve_settings({}, {}, tmp_path / "missing.toml")
    assert resolved.settings == Settings()
    assert resolved.origins == {}


def test_each_source_overrides_the_earlier_ones_and_is_recorded(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "temperature = 0.1\ntop-p = 0.2\ntop_k = 3\nmin_p = 0.4\n[preset.code]\ntop_p = 0.5\ntop_k = 6\nmin_p = 0.7\n",
    )
    resolved = resolve_settings(
        {"preset": "code", "min_p": "0.9"}, {"MISTRAL_CHAT_TOP_K": "8", "MISTRAL_CHAT_MIN_P": "0.8"}, file
    )
    s = resolved.settings
    assert (s.temperature, s.top_p, s.top_k, s.min_p) == (0.1, 0.5, 8, 0.9)
    assert resolved.origins == {
        "temperature": f"{file}, line 1",
        "top_p": "preset code",
        "top_k": "$MISTRAL_CHAT_TOP_K",
        "min_p": "flag",
        "preset": "flag",
    }
    assert resolved.presets == ("code",)


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("top_k = 1\ntop_pp = 0.2\n", "{file}, line 2: unknown setting `top_pp`", "did you mean `top_p`?"),
        ("\n\ntop_k = 1.5", "{file}, line 3: --top-k must be a whole number from 0 to 2147483647, not 1.5", None),
        ("temperature = -1", "{file}, line 1: --temperature must be a number from 0 to 100, not -1", None),
        ("temperature = nan", "{file}, line 1: --temperature must be a number from 0 to 100, not nan", None),
        ("top_p = 2", "{file}, line 1: --top-p must be a number from 0 to 1, not 2", None),
        ("top_k = true", "{file}, line 1: --top-k must be a whole number from 0 to 2147483647, not True", None),
        ('color = "red"', "{file}, line 1: --color must be one of auto, always, never, not 'red'", None),
        ("[preset.a]\nx = 1\n", None, None),
        ("json = true", "{file}, line 1: `json` can only be given on the command line", "use `--json`"),
        ("top-k = 1\ntop_k = 2\n", "{file}, line 2: `top_k` is set twice", None),
        ("\n[other]\nx = 1\n", "{file}, line 2: unknown setting `other`", None),
        ("model.x = 1", "{file}, line 1: --model must be a text, not {{'x': 1}}", None),
        ('"a\\u001b" = 1', "{file}: unknown setting `a\x1b`", None),
        (
            '\npreset = "code"', "{file}, line 2: `preset` must have tables such as [preset.code], not a value",
            "`--preset NAME`, or the variable MISTRAL_CHAT_PRESET, uses one",
        ),
        ("[preset]\ncode = 3", "{file}, line 2: [preset.code] is not a table", None),
        ("[[preset.code]]\nmin_p = 1", "{file}, line 1: [preset.code] is not a table", None),
        ("seed = " + "9" * 5000, "{file}: a number in it has too many digits", "`mistral-chat config edit` opens it"),
        ("a=" + "[" * 9999, "{file}: is nested too deeply", "`mistral-chat config edit` opens it"),
        ("#" * (1 << 20) + "\n", "{file}: has 1,048,577 bytes, but the limit is 1,048,576", None),
    ],
)  # fmt: skip
def test_wrong_values_in_the_file_name_file_and_line(
    tmp_path: Path, text: str, message: str | None, hint: str | None
) -> None:
    file = write(tmp_path, text)
    if message is None:
        resolve_settings({}, {}, file)  # a preset is checked when it is used
        return
    with pytest.raises(UsageError) as caught:
        resolve_settings({}, {}, file)
    assert caught.value.message == message.format(file=file)
    if hint:
        assert caught.value.hint == hint


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(
        UsageError, match=r"^\$MISTRAL_CHAT_SEED: --seed must be a whole number from 0 to 4294967294, not 'x'$"
    ):
        resolve_settings({}, {"MISTRAL_CHAT_SEED": "x"}, None)


def test_an_unknown_preset_lists_the_known_ones(tmp_path: Path) -> None:
    file = write(tmp_path, "[preset.code]\n[preset.prose]\n")
    with pytest.raises(UsageError, match="no preset `cod`") as caught:
        resolve_settings({"preset": "cod"}, {}, file)
    assert caught.value.hint == "presets: code, prose"
    with pytest.raises(UsageError) as caught:
        resolve_settings({"preset": "cod"}, {}, write(tmp_path, ""))
    assert caught.value.hint == "there are none; `mistral-chat config edit` adds one"


def test_a_file_that_is_no_toml_or_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"config\.toml: "):
        resolve_settings({}, {}, write(tmp_path, "= 3"))
    file = tmp_path / "config.toml"
    file.write_bytes(b"top_k = 1\n# caf\xe9\n")
    with pytest.raises(UsageError, match=r"config\.toml, line 2: is not UTF-8 text$"):
        resolve_settings({}, {}, file)
    file.write_bytes(b"\xef\xbb\xbftop_k = 1\r\n")  # as an editor on Windows writes it
    assert resolve_settings({}, {}, file).settings.top_k == 1


@pytest.mark.skipif(sys.platform == "win32", reason="has no such files")
def test_a_path_that_is_no_file_is_refused_without_reading(tmp_path: Path) -> None:
    """A pipe would never end, a device neither."""
    file = tmp_path / "config.toml"
    os.mkfifo(file)
    for place in (file, tmp_path, Path("/dev/zero")):
        with pytest.raises(FileError, match=f"^{place}: is not a file$"):
            resolve_settings({}, {}, place)
    file.unlink()
    file.symlink_to(file)
    with pytest.raises(FileError, match=r"cannot be read: Too many levels of symbolic links$"):
        resolve_settings({}, {}, file)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[preset.code]\ntop_k = x", 2),
        ("top_k = 5\n[preset.prose]\ntop_k = 6\n[ preset . 'code' ]\n\n\"top_k\" = x", 6),
        ("\npreset.code.top_k = x", 2),
        ("[preset]\n\ncode = {top_k = x}", 3),
        ("[preset]\nprose.top_k = 1\ncode.top-k = x", 3),
    ],
)
def test_a_wrong_value_of_a_preset_names_its_line_however_it_is_written(tmp_path: Path, text: str, line: int) -> None:
    file = write(tmp_path, text.replace("= x", "= 'x'"))
    resolved = resolve_settings({}, {}, file)  # it may be used by nobody
    message = rf"^{re.escape(str(file))}, line {line}: --top-k must be a whole number from 0 to 2147483647, not 'x'$"
    with pytest.raises(UsageError, match=message):
        resolve_settings({"preset": "code"}, {}, file)
    with pytest.raises(UsageError, match=message):  # `config show` and `config edit` look at all
        check_presets(resolved, file)


def test_no_two_settings_share_a_flag() -> None:
    flags = [flag for each in option_specs().values() for flag in each.option.flags]
    assert len(flags) == len(set(flags))
