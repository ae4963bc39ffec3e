"""The guide as a backend: adds help topics to each question and decodes greedily."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.core.conversation import Message
from chat.core.events import Notice
from chat.guide.topics import help_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from chat.core.backend import ChatBackend, ModelInfo, Rendered
    from chat.core.events import Completion, Event
    from chat.core.request import Request
    from chat.errors import ChatError

MOST_CHARACTERS = 10_000  # of a question, its end, in which topics are looked for; the guide's context holds fewer


def guide_notice() -> str:
    """What the user reads where the guide answers in place of a full model."""
    from chat.hub.names import DEFAULT  # with all of the hub: too slow for each start of the guide

    return (
        "the guide answers: a small model that knows this program and the Mistral 7B family, and nothing else; "
        f"`mistral-chat models pull {DEFAULT.aliases[0]}` gets a full one"
    )


def with_topics(request: Request) -> Request:
    """The request as the guide was trained on it: the topics of its last question as the system prompt, greedy.

    It replaces a system prompt of the user, which the guide does not understand. Prompts of text or ids do not change.
    """
    messages = request.prompt.messages
    if messages is None:
        return request
    spoken = tuple(message for message in messages if message.role != "system")
    asked = next((message.content for message in reversed(spoken) if message.role == "user"), "")
    prompt = replace(request.prompt, messages=(Message("system", help_text(asked[-MOST_CHARACTERS:])), *spoken))
    return replace(request, prompt=prompt, sampling=replace(request.sampling, temperature=0.0))


class GuideBackend:
    """A `ChatBackend` that adds help topics to requests and passes them to another backend."""

    def __init__(self, engine: ChatBackend) -> None:
        """Wrap an engine that has loaded the guide, or is loading it; it is closed with this."""
        self._engine = engine
        self._has_noted = False

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        """What answers."""
        return self._engine.info(on_loading)

    def reply(self, request: Request) -> Iterator[Event]:
        """Yield events, the last one `Completion`; the first system prompt gives a notice that it is ignored."""
        yield from map(Notice, self._new_notices(request))
        yield from self._engine.reply(with_topics(request))

    def answer_all(
        self, requests: Iterable[Request], parallel: int | None, on_notice: Callable[[str], None] = lambda _: None
    ) -> Iterator[tuple[int, Completion | ChatError]]:
        """Answer many requests."""

        def with_notices(request: Request) -> Request:
            for notice in self._new_notices(request):
                on_notice(notice)
            return with_topics(request)

        return self._engine.answer_all(map(with_notices, requests), parallel, on_notice)

    def _new_notices(self, request: Request) -> tuple[str, ...]:
        """The notices about a request that were not given before."""
        if self._has_noted or all(message.role != "system" for message in request.prompt.messages or ()):
            return ()
        self._has_noted = True
        return ("the guide ignores system prompts; a full model follows them",)

    def render(self, request: Request) -> Rendered:
        """The prompt's text and ids, with the help topics."""
        return self._engine.render(with_topics(request))

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        """How many tokens each message's content takes, without what the prompt format adds."""
        return self._engine.count(messages)

    def cancel(self) -> None:
        """Stop the reply that is being made."""
        self._engine.cancel()

    def close(self, *, keep_state: bool = True) -> None:
        """Unload the model."""
        self._engine.close(keep_state=keep_state)
