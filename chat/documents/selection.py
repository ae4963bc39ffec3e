"""The passages of documents that a question is answered from, as the model gets them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.documents.passages import all_passages
from chat.documents.plain_text import InputText
from chat.documents.stop_words import is_english
from chat.errors import ChatError, DataError
from chat.system.characters import fence_around
from chat.system.progress import count_bar
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chat.documents.document import Document
    from chat.documents.passages import Passage
    from chat.documents.search import PassageSearch
    from chat.system.progress import Progress
    from chat.worker.task import QuestionTask

RANK = "chat.documents.ranking"
# Made from all-MiniLM-L6-v2 (Apache-2.0) by tests/chat/documents/make_word_table.py
ENGLISH_WORDS = Path(__file__).with_name("english_words.gguf")
MOST_BYTES = 12_000  # of passages: about 3,000 tokens of English, less than the smallest window of a Mistral model
MOST_PLACES = 12  # that are named to the user
CITE = "Name the page, slide, row or line of each passage that the answer relies on, as it stands in brackets above it."


@dataclass(frozen=True)
class RankedDocuments:
    """Of which documents passages are ranked, and how.

    Attributes:
        word_table: a GGUF whose embedding table gives the vectors of words; empty if there is an embedding model.
        embedding_model: a GGUF that gives the vectors of sentences; empty if there is none.
        vector_folder: where vectors of sentences are kept; empty keeps none.
        threads: that the embedding model computes with; 0 chooses.
        names: of the documents.
        languages: of the documents, such as "csv".
        texts: of the documents, without parts.
        places: of each document, (start, label).
    """

    word_table: str
    embedding_model: str
    vector_folder: str
    threads: int
    names: list[str]
    languages: list[str]
    texts: list[str]
    places: list[Any]


@dataclass(frozen=True)
class SearchModels:
    """What ranks passages besides their words, and besides our table of English words.

    Attributes:
        answering: the GGUF that answers; its embedding table serves for other languages than English.
        embedding: a GGUF that turns sentences into vectors, used in place of a table of words.
        vector_folder: where the vectors of sentences are kept; None keeps none.
        threads: that the embedding model computes with; 0 chooses.
    """

    answering: Path | None = None
    embedding: Path | None = None
    vector_folder: Path | None = None
    threads: int = 0


NO_MODELS = SearchModels()


class Selection:
    """Selects from documents what is sent with a question, until `close`."""

    def __init__(
        self, documents: Sequence[Document], models: SearchModels = NO_MODELS, *, shows_progress: bool = False
    ) -> None:
        """Select from these documents.

        Args:
            documents: of which something is sent.
            models: what ranks their passages.
            shows_progress: draw a bar on a terminal while an embedding model reads them.
        """
        self._documents = documents
        self._models = models
        self._shows_progress = shows_progress
        self._search: PassageSearch | None = None  # by words; made when it is needed
        self._ranking: QuestionTask | None = None  # by words and meaning, likewise
        self._parts: list[Document] = []
        self._passages: list[Passage] = []
        self._word_table: Path | None = None  # a GGUF that has the vectors of words
        self._whole = "\n\n".join(document.fenced() for document in documents)

    def text_for(self, question: str) -> InputText:
        """What is sent with a question: all of the documents if they are short, else the passages that match best.

        Raises:
            DataError: no passage has a word of the question.
            ChatError: this Python has no full text search.
        """
        if len(self._whole.encode()) <= MOST_BYTES:
            return InputText(self._whole)
        if not self._passages:
            self._parts, self._passages = all_passages(self._documents)
            self._word_table = self._table_for(self._parts)
        ranked, warnings = self._ranked(question)
        documents, chosen = self._parts, within(ranked, MOST_BYTES)
        if not chosen:
            names = ", ".join(document.name for document in self._documents)
            hint = "ask with words that stand in it, or send all of it without `--find`"
            raise DataError(f"{names}: no passage has a word of the question", hint=hint)
        chosen.sort(key=lambda passage: (passage.document, passage.start))
        blocks = [
            _block(documents[number], list(passages))
            for number, passages in groupby(chosen, key=lambda passage: passage.document)
        ]
        note = f"{counted(len(chosen), 'passage')} of {len(self._passages):,} sent: {_places(documents, chosen)}"
        return InputText("\n\n".join([*blocks, CITE]), (*warnings, note))

    def _table_for(self, documents: Sequence[Document]) -> Path | None:
        if self._models.embedding is not None:
            return None
        return ENGLISH_WORDS if is_english(document.text for document in documents) else self._models.answering

    def _by_words(self, question: str) -> list[Passage]:
        if self._search is None:
            from chat.documents.search import PassageSearch

            self._search = PassageSearch(self._documents)
        return self._search.ranked(question)

    def _ranked(self, question: str) -> tuple[list[Passage], tuple[str, ...]]:
        """The passages that match, best first, and warnings."""
        if self._word_table is None and self._models.embedding is None:
            return self._by_words(question), ()
        try:
            with self._progress_bar() as advance:
                found = self._ranking_task().ask({"question": question}, lambda each: advance(*each["progress"]))
        except ChatError as error:
            self.close()
            return self._by_words(question), (f"the passages were found by their words only: {error.message}",)
        return [self._passages[number] for number in found["passages"]], ()

    @contextmanager
    def _progress_bar(self) -> Iterator[Callable[[int, int], None]]:
        """What takes the number of sentences that were read, and of all; the bar appears with the first."""
        with ExitStack() as stack:
            bars: list[Progress] = []

            def advance(count: int, total: int) -> None:
                if not bars:
                    bar = count_bar("Reading the passages", total, enabled=self._shows_progress)
                    bars.append(stack.enter_context(bar))
                bars[0].advance(count)

            yield advance

    def _ranking_task(self) -> QuestionTask:
        """The process that ranks the passages.

        Raises:
            ChatError: it cannot be started.
        """
        if self._ranking is None:
            from chat.worker.task import QuestionTask

            subject = RankedDocuments(
                str(self._word_table or ""),
                str(self._models.embedding or ""),
                str(self._models.vector_folder or ""),
                self._models.threads,
                [each.name for each in self._parts],
                [each.language for each in self._parts],
                [each.text for each in self._parts],
                [each.places for each in self._parts],
            )
            self._ranking = QuestionTask(RANK, asdict(subject))
        return self._ranking

    def close(self) -> None:
        """End the process that ranks the passages, if there is one."""
        ranking, self._ranking = self._ranking, None
        if ranking is not None:
            ranking.close()


def within(ranked: Sequence[Passage], most_bytes: int) -> list[Passage]:
    """The best passages that fit together."""
    chosen: list[Passage] = []
    for passage in ranked:
        most_bytes -= len(passage.text.encode()) + len(passage.place) + len(passage.heading)
        if most_bytes < 0 and chosen:
            break
        chosen.append(passage)
    return chosen


def _block(document: Document, passages: Sequence[Passage]) -> str:
    """Passages of one document, in its order; those that follow each other in one piece."""
    pieces: list[str] = []
    end = -1
    for passage in passages:
        if end >= 0 and not document.text[end : passage.start].strip():
            pieces[-1] += document.text[end : passage.end]
        else:
            heading = f" {passage.heading}" if passage.heading and passage.heading not in passage.text[:200] else ""
            text = passage.text.removeprefix(f"[{passage.place}]").lstrip("\n")
            pieces.append(f"[{passage.place}]{heading}\n{text}")
        end = passage.end
    text = "\n\n".join(pieces)
    fence = fence_around(text)
    return f"Passages of `{document.name}`:\n{fence}\n{text}\n{fence}"


def _places(documents: Sequence[Document], passages: Sequence[Passage]) -> str:
    """Where the passages stand, for the user."""
    parts = []
    for number, group in groupby(passages, key=lambda passage: passage.document):
        places = list(dict.fromkeys(passage.place for passage in group))
        named = []
        for word, alike in groupby(places[:MOST_PLACES], key=lambda place: place.rpartition(" ")[0]):
            numbers = [place.rpartition(" ")[2] for place in alike]
            named.append(f"{word if len(numbers) == 1 else word + 's'} {', '.join(numbers)}")
        more = ", …" if len(places) > MOST_PLACES else ""
        parts.append(f"{documents[number].name}, {', '.join(named)}{more}")
    return "; ".join(parts)
