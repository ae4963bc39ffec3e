"""A backend that answers from a script, for tests that need what no real model does on demand."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any

from chat.core.backend import ModelInfo, Rendered
from chat.core.conversation import ToolCall
from chat.core.events import Completion, LoadProgress, Notice, PrefillProgress, Seconds, TextDelta, TokenCounts
from chat.errors import EngineError, ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chat.core.conversation import Message
    from chat.core.events import Event
    from chat.core.request import Request


class Scripted:
    """Answers with the next script of a list, or with an echo if none is left.

    A script is a list of steps: ["text", "..."] (one event per character run given), ["chars", "..."] (one event per
    character), ["sleep", s], ["read", done, total, s], ["notice", "..."], ["length"] (ends by length), ["die"],
    ["figures", prompt, cached, generated, seconds of reading, seconds of answering], ["until", function],
    ["call", name, arguments, id], ["hang"] (ignores `cancel`), ["wait"] (until `cancel`). `load` is the time that
    loading takes, in seconds, or the message of a ModelError. `loaded` is the fraction that is reported meanwhile.
    """

    def __init__(
        self, scripts: Sequence[Sequence[Any]] = (), load: float | str = 0.0, context: int = 32768,
        window: int | None = None, name: str = "scripted", loaded: float = 0.0,
    ) -> None:  # fmt: skip
        self.scripts = list(scripts)
        self.load = load
        self.loaded = loaded
        self.context = context
        self.window = window
        self.name = name
        self.requests: list[Request] = []
        self.closed = False
        self._cancelled = threading.Event()
        self._ready_at = time.monotonic() + (load if isinstance(load, float) else 0.0)

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        if isinstance(self.load, str):
            raise ModelError(self.load, hint="try another")
        if self.loaded:
            on_loading(self.loaded)
        time.sleep(max(0.0, self._ready_at - time.monotonic()))
        return ModelInfo(
            f"/models/{self.name}.gguf", 1000, "Q4_K_M", "llama", self.window, self.context, 32768, "v3", name=self.name
        )

    def reply(self, request: Request) -> Iterator[Event]:
        self.requests.append(request)
        self._cancelled.clear()
        messages = request.prompt.messages or ()
        script = self.scripts.pop(0) if self.scripts else [["text", f"You said: {messages[-1].content}"]]
        if time.monotonic() < self._ready_at:
            yield LoadProgress(0.5)
            time.sleep(max(0.0, self._ready_at - time.monotonic()))
        text, reason, ids = "", "stop", []
        figures: Sequence[Any] = ()
        calls: list[ToolCall] = []
        for name, *values in script:
            if self._cancelled.is_set():
                reason = "interrupted"
                break
            if name == "chars":
                for character in values[0]:
                    if self._cancelled.is_set():
                        break
                    text += character
                    ids.append(len(ids))
                    yield TextDelta(character)
                    time.sleep(values[1] if len(values) > 1 else 0)
            elif name == "text":
                text += values[0]
                ids.append(len(ids))
                yield TextDelta(values[0])
            elif name == "length":
                reason = "length"
            elif name == "figures":
                figures = values
            elif name == "call":
                calls.append(ToolCall(*values))
            else:
                yield from self._other(name, values)
        if self._cancelled.is_set():
            reason = "interrupted"
        prompt = sum(len(message.content) // 4 + 3 for message in messages)
        prompt, cached, generated, read_seconds, seconds = figures or (prompt, max(0, prompt - 10), len(ids), 0.1, 0.5)
        yield Completion(
            text, reason, tuple(ids), "0" * 64, TokenCounts(prompt, cached, generated),
            Seconds(0.0, read_seconds, seconds), {"temperature": request.sampling.temperature},
            tuple(calls),
        )  # fmt: skip

    def _other(self, name: str, values: Sequence[Any]) -> Iterator[Event]:
        if name == "sleep":
            self._cancelled.wait(values[0])
        elif name == "read":
            yield PrefillProgress(values[0], values[1], values[2])
        elif name == "notice":
            yield Notice(values[0])
        elif name == "die":
            raise EngineError("the engine died: SIGSEGV", hint="`/regen` asks again")
        elif name == "wait":
            self._cancelled.wait()
        elif name == "until":
            while not values[0]():
                time.sleep(0.01)
        elif name == "hang":
            time.sleep(3600)
        elif name == "kill":
            os.kill(os.getpid(), values[0])
        else:
            raise AssertionError(name)

    def render(self, request: Request) -> Rendered:
        text = "".join(f"[{m.role}]{m.content}" for m in request.prompt.messages or ())
        return Rendered(text, tuple(range(len(text) // 4)), "v3")

    def count(self, messages: tuple[Message, ...]) -> tuple[int, ...]:
        return tuple(len(message.content) // 4 for message in messages)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self, *, keep_state: bool = True) -> None:
        self.closed = True
