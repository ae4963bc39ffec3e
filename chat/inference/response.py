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
from chat.core.events import (
    Completion,
    Event,
    Notice,
    Seconds,
    TokenCounts,
)
from chat.errors import ContextError, UsageError
from chat.inference.answer_text import AnswerText
from chat.inference.choice_scoring import check_options, choose, encode_option, option_tree, probabilities
from chat.inference.generator import GenerationInterrupted, GenerationRun
from chat.inference.logprobs import LogProbs
from chat.inference.reasoning import OneOf, ReasoningGate, ReasoningLimit
from chat.llama.sampler import Sampler, settle
from chat.prompts.builder import BuiltPrompt, build_prompt, encode, stable_prefix_length
from chat.prompts.mistral_versions import MISTRAL_VERSIONS
from chat.prompts.registry import takes_tools
from chat.prompts.segments import Ids, Text, content_segments
from chat.prompts.thinking import with_release_defaults
from chat.prompts.truncation import left_out_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from chat.core.conversation import Message
    from chat.core.request import Constraint, Request, Sampling
    from chat.inference.answer_text import Delta
    from chat.inference.loaded_model import LoadedModel, LoadedVocabulary
    from chat.inference.reasoning import Mask
    from chat.prompts.segments import Segment


class ResponseBuilder:
    """Builds the completion of one request from the ids generated for it, alone or as a sequence of a batch.

    Attributes:
        prompt: the ids to read before the answer.
        sampling: the request's values, with a seed.
        choices: the options of a choice constraint; then the answer comes from `choose`, else from `run` and `push`.
        run: how ids are drawn, and why the answer ended.
        ids: the ids of the answer so far, those of the reasoning included.
        cached: how many ids of the prompt were not read again.
    """

    def __init__(self, loaded: LoadedModel, request: Request) -> None:
        """Build the prompt and the sampler, which `close` frees.

        Raises:
            ContextError: the prompt does not fit.
            DataError: the prompt breaks a rule of its format.
            UsageError: a value is out of range, the constraint does not compile, or the format has no tools.
        """
        request = _prepared(loaded, request)
        self.loaded = loaded
        self.request = request
        self.sampling: Sampling = settle(request.sampling)
        drops = loaded.options.overflow == "drop"
        self.prompt: BuiltPrompt = build_prompt(
            request, loaded.vocabulary, loaded.prompt_format, loaded.limit, drops, loaded.info.trained_context
        )
        self.choices = _choices(request)
        self.cached = 0
        self.ids: list[int] = []
        self._logprobs = LogProbs(loaded.vocabulary, request.logprobs) if request.logprobs else None
        self._probabilities: dict[str, float] | None = None
        self._is_finished = False
        self._prefill_started: float | None = None
        self._generation_started: float | None = None
        self._answer = AnswerText(loaded, request, self.prompt.shown, continues=self.continues)
        self._gate: ReasoningGate | None = None
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
        if constraint is not None and (self._answer.marks is not None or not self.choices):
            mask = self._mask(constraint)
            before.append(mask.apply)
            after.append(lambda token: None if vocabulary.is_end(token) else mask.consume(token))
            is_complete = mask.is_complete
        if self.request.max_thinking_tokens is not None and self._answer.marks is not None:
            thinking = ReasoningLimit(self._answer.marks, self._answer.splitter, self.request.max_thinking_tokens)
            before.append(thinking.apply)
            after.append(thinking.consume)
        if self._logprobs is not None:
            before.append(self._logprobs.observe)
            after.append(self._logprobs.record)
        sampler = Sampler(self.sampling, vocabulary.size, self.prompt.shown)
        return GenerationRun(sampler, limit, vocabulary.is_end, before, after, is_complete)

    def _mask(self, constraint: Constraint) -> Mask:
        """What keeps ids within a constraint, from the end of the reasoning on.

        For a choice only the first id counts: it tells whether the model thinks before it chooses.
        """
        vocabulary = self.loaded.vocabulary
        mask: Mask
        if self.choices:
            mask = OneOf({encode_option(vocabulary, option, self.continues)[0] for option in self.choices})
        else:
            mask = self.loaded.grammars.mask(constraint, continues=self.continues)
        if self._answer.marks is None:
            return mask
        ends = vocabulary.ends | ({self._answer.calls_id} if self._answer.calls_id is not None else set())
        self._gate = ReasoningGate(mask, self._answer.marks, self._answer.splitter, ends)
        return self._gate

    def notices(self) -> list[str]:
        """Sentences for the user about this prompt, and those about the model that were not given yet."""
        has_marks = self._answer.marks is not None
        notices = self.loaded.take_notices(self.request, self.prompt, has_marks=has_marks)
        if self.prompt.dropped and self.loaded.limit is not None:
            notices.append(left_out_text(self.prompt.dropped, self.loaded.limit))
        return notices

    def start_prefill(self) -> None:
        """Start to measure the time of reading the prompt."""
        self._prefill_started = time.perf_counter()

    def start_generation(self) -> None:
        """Start to measure the time of the answer: the prompt is read."""
        self._generation_started = time.perf_counter()

    def push(self, token: int) -> list[Delta]:
        """Add an id to the answer, and end the run if the text ends with a stop string.

        Returns:
            What to show now: nothing of what may become a stop string or is part of a tool call.
        """
        self.ids.append(token)
        shown = self._answer.push(token)
        if self._answer.is_stopped:
            self.run.finish_reason = "stop"
        return shown

    def choose(self, logits_after: Callable[[tuple[int, ...]], NDArray[np.float32]]) -> list[Delta]:
        """Let one of the choices be the answer.

        Args:
            logits_after: gives the (vocabulary,) logits after the prompt, the reasoning and some ids.

        Returns:
            The choice, to be shown.

        Raises:
            EngineError: the model computed NaN.
        """
        vocabulary = self.loaded.vocabulary
        continues = self.continues or bool(self.ids)
        encoded = [encode_option(vocabulary, option, continues) for option in self.choices]
        found = probabilities(option_tree(encoded), vocabulary.ends, logits_after)
        chosen = choose(found, self.sampling)
        self._probabilities = {option: found[index] for index, option in enumerate(self.choices)}
        self.ids += encoded[chosen]
        self.run.finish_reason = "stop"
        return self._answer.add(self.choices[chosen])

    @property
    def is_reasoning_over(self) -> bool:
        """Whether the last id drawn belongs to a constrained answer, or the model does not think."""
        return self._gate is None or self._gate.has_answered

    def finish(self) -> list[Delta]:
        """End the text: no id follows.

        Returns:
            What to show that was held back.
        """
        self._is_finished = True
        return self._answer.finish(self._prompt_sha256)

    def completion(self) -> Completion:
        """The whole answer with its counts and times; nothing may be pushed any more."""
        if not self._is_finished:
            self.finish()
        answer, run, now = self._answer, self.run, time.perf_counter()
        generation_started = self._generation_started or now
        prefill_started = self._prefill_started or generation_started
        return Completion(
            text=answer.parsed.text if answer.parsed.calls else answer.text,
            finish_reason=run.finish_reason or "stop",
            ids=tuple(self.ids),
            prompt_ids_sha256=self._prompt_sha256,
            tokens=TokenCounts(
                len(self.prompt.ids), self.cached, len(self.ids), run.drafted, run.accepted, answer.reasoning_tokens
            ),
            seconds=Seconds(
                self.loaded.take_load_seconds(), generation_started - prefill_started, now - generation_started
            ),
            sampling=asdict(self.sampling),
            choice=self._probabilities,
            tool_calls=answer.parsed.calls,
            logprobs=tuple(self._logprobs.tokens) if self._logprobs else (),
            reasoning=answer.reasoning,
        )

    def close(self) -> None:
        """Free the sampler."""
        self.run.sampler.close()

    @cached_property
    def _prompt_sha256(self) -> str:
        return ids_sha256(self.prompt.shown)


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
            yield from _think(response)
            if response.run.finish_reason is None:
                read = (*prompt, *response.ids)
                yield from response.choose(lambda ids: generator.logits_after(read, ids))
        else:
            yield from _generate(response)
    except GenerationInterrupted:
        response.run.finish_reason = "interrupted"
    yield response.completion()


