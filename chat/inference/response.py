"""Answer a request: build its prompt, read it, generate, and collect the answer."""

from __future__ import annotations

import hashlib
import json
import sys
import time
from array import array
from contextlib import closing
from dataclasses import asdict, replace
from functools import cached_property
from typing import TYPE_CHECKING

from chat.core.backend import Rendered
from chat.core.events import Completion, Event, Notice, PrefillProgress, Seconds, TextDelta, TokenCounts
from chat.errors import ContextError, UsageError
from chat.inference.choice_scoring import check_options, choose, encode_option, option_tree, probabilities
from chat.inference.generator import GenerationInterrupted, GenerationRun
from chat.inference.logprobs import LogProbs
from chat.inference.stop_strings import StopFilter
from chat.llama.sampler import Sampler, settle
from chat.llama.tokenizer.tokenizer import StreamDecoder
from chat.prompts.builder import BuiltPrompt, build_prompt, encode, stable_prefix_length
from chat.prompts.default_system import with_default_system
from chat.prompts.registry import takes_tools
from chat.prompts.segments import Ids, Text
from chat.prompts.tool_call_parser import CALLS, ParsedAnswer, parse_answer, writes_calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.conversation import Message
    from chat.core.request import Request, Sampling
    from chat.inference.loaded_model import LoadedModel, LoadedVocabulary
    from chat.prompts.segments import Segment


