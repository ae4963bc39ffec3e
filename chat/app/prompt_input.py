"""The prompt of a one-shot run or a batch, from stdin, attached files, the argument and a template."""

from __future__ import annotations

import json
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app.backends import state_folder_of
from chat.documents.document import pictures_of, texts_of
from chat.documents.open_document import open_document, text_of_stdin
from chat.documents.plain_text import InputText, decode
from chat.documents.selection import SearchModels, Selection
from chat.errors import ContextError, DataError, UsageError, reason_text
from chat.system.characters import without_escaped_bytes
from chat.system.text_files import MOST_TEXT_BYTES, read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.config.options import Settings
    from chat.documents.document import Document
    from chat.system.environment import Environment
    from chat.templates.store import Template

VECTOR_FOLDER = "vectors"  # in the folder of saved states


def read_prompt(words: Sequence[str], settings: Settings, environment: Environment) -> InputText:
    """The text to answer.

    Args:
        words: the arguments that are no options.

    Raises:
        UsageError: the prompt is empty, or the template does not exist or lacks a value.
        FileError: a file cannot be read.
        DataError: a file is binary.
    """
    has_template = settings.template is not None
    composed = compose(
        words,
        settings.file,
        environment.read_stdin(),
        keep_newlines=settings.raw,
        may_be_empty=has_template,
        selection=selection_of(settings),
    )
    if composed.pictures and settings.raw:
        raise UsageError("pictures need a prompt format, but `--raw` has none", hint="leave out `--raw`")
    return InputText(PromptTemplate(settings).fill(composed.text), composed.warnings, composed.pictures)


class BatchPrompt:
    """Completes each prompt of a batch with what all share: attached files before it, the argument after it.

    Attributes:
        pictures: that are attached to each prompt.
        warnings: about the files.
    """

    def __init__(self, words: Sequence[str], settings: Settings, environment: Environment) -> None:
        """Read what is shared.

        Raises:
            UsageError: stdin is both the batch and an attached file, or the template does not exist.
            FileError: a file cannot be read.
            DataError: a file is binary.
        """
        if settings.batch == "-" and "-" in settings.file:
            raise UsageError("stdin cannot be both the batch and an attached file")
        stdin = environment.read_stdin() if "-" in settings.file else b""
        documents = open_all(settings.file, stdin)
        self.pictures = pictures_of(documents)
        if self.pictures and settings.raw:
            raise UsageError("pictures need a prompt format, but `--raw` has none", hint="leave out `--raw`")
        texts = texts_of(documents)
        select = selection_of(settings)
        self._selection = select(texts) if select is not None and texts else None
        self._before = "" if self._selection else without_escaped_bytes(_fenced(texts))
        self._after = " ".join(words)
        self._template = PromptTemplate(settings)
        self.warnings = tuple(warning for document in documents for warning in document.warnings)

    def __call__(self, prompt: str) -> str:
        """The whole prompt.

        Raises:
            UsageError: the template lacks a value.
            DataError: no passage of the files matches it.
        """
        question = "\n".join((prompt, self._after))
        before = self._selection.text_for(question).text if self._selection else self._before
        parts = (before, prompt, self._after)
        return self._template.fill("\n\n".join(part for part in parts if part))

    def close(self) -> None:
        """End what searches the files."""
        if self._selection is not None:
            self._selection.close()


class PromptTemplate:
    """The template that the settings name, with the values of its variables."""

    def __init__(self, settings: Settings) -> None:
        """Read the template.

        Raises:
            UsageError: it does not exist, or a value is not `NAME=TEXT`.
        """
        self._template: Template | None = None
        if settings.template is not None:
            from chat.templates import store
            from chat.templates.store import given_values

            self._template = store.load(settings.template)
            self._values = given_values(settings.param)

    def fill(self, text: str) -> str:
        """The text, put into the template if one is named.

        Raises:
            UsageError: a variable has no value.
        """
        return text if self._template is None else self._template.fill(text, self._values)


