"""The session's backend: it loads a model in a thread, and can replace it by another."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.app.remotes import RemoteOptions, remote_options
from chat.core.conversation import Message
from chat.errors import ChatError, as_chat_error
from chat.models.resolve import resolve
from chat.tui.event_queue import SessionEvent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from chat.app.backends import BackendOptions
    from chat.config.options import Settings
    from chat.core.backend import ChatBackend, ModelInfo, Rendered
    from chat.core.conversation import Picture
    from chat.core.events import Event
    from chat.core.request import Request
    from chat.tui.event_queue import EventQueue


def session_backend_options(settings: Settings, state_folder: Path | None) -> BackendOptions:
    """How to load the engine for a session with these settings, or which server answers instead.

    Raises:
        ChatError: the model does not exist, or options contradict each other.
    """
    if settings.remote:
        return remote_options(settings)
    path = resolve(settings.model).absolute()  # the session may continue in another folder
    return request_builder.engine_options(settings, path, session=True, state_folder=state_folder)


class BackgroundBackend:
    """One backend at a time, loaded in a thread that posts events and changes nothing else.

    Attributes:
        options: how the present backend was loaded.
        info: the loaded model; None until it is loaded.
        fault: why it cannot be used; None if it can, or may.
        loaded_fraction: how much is loaded, from 0 to 1; 0 where that is unknown.
    """

    def __init__(
        self, factory: Callable[[BackendOptions], ChatBackend], options: BackendOptions, events: EventQueue
    ) -> None:
        """Start to load.

        Args:
            factory: makes a backend, without waiting for its model.
            options: how to load the engine.
            events: gets an event for each step of loading, and for its end.
        """
        self.options = options
        self.info: ModelInfo | None = None
        self.fault: ChatError | None = None
        self.loaded_fraction = 0.0
        self._factory = factory
        self._events = events
        self._backend: ChatBackend
        self._load_ended = threading.Event()
        self._start_loading(options)

    @property
    def is_loading(self) -> bool:
        """Whether the model is neither ready nor refused yet."""
        return self.info is None and self.fault is None

    def wait_for_load(self, seconds: float | None = None) -> bool:
        """Wait until loading has ended; False if the time is over before."""
        return self._load_ended.wait(seconds)

    def reload(self, options: BackendOptions) -> None:
        """Release the model, and start to load another one, or the same one with other options.

        Raises:
            ChatError: the new one cannot be used; the earlier one is loaded again.
        """
        self.close()
        try:
            self._start_loading(options)
        except ChatError:
            self._start_loading(self.options)
            raise
        self.options = options

    def reply(self, request: Request) -> Iterator[Event]:
        """Yield the events of one answer, as `ChatBackend.reply` does.

        Raises:
            ChatError: the request cannot be answered, or the engine died.
        """
        return self._backend.reply(request)

    def render(self, request: Request) -> Rendered:
        """The prompt's text and ids.

        Raises:
            ChatError: the prompt format does not allow the messages, or a server does not give ids.
        """
        return self._backend.render(request)

    def count(self, messages: tuple[Message, ...]) -> tuple[int | None, ...]:
        """How many tokens the content of each message has; None while the model loads, or if a server cannot count."""
        try:
            return self._backend.count(messages) if self.info else (None,) * len(messages)
        except ChatError:
            return (None,) * len(messages)

    def check_pictures(self, pictures: tuple[Picture, ...]) -> None:
        """Refuse pictures that the model cannot read, if it is loaded and on this machine; a server is not asked.

        Raises:
            ChatError: the model reads only text, or a picture is damaged.
        """
        if pictures and self.info is not None and not isinstance(self.options, RemoteOptions):
            self._backend.count((Message("user", "", pictures=pictures),))

    def cancel(self) -> None:
        """Stop the current answer soon."""
        self._backend.cancel()

    def close(self, *, keep_state: bool = True) -> None:
        """Release the model.

        Args:
            keep_state: save the cache for the next start, which may take seconds.
        """
        self._backend.close(keep_state=keep_state)

    def _start_loading(self, options: BackendOptions) -> None:
        self._backend = self._factory(options)
        self.info = self.fault = None
        self.loaded_fraction = 0.0
        self._load_ended = threading.Event()
        threading.Thread(target=self._load, args=(self._backend, self._load_ended), daemon=True, name="load").start()

    def _load(self, backend: ChatBackend, load_ended: threading.Event) -> None:
        """Wait for the model; whatever fails, `load_ended` is set."""

        def note_progress(fraction: float) -> None:
            if backend is self._backend:
                self.loaded_fraction = fraction
                self._events.post(SessionEvent.LOAD_PROGRESSED)

        try:
            info = backend.info(note_progress)
            if backend is self._backend:
                self.info = info
        except Exception as error:
            if backend is self._backend:
                self.fault = as_chat_error(error)
        self._events.post(SessionEvent.LOAD_ENDED)  # first: who waits for the end finds it in the queue
        load_ended.set()
