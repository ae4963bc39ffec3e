"""Encode a prompt's segments and decode an answer's ids with a loaded vocabulary."""

from __future__ import annotations

import codecs
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING, Any, Protocol

from chat.errors import ModelError, UsageError
from chat.llama.tokenizer.text_encoder import TextEncoder
from chat.llama.tokenizer.vocabulary import Vocabulary
from chat.prompts.model_settings import ReasoningEfforts, reasoning_efforts
from chat.prompts.segments import (
    BEGIN_THINK,
    END_THINK,
    ChatTemplate,
    Control,
    Ids,
    IfPieces,
    Mark,
    PictureChunk,
    Segment,
    Text,
)

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from chat.core.conversation import Picture


class PictureIds(Protocol):
    """What stands for pictures among the ids of a prompt."""

    def ids(self, picture: Picture) -> Sequence[int]:
        """The negative ids of a picture's places.

        Raises:
            DataError: it is damaged, or larger than the limits.
        """

    def shown(self, ids: Iterable[int]) -> Iterator[int]:
        """Ids with those of [IMG] and [IMG_BREAK] in the places of pictures."""


class _Bos(tuple[int, ...]):
    """The BOS, if any, that stands before the text of a prompt and is no part of it."""

    __slots__ = ()


NO_PICTURES = (
    "a model that sees comes with an mmproj GGUF: keep it in the model's folder, or name it with `--mmproj`; "
    "`mistral-chat models pull hf:OWNER/NAME` fetches it from the hub"
)
NO_TEXT = "make its text readable first, for example with `ocrmypdf`, or use a model that sees"
_OWN_TEXT: Sequence[int] = range(0)  # no ids; compared by identity


