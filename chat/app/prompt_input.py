"""What a one shot or a batch is asked: options, files, stdin, the argument and a template, put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.app.input_text import InputText, compose, decode, read_stdin
from chat.errors import DataError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.options import Settings


def question(words: Sequence[str], settings: Settings) -> InputText:
    """The text to answer.

    Raises:
        ChatError: there is none, a file cannot be read, or the template does not fit.
    """
    composed = compose(
        words, settings.file, read_stdin(), keep_newlines=settings.raw, may_be_empty=settings.template is not None
    )
    return InputText(_filled(composed.text, settings), composed.warnings)


class BatchPrompt:
    """Puts each prompt of a batch beside what all of them share: attached files before it, the argument after it."""

    def __init__(self, words: Sequence[str], settings: Settings) -> None:
        """Read what is shared.

        Raises:
            ChatError: a file cannot be read, or stdin is wanted twice.
        """
        if settings.batch == "-" and "-" in settings.file:
            raise UsageError("stdin is either the batch or an attached file")
        attached = compose([], settings.file, read_stdin() if "-" in settings.file else b"", may_be_empty=True)
        self._before, self._after, self._settings = attached.text, " ".join(words), settings
        self.warnings = attached.warnings

    def __call__(self, prompt: str) -> str:
        """The whole prompt."""
        parts = (self._before, prompt, self._after)
        return _filled("\n\n".join(part for part in parts if part), self._settings)


def _filled(text: str, settings: Settings) -> str:
    """The text, put into the template if one is named."""
    if settings.template is None:
        return text
    from chat.templates import store
    from chat.templates.template import given_values

    return store.load(settings.template).fill(text, given_values(settings.param))


def token_ids(path: str) -> tuple[int, ...]:
    """The token ids of `--raw-ids`.

    Raises:
        DataError: not a JSON list of whole numbers.
        UsageError: the list is empty.
    """
    name = "stdin" if path == "-" else path
    text = decode(read_stdin(), name).text if path == "-" else request_builder.read_text(Path(path))
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not JSON: {error}") from error
    if not isinstance(plain, list) or not all(type(each) is int and 0 <= each < 2**31 for each in plain):
        raise DataError(f"{name}: needs a JSON list of token ids")
    if not plain:
        raise UsageError(f"{name}: the list of token ids is empty")
    return tuple(plain)
