"""Answer one prompt and end: read the prompt, start a backend, print the answer, store it where a session is named."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.app import request_builder
from chat.app.answer_output import AnswerOutput
from chat.app.backends import open_backend
from chat.app.cancellation import cancelling
from chat.app.input_text import InputText
from chat.app.json_report import json_line, rendered_report
from chat.app.prompt_input import question, token_ids
from chat.app.sessions import open_named_session
from chat.core.conversation import Conversation, Message
from chat.core.request import Prompt
from chat.core.tool_results import check_no_pending_calls, result_messages
from chat.errors import ChatError, ExitCode, UsageError
from chat.history.open_session import AnswerWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ChatBackend
    from chat.core.request import Request
    from chat.history.open_session import OpenSession

    Cancellable = Callable[[Iterator[Any]], Iterator[Any]]


def answer_once(words: Sequence[str], resolved: ResolvedSettings) -> int:
    """Answer one prompt.

    Returns:
        The exit code: 0, or 130 when the user stopped the answer.

    Raises:
        ChatError: anything that kept the answer from being complete.
    """
    settings = resolved.settings
    output = AnswerOutput(settings)
    if settings.session is not None or settings.continue_last:
        return _answer_in_session(words, resolved, output)
    output.tell_of_the_guide(settings)
    prompt = _prompt(words, settings, output)
    # a document is asked about again
    with open_backend(settings, keeps_states=bool(settings.file), prompt=prompt) as engine:
        return _answer(engine, request_builder.build_request(prompt, settings), settings, output, None)


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
    conversation = Conversation(system=request_builder.system_prompt(settings)).add(Message("user", asked.text))
    return Prompt(messages=conversation.messages())


def _answer_in_session(words: Sequence[str], resolved: ResolvedSettings, output: AnswerOutput) -> int:
    """Go on with a stored session: the question is stored before the model sees it, the answer while it comes."""
    settings = resolved.settings
    asked = question(words, settings) if not settings.tool_result else InputText("")
    with open_named_session(resolved) as (session, settings):
        output.tell_of_the_guide(settings)
        for notice in (*asked.warnings, *(each.text for each in session.store.take_notices())):
            output.tell(notice)
        messages = _new_messages(words, asked.text, settings, session.conversation)
        with open_backend(settings, keeps_states=True) as engine:
            if settings.dry_run:
                prompt = Prompt(messages=reduce(Conversation.add, messages, session.conversation).messages())
                return _answer(engine, request_builder.build_request(prompt, settings), settings, output, None)
            if not settings.remote:
                session.note_model(settings.model or "", str(Path(engine.info().path).absolute()))
            before = session.conversation.leaf
            session.ask(*messages)
            asked_at = session.conversation.leaf
            session_id = session.record.id if session.record else None
            prompt = Prompt(messages=session.conversation.messages())
            try:
                return _answer(
                    engine,
                    request_builder.build_request(prompt, settings, session=session_id),
                    settings,
                    output,
                    session,
                )
            finally:
                if session.conversation.leaf == asked_at:  # a question without an answer is no part of the conversation
                    session.set_leaf(before)
                for late in session.store.take_notices():  # of what happened meanwhile: the disk is full, say
                    output.tell(late.text)


def _new_messages(
    words: Sequence[str], text: str, settings: Settings, conversation: Conversation
) -> tuple[Message, ...]:
    """What is put down before the answer: a question, or results for all calls that wait.

    Raises:
        UsageError: a question where results are missing, or the other way round.
    """
    if not settings.tool_result:
        check_no_pending_calls(conversation, "--tool-result TEXT")
        return (Message("user", text),)
    if words:
        raise UsageError("a prompt and `--tool-result` exclude each other", hint="give the results first")
    results = result_messages(conversation, settings.tool_result)
    check_no_pending_calls(reduce(Conversation.add, results, conversation), "--tool-result TEXT")
    return results


def _answer(
    engine: ChatBackend, request: Request, settings: Settings, output: AnswerOutput, session: OpenSession | None
) -> int:
    if settings.dry_run:
        print(json_line(rendered_report(engine.render(request))))
        return ExitCode.DONE
    answer = AnswerWriter(session) if session else None
    with output.waiting():
        info = engine.info(output.note_loading)  # Ctrl+C just leaves: there is nothing to keep yet
        with cancelling(engine) as cancellable:
            try:
                done = output.stream(cancellable(engine.reply(request)), answer.update if answer else lambda text: None)
            except BaseException as fault:  # what came before it stays; the fault goes on
                if answer and output.text:
                    answer.interrupt(output.text)
                if isinstance(fault, ChatError):
                    output.break_off()
                raise
            if answer and (done.text or done.tool_calls):
                answer.finish(done)
    return output.finish(done, info)
