"""A backend that answers from a script, for tests that need what no real model does on demand."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.backend import ModelInfo, Rendered
from chat.core.conversation import ToolCall
from chat.core.events import (
    Completion,
    LoadProgress,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    Seconds,
    TextDelta,
    TokenCounts,
)
from chat.documents.pictures import picture_size
from chat.errors import EngineError, ModelError
from chat.gguf.validate_pictures import PictureSizes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from chat.core.conversation import Message, Picture
    from chat.core.events import Event
    from chat.core.request import Request

    Condition: TypeAlias = str | Callable[[], object]

POLL_SECONDS = 0.002  # between two checks of a condition


def holds(condition: Condition | None) -> bool:
    """Whether a function gives something true, or a file exists; True without a condition."""
    if condition is None:
        return True
    return Path(condition).exists() if isinstance(condition, str) else bool(condition())


def _tokens(picture: Picture) -> int:
    columns, lines = PictureSizes(28, 1540, 5120).grid(*(picture_size(picture.data) or (1, 1)))
    return lines * (columns + 1)


class Scripted:
    """Answers with the next script of a list, or with an echo if none is left.

    A script is a list of steps: ["think", "..."] (reasoning), ["text", "..."] (one event per character run given),
    ["chars", "..."] (one event per character), ["read", done, total, s], ["notice", "..."], ["length"] (ends by
    length), ["die"],
    ["figures", prompt, cached, generated, seconds of reading, seconds of answering], ["call", name, arguments, id],
    ["hang"] (ignores `cancel`), ["wait"] (until `cancel`), ["until", condition] (or `cancel`). Loading ends when the
    condition `loads_when` holds; `load_error` is the message of a ModelError instead. `loaded` is the fraction that is
    reported meanwhile. A condition is a function, or the name of a file that exists then.
    """

    def __init__(
        self, scripts: Sequence[Sequence[Any]] = (), loads_when: Condition | None = None, context: int = 32768,
        window: int | None = None, name: str = "scripted", loaded: float = 0.0, load_error: str = "",
        system_prompt: str = "", efforts: Sequence[str] = (),
    ) -> None:  # fmt: skip
        self.scripts = list(scripts)
        self.loads_when = loads_when
        self.load_error = load_error
        self.loaded = loaded
        self.context = context
        self.window = window
        self.name = name
        self.system_prompt = system_prompt
        self.efforts = tuple(efforts)
        self.requests: list[Request] = []
        self.closed = False
        self._cancelled = threading.Event()

    def info(self, on_loading: Callable[[float], None] = lambda _: None) -> ModelInfo:
        if self.load_error:
            raise ModelError(self.load_error, hint="try another")
        if self.loaded:
            on_loading(self.loaded)
        self._wait_for_load()
        return ModelInfo(
            f"/models/{self.name}.gguf",
            1000,
            "Q4_K_M",
            "llama",
            self.window,
            self.context,
            32768,
            "v3",
            name=self.name,
            system_prompt=self.system_prompt,
            efforts=self.efforts,
        )

    def reply(self, request: Request) -> Iterator[Event]:
        self.requests.append(request)
        self._cancelled.clear()
        messages = request.prompt.messages or ()
        script = self.scripts.pop(0) if self.scripts else [["text", f"You said: {messages[-1].content}"]]
        if not holds(self.loads_when):
            yield LoadProgress(0.5)
            self._wait_for_load()
        text, reasoning, reason, ids = "", "", "stop", []
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
            elif name == "think":
                reasoning += values[0]
                ids.append(len(ids))
                yield ReasoningDelta(values[0])
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
            tuple(calls), reasoning=reasoning,
        )  # fmt: skip

    def _wait_for_load(self) -> None:
        while not holds(self.loads_when):
            time.sleep(POLL_SECONDS)

    def _other(self, name: str, values: Sequence[Any]) -> Iterator[Event]:
        if name == "until":
            while not holds(values[0]) and not self._cancelled.wait(POLL_SECONDS):
                pass
        elif name == "read":
            yield PrefillProgress(values[0], values[1], values[2])
        elif name == "notice":
            yield Notice(values[0])
        elif name == "die":
            raise EngineError("the engine stopped: SIGSEGV", hint="`/regen` asks again")
        elif name == "wait":
            self._cancelled.wait()
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
        """Four characters are a token; a picture has the tokens that Mistral Small 3.1 gives it."""
        return tuple(len(message.content) // 4 + sum(map(_tokens, message.pictures)) for message in messages)

    def cancel(self) -> None:
        self._cancelled.set()

    def close(self, *, keep_state: bool = True) -> None:
        self.closed = True