class ResponseBuilder:
    """Builds the completion of one request from the ids generated for it, alone or as a sequence of a batch.

    Attributes:
        prompt: the ids to read before the answer.
        sampling: the request's values, with a seed.
        choices: the options of a choice constraint; then the answer comes from `choose`, else from `run` and `push`.
        run: how ids are drawn, and why the answer ended.
        ids: the ids of the answer so far.
        cached: how many ids of the prompt were not read again.
    """

    def __init__(self, loaded: LoadedModel, request: Request) -> None:
        """Build the prompt and the sampler, which `close` frees.

        Raises:
            ContextError: the prompt does not fit.
            DataError: the prompt breaks a rule of its format.
            UsageError: a value is out of range, the constraint does not compile, or the format has no tools.
        """
        request = replace(request, prompt=with_default_system(request.prompt, loaded.info.system_prompt))
        self.loaded = loaded
        self.request = request
        self.sampling: Sampling = settle(request.sampling)
        self.prompt: BuiltPrompt = build_prompt(
            request, loaded.vocabulary, loaded.prompt_format, loaded.limit, loaded.options.overflow == "drop"
        )
        if request.prompt.tools and not takes_tools(loaded.prompt_format, loaded.vocabulary.template):
            raise UsageError(
                f"the prompt format {loaded.prompt_format} has no function calls", hint="`--tools` needs v2 or later"
            )
        self.choices = _choices(request)
        self.cached = 0
        self.ids: list[int] = []
        self._logprobs = LogProbs(loaded.vocabulary, request.logprobs) if request.logprobs else None
        self._probabilities: dict[str, float] | None = None
        self._texts: list[str] = []
        self._withheld: list[str] | None = None  # the text since the start of what may be tool calls
        self._is_finished = False
        self._prefill_started: float | None = None
        self._generation_started: float | None = None
        self._decoder = StreamDecoder(loaded.vocabulary, continues=self.continues)
        is_constrained = request.constraint is not None  # then the grammar alone decides where the answer ends
        self._stops = StopFilter(() if is_constrained else request.stop + loaded.stop_texts)
        self._calls_id = loaded.vocabulary.control_id(CALLS.piece) if writes_calls(loaded.prompt_format) else None
        self.run = self._make_run()

    @property
    def continues(self) -> bool:
        """Whether the answer continues a text, so that a leading space belongs to it."""
        prompt = self.request.prompt
        return prompt.continues or prompt.messages is None

    def _make_run(self) -> GenerationRun:
        loaded, prompt, constraint = self.loaded, self.prompt.ids, self.request.constraint
        most = loaded.info.trained_context if loaded.limit is None else loaded.limit - len(prompt)
        limit = most if self.request.max_tokens is None else min(self.request.max_tokens, most)
        vocabulary = loaded.vocabulary
        before: list[Callable[[NDArray[np.float32]], None]] = []
        after: list[Callable[[int], None]] = []
        is_complete: Callable[[], bool] | None = None
        if constraint is not None and not self.choices:
            mask = loaded.grammars.mask(constraint, continues=self.continues)
            before.append(mask.apply)
            after.append(lambda token: None if vocabulary.is_end(token) else mask.consume(token))
            is_complete = mask.is_complete
        if self._logprobs is not None:
            before.append(self._logprobs.observe)
            after.append(self._logprobs.record)
        sampler = Sampler(self.sampling, vocabulary.size, prompt)
        return GenerationRun(sampler, limit, vocabulary.is_end, before, after, is_complete)

    def notices(self) -> list[str]:
        """Sentences for the user about this prompt, and those about the model that were not given yet."""
        notices = self.loaded.take_notices(self.prompt, is_conversation=self.request.prompt.messages is not None)
        if self.prompt.dropped:
            notices.append(
                f"the first {self.prompt.dropped} of {self.prompt.turns} turns no longer fit the context of "
                f"{self.loaded.limit:,} tokens and are left out of this prompt"
            )
        return notices

    def start_prefill(self) -> None:
        """Start to measure the time of reading the prompt."""
        self._prefill_started = time.perf_counter()

    def start_generation(self) -> None:
        """Start to measure the time of the answer: the prompt is read."""
        self._generation_started = time.perf_counter()

    def push(self, token: int) -> str:
        """Add an id to the answer, and end the run if the text ends with a stop string.

        Returns:
            Text to show now: nothing of what may become a stop string or is part of a tool call.
        """
        self.ids.append(token)
        shown = ""
        if token == self._calls_id and self._withheld is None:
            shown = self._add(self._stops.flush())
            self._withheld = []
        shown += self._add(self._stops.push(self._decoder.push(token)))
        if self._stops.stopped:
            self.run.finish_reason = "stop"
        return shown

    def choose(self, logits_after: Callable[[tuple[int, ...]], NDArray[np.float32]]) -> str:
        """Let one of the choices be the answer.

        Args:
            logits_after: gives the (vocabulary,) logits after the prompt and some ids.

        Returns:
            The choice.

        Raises:
            EngineError: the model computed NaN.
        """
        vocabulary = self.loaded.vocabulary
        encoded = [encode_option(vocabulary, option, self.continues) for option in self.choices]
        found = probabilities(option_tree(encoded), vocabulary.ends, logits_after)
        chosen = choose(found, self.sampling)
        self._probabilities = {option: found[index] for index, option in enumerate(self.choices)}
        self.ids = list(encoded[chosen])
        self.run.finish_reason = "stop"
        return self._add(self.choices[chosen])

    def finish(self) -> str:
        """End the text: no id follows.

        Returns:
            Text to show that was held back.
        """
        self._is_finished = True
        shown = ""
        if not self._stops.stopped:
            shown = self._add(self._stops.push(self._decoder.flush())) + self._add(self._stops.flush())
        return shown if self._parsed.calls else shown + "".join(self._withheld or ())

    def completion(self) -> Completion:
        """The whole answer with its counts and times; nothing may be pushed any more."""
        if not self._is_finished:
            self.finish()
        run, parsed, now = self.run, self._parsed, time.perf_counter()
        generation_started = self._generation_started or now
        prefill_started = self._prefill_started or generation_started
        return Completion(
            text=parsed.text if parsed.calls else "".join(self._texts),
            finish_reason=run.finish_reason or "stop",
            ids=tuple(self.ids),
            prompt_ids_sha256=self._prompt_sha256,
            tokens=TokenCounts(len(self.prompt.ids), self.cached, len(self.ids), run.drafted, run.accepted),
            seconds=Seconds(
                self.loaded.take_load_seconds(), generation_started - prefill_started, now - generation_started
            ),
            sampling=asdict(self.sampling),
            choice=self._probabilities,
            tool_calls=parsed.calls,
            logprobs=tuple(self._logprobs.tokens) if self._logprobs else (),
        )

    def close(self) -> None:
        """Free the sampler."""
        self.run.sampler.close()

    def _add(self, text: str) -> str:
        """Add text to the answer; what of it may be shown."""
        self._texts.append(text)
        if self._withheld is None:
            return text
        self._withheld.append(text)
        return ""

    @cached_property
    def _parsed(self) -> ParsedAnswer:
        """The whole answer, its tool calls parsed; only after `finish`."""
        if self._calls_id not in self.ids:
            return ParsedAnswer("".join(self._texts))
        parts = self.loaded.vocabulary.segments_of(self.ids)
        return parse_answer(self.loaded.prompt_format, parts, self._prompt_sha256)

    @cached_property
    def _prompt_sha256(self) -> str:
        return ids_sha256(self.prompt.ids)


