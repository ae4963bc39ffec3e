"""One question, one answer: stdout holds the answer and nothing else. Knows events, not engines."""

from __future__ import annotations

import json
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from chat import wiring
from chat.conversation import Conversation, Message
from chat.events import Done, Notice, Text
from chat.extract import code_blocks
from chat.ground.errors import ChatError, DataError, ExitCode, UsageError
from chat.ground.visible import visible
from chat.input_text import compose, decode, read_stdin
from chat.report import json_line, rendered_report, reply_report
from chat.request import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from chat.events import Event, Replier
    from chat.layers import Layered
    from chat.request import Request
    from chat.settings import Settings


def answer_once(words: Sequence[str], layered: Layered) -> int:
    """Answer one prompt.

    Returns:
        The exit code: 0, or 130 when the person stopped the answer.

    Raises:
        ChatError: anything that kept the answer from being complete.
    """
    from chat.opening import open_engine

    settings = layered.settings
    if settings.batch is not None:
        return _answer_batch(words, settings)
    request = wiring.request(_prompt(words, settings), settings)
    with open_engine(settings, session=False) as engine:
        if settings.dry_run:
            print(json_line(rendered_report(engine.render(request))))
            return ExitCode.DONE
        return _answer(engine, request, settings)


def _answer_batch(words: Sequence[str], settings: Settings) -> int:
    """Answer each line of a file; the argument is an instruction that follows each prompt."""
    from chat.batch.run import run_batch
    from chat.opening import open_engine

    if settings.batch == "-" and "-" in settings.file:
        raise UsageError("stdin is either the batch or an attached file")
    attached = compose([], settings.file, b"", may_be_empty=True)
    for warning in attached.warnings:
        _tell(warning, settings)

    def fill(prompt: str) -> str:
        return _filled("\n\n".join(part for part in (attached.text, prompt, " ".join(words)) if part), settings)

    with open_engine(settings, session=False) as engine, _cancelling(engine):
        return run_batch(engine, settings, fill)


def _prompt(words: Sequence[str], settings: Settings) -> Prompt:
    """The prompt that options, files, stdin and the argument make."""
    if settings.raw_ids is not None:
        return Prompt(ids=_read_ids(settings.raw_ids))
    composed = compose(
        words, settings.file, read_stdin(), keep_newlines=settings.raw, may_be_empty=settings.template is not None
    )
    for warning in composed.warnings:
        _tell(warning, settings)
    text = _filled(composed.text, settings)
    if settings.raw:
        return Prompt(text=text)
    conversation = Conversation(system=wiring.system_prompt(settings)).add(Message("user", text))
    return Prompt(messages=conversation.messages())


def _filled(text: str, settings: Settings) -> str:
    """The text, put into the template if one is named."""
    if settings.template is None:
        if settings.param:
            raise UsageError("-p gives values to a template's variables, but no template is named", hint="`-t NAME`")
        return text
    from chat.templates import shelf
    from chat.templates.template import given_values

    return shelf.load(settings.template).fill(text, given_values(settings.param))


def _read_ids(path: str) -> tuple[int, ...]:
    """The token ids of `--raw-ids`.

    Raises:
        DataError: not a JSON list of whole numbers.
    """
    name = "stdin" if path == "-" else path
    text = decode(read_stdin(), name).text if path == "-" else wiring.read_text(Path(path))
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not JSON: {error}") from error
    if not isinstance(plain, list) or not all(type(each) is int and 0 <= each < 2**31 for each in plain):
        raise DataError(f"{name}: needs a JSON list of token ids")
    if not plain:
        raise UsageError(f"{name}: the list of token ids is empty")
    return tuple(plain)


def _answer(engine: Replier, request: Request, settings: Settings) -> int:
    """Stream one reply to stdout."""
    with _cancelling(engine):
        info = engine.info()
        done = _stream(engine.reply(request), settings)
    if settings.json:
        print(json_line(reply_report(done, info)))
    elif settings.extract or settings.extract_last:
        _print_block(done.text, last=settings.extract_last)
    elif not done.text.endswith("\n"):
        print()
    return _exit_code(done, settings)


def _exit_code(done: Done, settings: Settings) -> ExitCode:
    if done.finish_reason == "interrupted":
        return ExitCode.INTERRUPTED
    if done.finish_reason == "length" and settings.fail_on_length:
        print(f"error: the answer was cut after {done.tokens.generated} tokens", file=sys.stderr)
        return ExitCode.UNEXPECTED
    return ExitCode.DONE


def _print_block(text: str, *, last: bool) -> None:
    """Print one fenced block of the answer.

    Raises:
        ChatError: there is none; the hint is the answer, so that it is not lost.
    """
    blocks = code_blocks(text)
    if not blocks:
        raise ChatError("the answer holds no code block", hint=f"it was: {text}")
    print(_encodable(blocks[-1 if last else 0]), end="")


def _stream(events: Iterator[Event], settings: Settings) -> Done:
    """Print text as it comes, notices on stderr; a terminal is shown control characters, never sent them."""
    shown = visible if sys.stdout.isatty() else _encodable
    streams = not (settings.json or settings.extract or settings.extract_last)
    done: Done | None = None
    for event in events:
        if isinstance(event, Text) and streams:
            sys.stdout.write(shown(event.text))
            sys.stdout.flush()
        elif isinstance(event, Notice):
            _tell(event.text, settings)
        elif isinstance(event, Done):
            done = event
    assert done is not None  # the protocol of `Replier`
    return done


@contextmanager
def _cancelling(engine: Replier) -> Iterator[None]:
    """The first Ctrl+C stops the answer and keeps what was said; the second one leaves."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    pressed = False

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        engine.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _encodable(text: str) -> str:
    """The text without what stdout's encoding lacks, under a locale that is not UTF-8."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, errors="replace").decode(encoding)


def _tell(warning: str, settings: Settings) -> None:
    if not settings.quiet:
        print(f"note: {visible(warning)}", file=sys.stderr)
