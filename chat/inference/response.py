"""Answer a request: compose the prompt, read it, generate, and tell it all as events. Knows no processes."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from array import array
from dataclasses import asdict
from typing import TYPE_CHECKING

from chat.core.backend import Rendered
from chat.core.events import Completion, Event, Notice, PrefillProgress, Seconds, TextDelta, TokenCounts
from chat.errors import ContextError, UsageError
from chat.inference.choice_scoring import check_options, choose, option_tree, probabilities
from chat.inference.generator import GenerationInterrupted, GenerationRun, Generator
from chat.inference.logprobs import LogProbs
from chat.inference.stop_strings import StopFilter
from chat.llama.sampler import Sampler, settle
from chat.llama.tokenizer.tokenizer import StreamDecoder
from chat.prompts.builder import BuiltPrompt, build_prompt, encode, stable_prefix_length
from chat.prompts.registry import FORMATS
from chat.prompts.segments import Ids, Text
from chat.prompts.tool_call_parser import CALLS, ParsedAnswer, parse_answer, writes_calls

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.core.conversation import Message
    from chat.core.request import Request, Sampling
    from chat.inference.loaded_model import LoadedModel
    from chat.llama.tokenizer.tokenizer import Tokenizer
    from chat.prompts.segments import Segment


class ResponseBuilder:
    """One reply in the making: what was read, what was said, how long it took."""

    def __init__(self, room: LoadedModel, request: Request) -> None:
        if room.engine is None:
            raise UsageError("only the vocabulary was loaded: there is nothing to answer with")
        self.room = room
        self.engine: Generator = room.engine
        self.request = request
        self.sampling: Sampling = settle(request.sampling)
        self.composed: BuiltPrompt = build_prompt(
            request, room.vocabulary, room.prompt_format, room.limit, room.options.overflow == "drop"
        )
        if request.prompt.tools and not FORMATS[room.prompt_format].tools:
            raise UsageError(
                f"the prompt format {room.prompt_format} has no function calls", hint="`--tools` needs v2 or later"
            )
        self.options = self._options()
        self.chances: dict[str, float] | None = None
        self.logprobs = LogProbs(room.vocabulary, request.logprobs) if request.logprobs else None
        self.cached = 0
        self.ids: list[int] = []
        self.texts: list[str] = []
        self._withheld: list[str] | None = None  # what follows where calls may have begun
        self.read_seconds = self.generate_seconds = 0.0

    def events(self) -> Iterator[Event]:
        """Everything that happens, `Completion` last."""
        yield from map(Notice, self.notices())
        run = self.begin()
        try:
            yield from self._read(run.limit)
            yield from self._choose() if self.options else self._generate(run)
        except GenerationInterrupted:
            run.finish = "interrupted"
        finally:
            run.sampler.close()
        yield self.done(run)

    def notices(self) -> list[str]:
        """What the person should read of this prompt, and of the model once."""
        room = self.room
        told, room.notices = room.notices, []
        if self.request.prompt.messages is not None and room.format_notice:
            told.append(room.format_notice)
            room.format_notice = ""
        length, known = len(self.composed.ids), room.info.trained_context
        if room.limit is None and length > known and not room.is_beyond_training:
            told.append(f"the prompt has {length:,} tokens, more than the {known:,} the model was trained on")
            room.is_beyond_training = True
        if self.composed.dropped:
            told.append(
                f"the first {self.composed.dropped} of {self.composed.turns} turns no longer fit the context of "
                f"{room.limit:,} tokens and are left out of this prompt"
            )
        return told

    def begin(self) -> GenerationRun:
        """What decides the answer; its sampler is to be closed."""
        prompt = self.composed.ids
        room = self.room
        most = room.info.trained_context if room.limit is None else room.limit - len(prompt)
        limit = most if self.request.max_tokens is None else min(self.request.max_tokens, most)
        guide = None
        if self.request.constraint is not None and not self.options:
            guide = room.grammars.guide(self.request.constraint, continues=self.continues())
        run = GenerationRun(Sampler(self.sampling, room.vocabulary.size, prompt), limit, room.vocabulary.is_end)
        if guide is not None:
            run.before.append(guide.mask)
            run.after.append(lambda token: None if run.is_end(token) else guide.consume(token))
            run.is_complete = guide.is_complete
        if self.logprobs is not None:
            run.before.append(self.logprobs.look)
            run.after.append(self.logprobs.note)
        return run

    def _read(self, limit: int) -> Iterator[PrefillProgress]:
        begun = time.perf_counter()
        room, ids = self.room, self.composed.ids
        room.session, room.prompt, room.lasting = self.request.session, ids, len(ids)
        if self.engine.decoder.window is not None:
            room.lasting = stable_prefix_length(self.request.prompt, ids, room.vocabulary, room.prompt_format)
        self.cached = self.engine.reuse(ids, limit)
        try:
            yield from self.engine.read(ids, room.lasting)
        finally:
            self.read_seconds = time.perf_counter() - begun

    def _generate(self, run: GenerationRun) -> Iterator[TextDelta]:
        begun = time.perf_counter()
        try:
            yield from self._stream(run)
            if self._withheld and not self._parsed().calls:
                yield TextDelta("".join(self._withheld))
        finally:
            self.generate_seconds = time.perf_counter() - begun

    def _stream(self, run: GenerationRun) -> Iterator[TextDelta]:
        """The texts as they grow, up to the first tool call: nobody watches one grow."""
        decoder = StreamDecoder(self.room.vocabulary, continues=self.continues())
        constrained = self.request.constraint is not None  # then its grammar alone says where the answer ends
        stops = StopFilter(() if constrained else self.request.stop + FORMATS[self.room.prompt_format].stops)
        calls = self._calls_id()
        for token in self.engine.generate(run):
            self.ids.append(token)
            if token == calls and self._withheld is None:
                yield from self._say(stops.flush())
                self._withheld = []
            yield from self._say(stops.push(decoder.push(token)))
            if stops.stopped:
                run.finish = "stop"
                return
        yield from self._say(stops.push(decoder.flush()))
        yield from self._say(stops.flush())

    def _options(self) -> tuple[str, ...]:
        constraint = self.request.constraint
        if constraint is None or constraint.kind != "choice":
            return ()
        options = tuple(json.loads(constraint.source))
        check_options(options)
        return options

    def _choose(self) -> Iterator[TextDelta]:
        """Say one of the options, whole."""
        begun = time.perf_counter()
        vocabulary, prompt = self.room.vocabulary, self.composed.ids
        coded = [option_ids(vocabulary, option, self.continues()) for option in self.options]
        chances = probabilities(option_tree(coded), vocabulary.ends, lambda ids: self.engine.logits_after(prompt, ids))
        chosen = choose(chances, self.sampling)
        self.chances = {option: chances[at] for at, option in enumerate(self.options)}
        self.ids = list(coded[chosen])
        self.generate_seconds = time.perf_counter() - begun
        yield from self._say(self.options[chosen])

    def continues(self) -> bool:
        """Whether the answer goes on with a text, so that a leading space belongs to it."""
        prompt = self.request.prompt
        return prompt.continues or prompt.messages is None

    def _say(self, text: str) -> Iterator[TextDelta]:
        if not text:
            return
        self.texts.append(text)
        if self._withheld is None:
            yield TextDelta(text)
        else:
            self._withheld.append(text)

    def _calls_id(self) -> int | None:
        """The id that tool calls begin with, where the prompt format has them."""
        return self.room.vocabulary.control_id(CALLS.piece) if writes_calls(self.room.prompt_format) else None

    def _parsed(self) -> ParsedAnswer:
        if self._calls_id() not in self.ids:
            return ParsedAnswer("".join(self.texts))
        parts = self.room.vocabulary.segments_of(self.ids)
        return parse_answer(self.room.prompt_format, parts, ids_sha256(self.composed.ids))

    def done(self, run: GenerationRun) -> Completion:
        """The reply as it is now."""
        answer = self._parsed()
        return Completion(
            text=answer.text if answer.calls else "".join(self.texts),
            finish_reason=run.finish,
            ids=tuple(self.ids),
            prompt_ids_sha256=ids_sha256(self.composed.ids),
            tokens=TokenCounts(len(self.composed.ids), self.cached, len(self.ids), run.drafted, run.accepted),
            seconds=Seconds(self.room.load_seconds, self.read_seconds, self.generate_seconds),
            sampling=asdict(self.sampling),
            choice=self.chances,
            tool_calls=answer.calls,
            logprobs=tuple(self.logprobs.tokens) if self.logprobs else (),
        )


def reply(room: LoadedModel, request: Request) -> Iterator[Event]:
    """Answer one request.

    Raises:
        ChatError: the request cannot be answered.
    """
    yield from ResponseBuilder(room, request).events()
    room.load_seconds = 0.0  # counts for the first reply only


def render(room: LoadedModel, request: Request) -> Rendered:
    """The prompt of a request as the model would read it, whether it fits or not."""
    drops = room.options.overflow == "drop"
    try:
        composed = build_prompt(request, room.vocabulary, room.prompt_format, room.limit if drops else None, drops)
    except ContextError:  # a single turn is too long
        composed = BuiltPrompt(encode(request.prompt, room.vocabulary, room.prompt_format))
    return Rendered(room.vocabulary.text_of(composed.ids), composed.ids, room.prompt_format, composed.dropped)


def count(room: LoadedModel, messages: Sequence[Message]) -> tuple[int, ...]:
    """How many tokens each message's content takes, without BOS; an own answer goes back as the ids that it was."""

    def segment(message: Message) -> Segment:
        text = Text(message.content)
        return Ids(message.ids, (message.content,), (text,)) if message.ids else text

    return tuple(len(room.vocabulary.encode((segment(message),))) for message in messages)


def option_ids(vocabulary: Tokenizer, option: str, continues: bool) -> tuple[int, ...]:
    """The ids of an option as an answer; where it goes on with a text, without the space put before a text."""
    if not (continues and vocabulary.adds_space):
        return tuple(vocabulary.encode((Text(option),)))
    before = vocabulary.encode((Text("\n"),))
    return tuple(vocabulary.encode((Text("\n" + option),))[len(before) :])


def ids_sha256(ids: Sequence[int]) -> str:
    """Hash of ids as little-endian 32-bit numbers."""
    numbers = array("i", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return hashlib.sha256(numbers.tobytes()).hexdigest()