class Tokenizer:
    """Encodes and decodes with a model's vocabulary.

    Text never becomes a control id, except for the pieces that mistral-common matches in text.

    Attributes:
        size: the number of pieces.
        template: the model's chat template.
        pictures: knows the places of pictures; None for a model that reads only text.
    """

    def __init__(self, vocab: Any, metadata: Mapping[str, Any]) -> None:
        """Prepare a vocabulary.

        Args:
            vocab: llama.cpp's pointer, of a model that outlives this object; it may hold the vocabulary alone.
            metadata: keys and values of its file, as the GGUF reader gives them.
        """
        self._pieces = Vocabulary(vocab, metadata)
        self._text = TextEncoder(self._pieces, metadata)
        self._metadata = metadata
        self._control_ids: dict[str, int | None] = {}
        self.size = self._pieces.size
        self.template = ChatTemplate.of_metadata(metadata)
        self.pictures: PictureIds | None = None

    def efforts(self, prompt_format: str) -> ReasoningEfforts | None:
        """The reasoning efforts that prompts in a format may name; None where they name none."""
        return reasoning_efforts(self._metadata, prompt_format)

    # --- ids of a prompt

    def encode(self, segments: Iterable[Segment]) -> list[int]:
        """The ids of a prompt.

        Raises:
            ModelError: the vocabulary lacks a control piece that the prompt format needs.
            DataError: a text has no UTF-8, or a picture is damaged.
            UsageError: the model reads no pictures.
        """
        ids: list[int] = []
        run = ""  # texts that are encoded together
        is_own, is_first = False, True
        for part in self._resolved(segments):
            if isinstance(part, str):
                run += part
                continue
            if part and part[0] >= 0 and self._pieces.strips_before(part[0]):
                run = run.rstrip()
            ids += self._text.encode(self._after(ids, run), is_own=is_own, is_first=is_first)
            ids += part
            is_own, is_first = part is _OWN_TEXT, is_first and not run and isinstance(part, _Bos)
            run = ""
        return ids + self._text.encode(self._after(ids, run), is_own=is_own, is_first=is_first)

    def fewest_tokens(self, text: str) -> int:
        """At least how many tokens a text has, without encoding it; 0 where the vocabulary does not tell."""
        return self._text.fewest_tokens(text)

    def _after(self, ids: Sequence[int], text: str) -> str:
        """The part of a text that is encoded after some ids."""
        return text.lstrip() if text and ids and ids[-1] >= 0 and self._pieces.strips_after(ids[-1]) else text

    def _resolved(self, segments: Iterable[Segment]) -> Iterator[str | Sequence[int]]:
        """Texts, each joined to the text before, and ids; `_OWN_TEXT` begins a text that is not joined."""
        start: Sequence[int] = ()  # the BOS, which a template may repeat
        for segment in segments:
            repeated, start = start, ()
            if isinstance(segment, Text):
                if not segment.joined:
                    yield _OWN_TEXT
                yield segment.text
            elif isinstance(segment, Ids):
                yield from (segment.ids,) if self._is_own(segment) else self._resolved(segment.instead)
            elif isinstance(segment, Control):
                yield self._control(segment)
            elif isinstance(segment, PictureChunk):
                yield self._places(segment.picture)
            elif isinstance(segment, IfPieces):
                pieces = (part.piece for part in segment.parts if isinstance(part, Control))
                has_all = all(self.control_id(piece) is not None for piece in pieces)
                yield from self._resolved(segment.parts if has_all else segment.instead)
            elif isinstance(segment, Mark):
                start = self._mark(segment)
                yield start
            else:
                yield from self._markup(segment.text, repeated)

    def _places(self, picture: Picture) -> Sequence[int]:
        if self.pictures is None:
            if picture.is_page:
                raise UsageError(f"{picture.name}: has no text, and the model does not see pictures", hint=NO_TEXT)
            raise UsageError(f"{picture.name}: the model reads only text, not pictures", hint=NO_PICTURES)
        return self.pictures.ids(picture)

    def shown(self, ids: Iterable[int]) -> tuple[int, ...]:
        """Ids with those of [IMG] and [IMG_BREAK] in the places of pictures."""
        return tuple(ids if self.pictures is None else self.pictures.shown(ids))

    def _is_own(self, segment: Ids) -> bool:
        """Whether ids are of this vocabulary and decode to what the message says."""
        if not segment.instead:
            return True
        if not all(0 <= token < self.size for token in segment.ids):
            return False
        decoded = self.decode(segment.ids)
        if segment.is_whole:
            return decoded == segment.says[0]
        return all(text in decoded or text in self.decode(self._spoken(segment.ids)) for text in segment.says)

    def _spoken(self, ids: Iterable[int]) -> Iterator[int]:
        """The ids of an answer without those between the control pieces of reasoning."""
        marks = {self.control_id(BEGIN_THINK.piece): True, self.control_id(END_THINK.piece): False}
        is_thought = False
        for token in ids:
            is_thought = marks.get(token, is_thought)
            if not is_thought:
                yield token

    def _control(self, segment: Control) -> str | Sequence[int]:
        found = self.control_id(segment.piece)
        if found is not None:
            return (found,)
        if segment.or_text:
            return segment.piece
        raise ModelError(
            f"the model's vocabulary has no control piece `{segment.piece}`, which the prompt format needs",
            hint="choose another one with `--prompt-format`",
        )

    def _mark(self, mark: Mark) -> Sequence[int]:
        if mark.name == "eos":
            return () if self.eos is None else (self.eos,)
        return _Bos() if self.bos is None or not self._pieces.wants_bos else _Bos((self.bos,))

    def _markup(self, text: str, start: Sequence[int]) -> Iterator[str | Sequence[int]]:
        """A template's markup: names of special pieces become their ids, the rest is joined text."""
        position = 0
        for match in self._pieces.special_names.finditer(text):
            if match.start() > position:
                yield text[position : match.start()]
            token = self._pieces.special[match.group()]
            yield (token,) if match.start() or token not in start else ()
            position = match.end()
        if position < len(text):
            yield text[position:]

    def control_id(self, piece: str) -> int | None:
        """The id of a control piece, or None where the vocabulary has none of that name."""
        if piece not in self._control_ids:
            self._control_ids[piece] = self._pieces.control_id(piece)
        return self._control_ids[piece]

    # --- text of an answer

    def piece_bytes(self, token: int) -> bytes:
        """The bytes that an id adds to an answer's text; none for control pieces.

        Raises:
            DataError: there is no such id.
        """
        return self._pieces.text_bytes(token)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of one whole answer, without control pieces."""
        decoder = StreamDecoder(self)
        return "".join(decoder.push(token) for token in ids) + decoder.flush()

    def segments_of(self, ids: Iterable[int]) -> tuple[Control | Text, ...]:
        """Generated ids as control pieces and the texts between them, each decoded on its own."""
        parts: list[Control | Text] = []
        for is_control, group in groupby(ids, key=self._pieces.is_control):
            if is_control:
                parts += [Control(self._pieces.named_bytes(token).decode("utf-8", "replace")) for token in group]
            else:
                parts.append(Text(self.decode(group)))
        return tuple(parts)

    def text_of(self, ids: Iterable[int]) -> str:
        """Ids as text for the user, with the names of control pieces; it may not encode to the same ids."""
        return b"".join(self._pieces.named_bytes(token) for token in ids).decode("utf-8", "replace")

    def is_control(self, token: int) -> bool:
        """Whether an id adds nothing to a text but has a name."""
        return self._pieces.is_control(token)

    def is_end(self, token: int) -> bool:
        """Whether an id ends an answer."""
        return self._pieces.is_end(token)

    @cached_property
    def ends(self) -> frozenset[int]:
        """All ids that end an answer."""
        candidates = {*self._pieces.special.values(), *self._pieces.listed_ends, *({self.eos} - {None})}
        return frozenset(token for token in candidates if token is not None and self._pieces.is_end(token))

    @property
    def special_names(self) -> re.Pattern[str]:
        """Finds names of special pieces."""
        return self._pieces.special_names

    @property
    def bos(self) -> int | None:
        """The id that begins a prompt."""
        return self._pieces.bos

    @property
    def eos(self) -> int | None:
        """The id that ends an answer within a prompt."""
        return self._pieces.eos

    @property
    def adds_space(self) -> bool:
        """Whether each text gets a space before it, as most answers then do."""
        return self._text.adds_space


class StreamDecoder:
    """Decodes the ids of one answer one by one into whole characters.

    The bytes of an incomplete character are held back; bytes that cannot become a character are U+FFFD. The space that
    SentencePiece writes before a text is left out, as in mistral-common.
    """

    def __init__(self, vocabulary: Tokenizer, continues: bool = False) -> None:
        """Start a text.

        Args:
            vocabulary: of the ids.
            continues: the ids continue an answer, so that a space before them belongs to the text.
        """
        self._vocabulary = vocabulary
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._strips_space = vocabulary.adds_space and not continues

    def push(self, token: int) -> str:
        """The characters that are complete with this id."""
        return self._stripped(self._utf8.decode(self._vocabulary.piece_bytes(token)))

    def flush(self) -> str:
        """The end of the text: U+FFFD for an incomplete character, else nothing."""
        return self._stripped(self._utf8.decode(b"", final=True))

    def _stripped(self, text: str) -> str:
        if not (self._strips_space and text):
            return text
        self._strips_space = False
        return text.removeprefix(" ")