def read_token_ids(path: str, environment: Environment) -> tuple[int, ...]:
    """The token ids of `--raw-ids`; `-` is stdin.

    Raises:
        FileError: the file cannot be read.
        DataError: it is not a JSON list of whole numbers.
        UsageError: the list is empty.
    """
    name = "stdin" if path == "-" else path
    text = decode(environment.read_stdin(), name).text if path == "-" else read_text(Path(path))
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not JSON: {reason_text(error)}") from error
    if not isinstance(plain, list) or not all(type(number) is int and 0 <= number < 2**31 for number in plain):
        raise DataError(f"{name}: needs a JSON list of token ids")
    if not plain:
        raise UsageError(f"{name}: the list of token ids is empty")
    return tuple(plain)


def compose(
    words: Sequence[str],
    files: Sequence[str],
    stdin: bytes,
    *,
    keep_newlines: bool = False,
    may_be_empty: bool = False,
    selection: Callable[[Sequence[Document]], Selection] | None = None,
) -> InputText:
    """One prompt: files first, then stdin, then the argument, with blank lines between them.

    Args:
        keep_newlines: keep the newlines around stdin's text (for `--raw`).
        may_be_empty: a prompt template will add text.
        selection: takes of long files only the passages that match stdin and the argument.

    Raises:
        UsageError: the prompt is empty.
        FileError: a file cannot be read.
        DataError: a file is no text and no document that can be read, or no passage matches.
        ContextError: no context holds that much.
    """
    documents = open_all(files, stdin)
    piped = InputText("") if "-" in files else text_of_stdin(stdin)
    typed = " ".join(words)
    warnings = [warning for document in documents for warning in document.warnings]
    pictures = (*pictures_of(documents), *piped.pictures)
    documents = texts_of(documents)
    if selection is not None and (documents or not pictures):
        question = "\n".join((piped.text, typed))
        if not question.strip():
            raise UsageError("`--find` needs a question", hint='`mistral-chat -f FILE --find "question"`')
        with closing(selection(documents)) as selecting:
            found = selecting.text_for(question)
        before = found.text
        warnings += found.warnings
    else:
        before = _fenced(documents)
    if keep_newlines and not documents and not typed:
        parts = [piped.text]
    else:
        parts = [before, piped.text.strip("\r\n"), typed]
    text = "\n\n".join(part for part in parts if part)
    if not text.strip() and not pictures and not may_be_empty:
        raise UsageError("the prompt is empty", hint='`mistral-chat "question"`, or pipe text in')
    return InputText(without_escaped_bytes(text), (*warnings, *piped.warnings), pictures)


def selection_of(settings: Settings) -> Callable[[Sequence[Document]], Selection] | None:
    """What selects passages of documents; None without `--find`.

    Raises:
        ChatError: a model that is named is missing, or no embedding model.
    """
    if not settings.find:
        return None
    from chat.models.resolve import resolve

    answering = None if settings.remote or settings.model is None else resolve(settings.model)
    return partial(Selection, models=search_models(settings, answering), shows_progress=not settings.quiet)


def search_models(settings: Settings, answering: Path | None) -> SearchModels:
    """What ranks passages besides their words.

    Args:
        settings: the settings in force.
        answering: the GGUF that answers; None where a server answers, or none is named yet.

    Raises:
        ChatError: the embedding model that is named is missing, or none.
    """
    from chat.models.embedding import embedding_model

    folder = state_folder_of(settings)
    folder = None if folder is None else folder / VECTOR_FOLDER
    return SearchModels(answering, embedding_model(settings), folder, settings.threads or 0)


def open_all(names: Sequence[str], stdin: bytes) -> list[Document]:
    """What is attached.

    Args:
        stdin: what `-` stands for.

    Raises:
        FileError: a file cannot be read.
        DataError: a file is no text, and no document that can be read.
        ContextError: no context holds that much.
    """
    documents: list[Document] = []
    size = 0
    for name in names:
        documents.append(open_document(name, stdin))
        size += len(documents[-1].all_text()) + sum(len(each.data) for each in documents[-1].pictures)
        if size > MOST_TEXT_BYTES:
            raise ContextError(f"the files together are larger than the limit of {MOST_TEXT_BYTES >> 20} MiB")
    return documents


def _fenced(documents: Sequence[Document]) -> str:
    return "\n\n".join(document.fenced() for document in documents)
