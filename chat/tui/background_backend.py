"""Hold the engine that answers: it loads in the background, is waited for, and gives way to another.

Knows when a model is ready, not what is asked of it.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.core.request import EngineOptions
from chat.errors import ChatError
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from chat.config.options import Settings
    from chat.core.backend import ChatBackend, ModelInfo


def options_for(settings: Settings, state_folder: Path | None) -> EngineOptions:
    """How the engine is to be loaded for a session under these settings; a server needs only a model's name.

    Raises:
        ChatError: there is no such model, or options contradict each other.
    """
    if settings.remote:
        return EngineOptions(settings.remote_model or "")
    path = resolve(settings.model).absolute()  # a session may go on in another folder
    return request_builder.engine_options(settings, path, session=True, state_folder=state_folder)


class BackgroundBackend:
    """One engine at a time. Its methods wait for the load, so that no two threads speak to an engine at once."""

    def __init__(self, factory: Callable[[EngineOptions], ChatBackend], options: EngineOptions) -> None:
        self._factory = factory
        self.options = options
        self.on_loaded: Callable[[], None] = lambda: None  # in the loading thread, while nobody else asks the engine
        self.on_change: Callable[[], None] = lambda: None
        self.info: ModelInfo | None = None
        self.fault: ChatError | None = None
        self.loaded = 0.0  # the fraction that is loaded, where it is known
        self.replier: ChatBackend
        self._settled = threading.Event()
        self._open(options)

    @property
    def is_settled(self) -> bool:
        """Whether loading has ended, well or not."""
        return self._settled.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until loading has ended; False when the time is over first."""
        return self._settled.wait(seconds)

    def change(self, options: EngineOptions) -> None:
        """Let go of the model and load another, or the same one otherwise.

        Raises:
            ChatError: the new one cannot be used; the old one is being loaded again.
        """
        self.close()
        try:
            self._open(options)
        except ChatError:
            self._open(self.options)
            raise
        self.options = options

    def back_to(self, options: EngineOptions) -> None:
        """Load what was there before a change that failed."""
        self.close()
        self._open(options)
        self.options = options

    def close(self, *, keep_state: bool = True) -> None:
        """Let go of the model, without its state where there is no time for it."""
        self.replier.close(keep_state=keep_state)

    def _open(self, options: EngineOptions) -> None:
        self.replier = self._factory(options)
        self.info = self.fault = None
        self.loaded = 0.0
        self._settled = threading.Event()
        threading.Thread(target=self._load, args=(self.replier, self._settled), daemon=True, name="load").start()

    def _load(self, replier: ChatBackend, settled: threading.Event) -> None:
        """Wait for the model; whatever happens, nobody is left waiting."""

        def note(fraction: float) -> None:
            if replier is self.replier:
                self.loaded = fraction
                self.on_change()

        try:
            info = replier.info(note)
            if replier is self.replier:
                self.info = info
                self.on_loaded()
        except Exception as error:
            fault = error if isinstance(error, ChatError) else ChatError(f"unexpected: {type(error).__name__}: {error}")
            if replier is self.replier:
                self.info, self.fault = None, fault
        settled.set()
        self.on_change()