def _read_prompt(response: ResponseBuilder) -> Iterator[Event]:
    response.start_prefill()
    loaded, request, prompt = response.loaded, response.request, response.prompt.ids
    stable_length = len(prompt)
    if loaded.generator.context.window is not None:
        stable_length = stable_prefix_length(request.prompt, prompt, loaded.vocabulary, loaded.prompt_format)
    cache = loaded.generator.cache
    response.cached = cache.start_turn(prompt, response.run.limit, stable_length, request.session)
    yield from loaded.generator.read(prompt, stable_length)


def _think(response: ResponseBuilder) -> Iterator[Delta]:
    """Let a model think before it chooses; `run.finish_reason` stays None if it came to the choice."""
    if response.is_reasoning_over:
        return
    for token in response.loaded.generator.generate(response.run):
        if response.is_reasoning_over:
            response.run.finish_reason = None
            return
        yield from response.push(token)


def _generate(response: ResponseBuilder) -> Iterator[Delta]:
    for token in response.loaded.generator.generate(response.run):
        yield from response.push(token)
    yield from response.finish()


def render(loaded: LoadedVocabulary, request: Request) -> Rendered:
    """The prompt of a request as the model would read it, whether it fits or not.

    Raises:
        DataError: the prompt breaks a rule of its format.
        UsageError: the format has no tools.
    """
    request = _prepared(loaded, request)
    drops = loaded.options.overflow == "drop"
    limit = loaded.limit if drops else None
    try:
        prompt = build_prompt(request, loaded.vocabulary, loaded.prompt_format, limit, drops)
    except ContextError:  # a single turn is too long
        ids = encode(request.prompt, loaded.vocabulary, loaded.prompt_format)
        prompt = BuiltPrompt.of(ids, loaded.vocabulary)
    return Rendered(loaded.vocabulary.text_of(prompt.shown), prompt.shown, loaded.prompt_format, prompt.dropped)


