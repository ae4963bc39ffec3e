"""The system prompt of a release is found in its chat template, which is parsed and never run, or in its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.errors import DataError
from convert.tokenizer.added_tokens import read_notes
from convert.tokenizer.default_system import default_system_prompt
from tests.chat.prompts.test_detect import mistral_template

DATED = """{%- set today = strftime_now("%Y-%m-%d") %}
{%- set default_system_message = "It is " + today + ", was " ~ yesterday ~ ".\\nBe \\"kind\\"." %}[INST]"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (DATED, 'It is {today}, was {yesterday}.\nBe "kind".'),
        ("{%- set default_system_message = 'a[THINK]b[/THINK]c {x}' %}", "a[THINK]b[/THINK]c {x}"),
        ("{%- set default_system_message = '' %}", "of the file"),
        ("{%- set default_system_message = cycler.__init__ %}", "of the file"),
        ("{%- set default_system_message = 'a' * 10**9 %}", "of the file"),
        ("{%- set default_system_message = 'a' + range(9)|join %}", "of the file"),
        ("{%- set default_system_message = %}", "of the file"),
        ("{%- set default_system_message = " + "(" * 5000 + "'a'" + ")" * 5000 + " %}", "of the file"),
        ("{%- set default_system_message = " + "'a' + " * 20_000 + "'a' %}", "of the file"),
        (mistral_template("v13", spm=False), "of the file"),
        (None, "of the file"),
    ],
)
def test_the_template_comes_before_the_file(template: str | None, expected: str, tmp_path: Path) -> None:
    (tmp_path / "SYSTEM_PROMPT.txt").write_text("of the file\n")
    assert default_system_prompt(template, tmp_path) == expected


def test_a_folder_may_have_none_and_a_file_must_be_text(tmp_path: Path) -> None:
    assert default_system_prompt(None, tmp_path) == ""
    (tmp_path / "SYSTEM_PROMPT.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"SYSTEM_PROMPT\.txt: not UTF-8"):
        default_system_prompt(None, tmp_path)


def test_the_text_of_a_file_elsewhere_never_gets_into_a_gguf(tmp_path: Path) -> None:
    """An unpacked archive may hold links: a private file's text became metadata of a file that is published."""
    folder, private = tmp_path / "model", tmp_path / "id_rsa"
    (folder / "additional_chat_templates").mkdir(parents=True)
    private.write_text("private")
    for name in ("SYSTEM_PROMPT.txt", "chat_template.jinja", "additional_chat_templates/tools.jinja"):
        (folder / name).symlink_to(private)
        with pytest.raises(DataError, match=rf"{name}: is a link that leads out of the folder$"):
            default_system_prompt(None, folder) if name.endswith("txt") else read_notes(folder, {})
        (folder / name).unlink()
