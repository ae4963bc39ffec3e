"""Choose and start the backend that answers: the local engine, the guide, or a server. Cancel its answers by Ctrl+C."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeGuard

from chat.app import request_builder
from chat.core.request import EngineOptions
from chat.errors import ContextError, FileError
from chat.guide import PATH as GUIDE_FILE
from chat.models.projector import fetch_projector
from chat.models.resolve import resolve
from chat.system.interrupts import signal_handlers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from chat.app.remotes import RemoteOptions
    from chat.config.options import Settings
    from chat.core.backend import ChatBackend
    from chat.core.request import Prompt

    BackendOptions: TypeAlias = EngineOptions | RemoteOptions
    Cancellable = Callable[[Iterator[Any]], Iterator[Any]]

LONGEST_FOR_GUIDE = 100_000  # bytes; its context is far smaller, and finding topics for more takes seconds


@contextmanager
def open_backend(
    settings: Settings, *, keeps_states: bool = False, prompt: Prompt | None = None, has_pictures: bool = False
) -> Iterator[ChatBackend]:
    """Start the backend for one-shot answers. It loads in the background and is closed at the end.

    Args:
        keeps_states: save the engine's state for the session or the file that the prompt belongs to.
        prompt: the only prompt, if it is known: the engine repacks the weights for a long one.
        has_pictures: whether other prompts have pictures, so that a picture encoder is needed.

    Raises:
        UsageError: options contradict each other.
        ModelError: the model is missing.
        FileError: the model's picture encoder cannot be downloaded.
    """
    if settings.remote:
        from chat.app.remotes import remote_options

        backend = _remote(remote_options(settings))
    else:
        has_pictures = has_pictures or bool(prompt and prompt.pictures)
        backend = _local(settings, prompt, keeps_states=keeps_states, has_pictures=has_pictures)
    try:
        yield backend
    finally:
        backend.close()


def session_backend(options: BackendOptions, settings: Settings) -> ChatBackend:
    """Start the backend of a terminal session: the server or the engine of these options."""
    if not isinstance(options, EngineOptions):
        return _remote(options)
    from chat.worker.client import LocalBackend

    return _guided(LocalBackend(options, log_file=settings.log_file), options)


def answers_as_guide(settings: Settings) -> bool:
    """Whether the guide answers because no model is named.

    Raises:
        ModelError: several models are here, and none is named.
    """
    return settings.model is None and not settings.remote and resolve(None) == GUIDE_FILE


def lacks_encoder(options: BackendOptions, settings: Settings) -> TypeGuard[EngineOptions]:
    """Whether no picture encoder was found for a local model, and none was refused."""
    return isinstance(options, EngineOptions) and options.mmproj is None and settings.mmproj == "auto"


def state_folder_of(settings: Settings) -> Path | None:
    """The folder for saved states; None where nothing may be stored or there is no home folder."""
    from chat.system.paths import state_folder

    if settings.no_history or not settings.state_cache:
        return None
    try:
        return state_folder()
    except FileError:
        return None


def _local(settings: Settings, prompt: Prompt | None, *, keeps_states: bool, has_pictures: bool) -> ChatBackend:
    from chat.worker.client import LocalBackend
    from chat.worker.process import STDERR

    folder = state_folder_of(settings) if keeps_states else None
    if prompt is not None and not has_pictures and settings.mmproj == "auto":
        settings = replace(settings, mmproj="off")  # it is not looked for, and needs no memory
    options = request_builder.engine_options(settings, resolve(settings.model), session=False, state_folder=folder)
    if has_pictures and lacks_encoder(options, settings) and (encoder := fetch_projector(Path(options.model_path))):
        options = replace(options, mmproj=str(encoder))
    if prompt is not None and options.model_path == str(GUIDE_FILE) and prompt.length > LONGEST_FOR_GUIDE:
        raise ContextError(
            f"the prompt has {prompt.length:,} bytes, and the guide takes short questions only",
            hint="`-m` names a full model",
        )
    if prompt is not None and folder is None:  # a saved state leaves little to read
        options = replace(options, first_prompt_bytes=prompt.length)
    log_file = settings.log_file or (STDERR if settings.verbose else None)
    return _guided(LocalBackend(options, log_file=log_file), options)


def _guided(backend: ChatBackend, options: EngineOptions) -> ChatBackend:
    """The backend; the guide's is wrapped, because it needs help topics with each question."""
    if Path(options.model_path) != GUIDE_FILE:
        return backend
    from chat.guide.backend import GuideBackend

    return GuideBackend(backend)


def _remote(options: RemoteOptions) -> ChatBackend:
    from chat.remote.client import RemoteBackend

    return RemoteBackend(options.server, options.model)


@contextmanager
def cancelling(backend: ChatBackend) -> Iterator[Cancellable]:
    """Cancel the answer at the first Ctrl+C and keep its text; end the program at the second.

    Yields:
        A function that the backend's events, or a batch's requests, must pass through: it cancels again if the backend
        had not begun when Ctrl+C came.
    """
    pressed = False

    def cancellable(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if pressed:
                backend.cancel()
            yield item

    if threading.current_thread() is not threading.main_thread():
        yield cancellable
        return

    def cancel_or_raise(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        backend.cancel()

    with signal_handlers({"SIGINT": cancel_or_raise}):
        yield cancellable
