"""One question, one answer; or a batch of them. The flow only: rooms beside it read the prompt and show the answer."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat import wiring
from chat.answer_output import AnswerOutput
from chat.conversation import Conversation, Message
from chat.ground.errors import ChatError, ExitCode, UsageError
from chat.input_text import InputText
from chat.opening import answers_as_guide, open_book, open_engine
from chat.prompt_input import BatchPrompt, question, token_ids
from chat.report import json_line, rendered_report
from chat.request import Prompt
from chat.sessions.book import GrowingAnswer
from chat.tool_results import check_nothing_waits, result_messages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chat.events import Replier
    from chat.layers import Layered
    from chat.request import Request
    from chat.sessions.book import Book
    from chat.settings import Settings

    Cancellable = Callable[[Iterator[Any]], Iterator[Any]]


def answer_once(words: Sequence[str], layered: Layered) -> int:
    """Answer one prompt, or each line of a batch.

    Returns:
        The exit code: 0, 1 if a record of a batch failed, or 130 when the person stopped the answer.

    Raises:
        ChatError: anything that kept the answer from being complete.
    """
    settings = layered.settings
    if settings.batch is not None:
        return _answer_batch(words, settings)
    output = AnswerOutput(settings)
    if settings.session is not None or settings.continue_last:
        return _answer_in_session(words, layered, output)
    _tell_of_the_guide(settings, output)
    prompt = _prompt(words, settings, output)
    # a document is asked about again
    with open_engine(settings, keeps_states=bool(settings.file), prompt=prompt) as engine:
        return _answer(engine, wiring.request(prompt, settings), settings, output, None)


def _tell_of_the_guide(settings: Settings, output: AnswerOutput) -> None:
    if answers_as_guide(settings):
        from chat.welcome import GUIDE_WORDS

        output.tell(f"no model is named, so {GUIDE_WORDS}")


def _answer_batch(words: Sequence[str], settings: Settings) -> int:
    from chat.batch.run import run_batch

    fill, output = BatchPrompt(words, settings), AnswerOutput(settings)
    _tell_of_the_guide(settings, output)
    for warning in fill.warnings:
        output.tell(warning)
    with open_engine(settings) as engine:
        if settings.dry_run:
            return run_batch(engine, settings, fill, output.tell)
        with _cancelling(engine) as cancellable:
            return run_batch(engine, settings, fill, output.tell, cancellable)


def _prompt(words: Sequence[str], settings: Settings, output: AnswerOutput) -> Prompt:
    """The prompt that options, files, stdin and the argument make.

    Raises:
        ChatError: there is none, a part of it cannot be read, or one of two would be left out.
    """
    if settings.raw_ids is not None:
        if words:
            raise UsageError("a prompt and `--raw-ids` exclude each other", hint="the ids are the whole prompt")
        return Prompt(ids=token_ids(settings.raw_ids))
    asked = question(words, settings)
    for warning in asked.warnings:
        output.tell(warning)
    if settings.raw:
        return Prompt(text=asked.text)
    conversation = Conversation(system=wiring.system_prompt(settings)).add(Message("user", asked.text))
    return Prompt(messages=conversation.messages())


def _answer_in_session(words: Sequence[str], layered: Layered, output: AnswerOutput) -> int:
    """Go on with a stored session: the question is stored before the model sees it, the answer while it comes."""
    settings = layered.settings
    asked = question(words, settings) if not settings.tool_result else InputText("")
    with open_book(layered) as (book, settings):
        _tell_of_the_guide(settings, output)
        for notice in (*asked.warnings, *(each.text for each in book.store.take_notices())):
            output.tell(notice)
        messages = _new_messages(words, asked.text, settings, book.conversation)
        with open_engine(settings, keeps_states=True) as engine:
            if settings.dry_run:
                prompt = Prompt(messages=reduce(Conversation.add, messages, book.conversation).messages())
                return _answer(engine, wiring.request(prompt, settings), settings, output, None)
            if not settings.remote:
                book.set_model(settings.model or "", str(Path(engine.info().path).absolute()))
            before = book.conversation.leaf
            for message in messages:
                book.ask(message)
            asked_at = book.conversation.leaf
            session = book.record.id if book.record else None
            prompt = Prompt(messages=book.conversation.messages())
            try:
                return _answer(engine, wiring.request(prompt, settings, session=session), settings, output, book)
            finally:
                if book.conversation.leaf == asked_at:  # a question without an answer is no part of the conversation
                    book.move(before)
                for late in book.store.take_notices():  # of what happened meanwhile: the disk is full, say
                    output.tell(late.text)


def _new_messages(
    words: Sequence[str], text: str, settings: Settings, conversation: Conversation
) -> tuple[Message, ...]:
    """What is put down before the answer: a question, or results for all calls that wait.

    Raises:
        UsageError: a question where results are missing, or the other way round.
    """
    if not settings.tool_result:
        check_nothing_waits(conversation, "--tool-result TEXT")
        return (Message("user", text),)
    if words:
        raise UsageError("a prompt and `--tool-result` exclude each other", hint="give the results first")
    results = result_messages(conversation, settings.tool_result)
    check_nothing_waits(reduce(Conversation.add, results, conversation), "--tool-result TEXT")
    return results


def _answer(engine: Replier, request: Request, settings: Settings, output: AnswerOutput, book: Book | None) -> int:
    if settings.dry_run:
        print(json_line(rendered_report(engine.render(request))))
        return ExitCode.DONE
    answer = GrowingAnswer(book) if book else None
    with output.waiting():
        info = engine.info(output.note_loading)  # Ctrl+C just leaves: there is nothing to keep yet
        with _cancelling(engine) as cancellable:
            try:
                done = output.stream(cancellable(engine.reply(request)), answer.keep if answer else lambda text: None)
            except BaseException as fault:  # what came before it stays; the fault goes on
                if answer and output.text:
                    answer.break_off(output.text)
                if isinstance(fault, ChatError):
                    output.break_off()
                raise
            if answer and (done.text or done.tool_calls):
                answer.end(done)
    return output.finish(done, info)


@contextmanager
def _cancelling(engine: Replier) -> Iterator[Cancellable]:
    """The first Ctrl+C stops the answer and keeps what was said; the second one leaves.

    Yields what the engine's events, or a batch's requests, are to pass through: an engine that had not begun when
    Ctrl+C came is told once more.
    """
    pressed = False

    def cancellable(items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            if pressed:
                engine.cancel()
            yield item

    if threading.current_thread() is not threading.main_thread():
        yield cancellable
        return

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        engine.cancel()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield cancellable
    finally:
        signal.signal(signal.SIGINT, before)
