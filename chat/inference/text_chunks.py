"""Cut a text into chunks of tokens that a model reads one by one, as llama-perplexity and llama-imatrix do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.errors import DataError
from chat.prompts.segments import Mark, Text
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from chat.llama.tokenizer.tokenizer import Tokenizer

Chunks = tuple[tuple[int, ...], ...]


def cut_text(vocabulary: Tokenizer, text: str, size: int, *, remedy: str) -> tuple[tuple[int, ...], Chunks]:
    """The ids of a text, and the whole chunks of them.

    Args:
        vocabulary: of the model.
        text: what is read.
        size: tokens of a chunk.
        remedy: what the user can do if the text is too short.

    Returns:
        All ids; and chunks of `size` ids, of which the first is BOS where the model begins its prompts with one.

    Raises:
        DataError: the text has less than two chunks.
    """
    start = vocabulary.encode((Mark("bos"),))
    ids = vocabulary.encode((Mark("bos"), Text(text, joined=True)))
    if len(ids) < 2 * size:
        raise DataError(
            f"the text has {counted(len(ids), 'token')}, but chunks of {size:,} need {2 * size:,} at least", hint=remedy
        )
    chunks = tuple((*start, *ids[at * size + len(start) : (at + 1) * size]) for at in range(len(ids) // size))
    return tuple(ids), chunks