def reply(loaded: LoadedModel, request: Request) -> Iterator[Event]:
    """Answer one request, and yield everything that happens; `Completion` is the last event.

    Raises:
        ChatError: the request cannot be answered.
    """
    with closing(ResponseBuilder(loaded, request)) as response:
        yield from map(Notice, response.notices())
        yield from stream(response)


def stream(response: ResponseBuilder) -> Iterator[Event]:
    """Make an answer in the model's own context; `Completion` is the last event.

    Raises:
        EngineError: llama.cpp failed, the model computed NaN, or the constraint allows no id.
    """
    prompt, generator = response.prompt.ids, response.loaded.generator
    try:
        yield from _read_prompt(response)
        response.start_generation()
        if response.choices:
            yield TextDelta(response.choose(lambda ids: generator.logits_after(prompt, ids)))
        else:
            yield from _generate(response)
    except GenerationInterrupted:
        response.run.finish_reason = "interrupted"
    yield response.completion()


def _read_prompt(response: ResponseBuilder) -> Iterator[PrefillProgress]:
    response.start_prefill()
    loaded, request, prompt = response.loaded, response.request, response.prompt.ids
    stable_length = len(prompt)
    if loaded.generator.context.window is not None:
        stable_length = stable_prefix_length(request.prompt, prompt, loaded.vocabulary, loaded.prompt_format)
    cache = loaded.generator.cache
    response.cached = cache.start_turn(prompt, response.run.limit, stable_length, request.session)
    yield from loaded.generator.read(prompt, stable_length)


def _generate(response: ResponseBuilder) -> Iterator[TextDelta]:
    for token in response.loaded.generator.generate(response.run):
        if text := response.push(token):
            yield TextDelta(text)
    if text := response.finish():
        yield TextDelta(text)


def render(loaded: LoadedVocabulary, request: Request) -> Rendered:
    """The prompt of a request as the model would read it, whether it fits or not.

    Raises:
        DataError: the prompt breaks a rule of its format.
    """
    request = replace(request, prompt=with_default_system(request.prompt, loaded.info.system_prompt))
    drops = loaded.options.overflow == "drop"
    limit = loaded.limit if drops else None
    try:
        prompt = build_prompt(request, loaded.vocabulary, loaded.prompt_format, limit, drops)
    except ContextError:  # a single turn is too long
        prompt = BuiltPrompt(encode(request.prompt, loaded.vocabulary, loaded.prompt_format))
    return Rendered(loaded.vocabulary.text_of(prompt.ids), prompt.ids, loaded.prompt_format, prompt.dropped)


def count(loaded: LoadedVocabulary, messages: Sequence[Message]) -> tuple[int, ...]:
    """How many tokens the content of each message has, without BOS; an answer of the model counts as its own ids."""

    def segment(message: Message) -> Segment:
        text = Text(message.content)
        return Ids(message.ids, (message.content,), (text,)) if message.ids else text

    return tuple(len(loaded.vocabulary.encode((segment(message),))) for message in messages)


def ids_sha256(ids: Sequence[int]) -> str:
    """The SHA-256 of ids as little-endian 32-bit integers, in hexadecimal digits."""
    numbers = array("i", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _choices(request: Request) -> tuple[str, ...]:
    constraint = request.constraint
    if constraint is None or constraint.kind != "choice":
        return ()
    options = tuple(json.loads(constraint.source))
    check_options(options)
    return options