def count(loaded: LoadedVocabulary, messages: Sequence[Message]) -> tuple[int, ...]:
    """How many tokens the content of each message has, without BOS; an answer of the model counts as its own ids.

    Raises:
        DataError: a picture is damaged.
        UsageError: the model reads no pictures.
    """

    version = MISTRAL_VERSIONS.get(loaded.prompt_format)
    sends_reasoning = version is not None and version.thinks

    def segments(message: Message) -> tuple[Segment, ...]:
        if message.pictures:
            return content_segments(message)
        text = Text(message.reasoning + message.content if sends_reasoning else message.content)
        has_own_ids = message.ids and (sends_reasoning or not message.reasoning)
        return (Ids(message.ids, (message.content or message.reasoning,), (text,)) if has_own_ids else text,)

    return tuple(len(loaded.vocabulary.encode(segments(message))) for message in messages)


def ids_sha256(ids: Sequence[int]) -> str:
    """The SHA-256 of ids as little-endian 32-bit integers, in hexadecimal digits."""
    numbers = array("i", ids)
    if sys.byteorder == "big":
        numbers.byteswap()
    return hashlib.sha256(numbers.tobytes()).hexdigest()


def _prepared(loaded: LoadedVocabulary, request: Request) -> Request:
    """A request with the defaults of the model's release; refuses functions for which its format has no place."""
    if not request.prompt.tools or takes_tools(loaded.prompt_format, loaded.vocabulary.template):
        defaults = with_release_defaults(request.prompt, loaded.info, loaded.own_system_prompt)
        return replace(request, prompt=defaults)
    hint = "leave out `--tools` and `--run-tools`"
    if loaded.prompt_format == "template":
        raise UsageError("the model's chat template has no place for functions", hint=hint)
    raise UsageError(
        f"the prompt format {loaded.prompt_format} has no function calls, which v2 and later have", hint=hint
    )


def _choices(request: Request) -> tuple[str, ...]:
    constraint = request.constraint
    if constraint is None or constraint.kind != "choice":
        return ()
    options = tuple(json.loads(constraint.source))
    check_options(options)
    return options
