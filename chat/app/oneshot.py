"""Answer one prompt: read it, start a backend, print the answer, and store it if a session is named."""

from __future__ import annotations

from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.app.answer_output import AnswerOutput
from chat.app.backends import cancelling, open_backend
from chat.app.json_report import rendered_report
from chat.app.open_tools import open_tools
from chat.app.prompt_input import read_prompt, read_token_ids
from chat.app.sessions import open_named_session
from chat.core.conversation import Conversation, Message
from chat.core.request import Prompt
from chat.core.tool_results import check_no_pending_calls, result_messages
from chat.documents.plain_text import InputText
from chat.errors import ChatError, ContextError, ExitCode, UsageError
from chat.models.last_used import with_last_model
from chat.system.terminal_text import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.core.backend import ChatBackend, ModelInfo
    from chat.core.events import Completion
    from chat.core.request import Request
    from chat.history.open_session import AnswerWriter, OpenSession
    from chat.system.environment import Environment
    from chat.tools.loop import CallLoop
    from chat.tools.runner import CallResult

LARGE_SHARE = 0.25  # of the context, from which the size of attached files is told
MOST_TOKEN_CHARACTERS = 128  # on the average of a text; the longest pieces of vocabularies have about as many


def answer_once(words: Sequence[str], resolved: ResolvedSettings, environment: Environment) -> int:
    """Answer one prompt.

    Args:
        words: the arguments that are no options.

    Returns:
        The exit code: 0, or 130 if the user stopped the answer.

    Raises:
        ChatError: anything that kept the answer from being complete.
    """
    output = AnswerOutput(resolved.settings, environment)
    in_session = resolved.settings.session is not None or resolved.settings.continue_last
    try:
        return (_answer_in_session if in_session else _answer_alone)(words, resolved, output)
    except ContextError as error:
        if resolved.settings.file and not resolved.settings.find:
            way = "`--find` sends only the passages of the files that matter"
            way += "; a model with a sliding window, such as Mistral 7B v0.1, reads files of any length"
            raise ContextError(error.message, hint=f"{error.hint}; {way}" if error.hint else way) from error
        raise


def _answer_alone(words: Sequence[str], resolved: ResolvedSettings, output: AnswerOutput) -> int:
    resolved = with_last_model(resolved)
    settings = resolved.settings
    output.note_unnamed_model(resolved)
    prompt = _prompt(words, settings, output)
    # A file often gets several questions, so the state after it is saved
    with (
        open_tools(settings, output) as (tools, loop),
        open_backend(settings, keeps_states=bool(settings.file), prompt=prompt) as backend,
    ):
        request = request_builder.build_request(prompt, settings, tools=tools)
        return _answer(backend, request, output, None, loop)


def _prompt(words: Sequence[str], settings: Settings, output: AnswerOutput) -> Prompt:
    """The prompt that options, files, stdin and the argument make.

    Raises:
        UsageError: there is none, or one of two prompts would be ignored.
        FileError: a file cannot be read.
        DataError: a file breaks its format.
    """
    if settings.raw_ids is not None:
        if words:
            raise UsageError("a prompt cannot be used together with `--raw-ids`", hint="the ids are the whole prompt")
        return Prompt(ids=read_token_ids(settings.raw_ids, output.environment))
    question = read_prompt(words, settings, output.environment)
    for warning in question.warnings:
        output.note(warning)
    if settings.raw:
        return Prompt(text=question.text)
    conversation = Conversation(system=request_builder.system_prompt(settings)).add(
        Message("user", question.text, pictures=question.pictures)
    )
    return Prompt.of_conversation(conversation)


def _answer_in_session(words: Sequence[str], resolved: ResolvedSettings, output: AnswerOutput) -> int:
    """Continue a stored session: the question is stored before the model gets it, the answer while it comes."""
    has_results = bool(resolved.settings.tool_result)
    question = InputText("") if has_results else read_prompt(words, resolved.settings, output.environment)
    with open_named_session(resolved) as (session, resolved_here):
        settings = resolved_here.settings
        output.note_unnamed_model(resolved_here)
        for warning in (*question.warnings, *(notice.text for notice in session.store.take_notices())):
            output.note(warning)
        messages = _new_messages(words, question, settings, session.conversation)
        asked = reduce(Conversation.add, messages, session.conversation)
        has_pictures = any(message.pictures for message in asked.messages())
        with (
            open_tools(settings, output) as (tools, loop),
            open_backend(settings, keeps_states=True, has_pictures=has_pictures) as backend,
        ):
            if settings.dry_run:
                prompt = Prompt.of_conversation(asked)
                return _answer(
                    backend, request_builder.build_request(prompt, settings, tools=tools), output, None, None
                )
            if settings.remote:
                from chat.app.remotes import answered_by, remote_options

                session.note_model(answered_by(remote_options(settings), backend.info().name), "")
            else:
                session.note_model(settings.model or "", str(Path(backend.info().path).absolute()))
            leaf_before = session.conversation.leaf
            session.ask(*messages)
            question_leaf = session.conversation.leaf
            session_id = session.record.id if session.record else None
            prompt = Prompt.of_conversation(session.conversation)
            try:
                request = request_builder.build_request(prompt, settings, tools=tools, session=session_id)
                return _answer(backend, request, output, session, loop)
            finally:
                if session.conversation.leaf == question_leaf:  # a question without an answer does not stay
                    session.set_leaf(leaf_before)
                for notice in session.store.take_notices():  # what happened meanwhile, such as a full disk
                    output.note(notice.text)


def _new_messages(
    words: Sequence[str], question: InputText, settings: Settings, conversation: Conversation
) -> tuple[Message, ...]:
    """The messages before the answer: a question, or the results of all open tool calls.

    Raises:
        UsageError: a question where results are missing, or the other way round.
    """
    asked = Message("user", question.text, pictures=question.pictures)
    if settings.run_tools and not settings.tool_result:
        from chat.tools.runner import not_run

        return (*(not_run(call).message() for call in conversation.pending_calls()), asked)
    if not settings.tool_result:
        check_no_pending_calls(conversation, "--tool-result TEXT")
        return (asked,)
    if words:
        raise UsageError("a prompt cannot be used together with `--tool-result`", hint="give the results first")
    results = result_messages(conversation, settings.tool_result)
    check_no_pending_calls(reduce(Conversation.add, results, conversation), "--tool-result TEXT")
    return results


def _writer(session: OpenSession, info: ModelInfo) -> AnswerWriter:
    """The writer of an answer into a session."""
    from chat.history.open_session import AnswerWriter

    return AnswerWriter(session, model=lambda: info)


def _answer(
    backend: ChatBackend,
    request: Request,
    output: AnswerOutput,
    session: OpenSession | None,
    loop: CallLoop | None,
) -> int:
    """Print the answer, or the rendered prompt of a dry run, and store it in the session if there is one.

    Functions that the model calls are run, if that is wanted, until an answer calls none.
    """
    if output.settings.dry_run:
        output.print_json(rendered_report(backend.render(request)))
        return ExitCode.DONE
    results: list[CallResult] = []
    while True:
        done, info = _one_answer(backend, request, output, session)
        is_interrupted = done.finish_reason == "interrupted"
        if loop is None or not done.tool_calls or is_interrupted or loop.has_by_hand(done.tool_calls):
            return output.finish(done, info, results)
        loop.check_goes_on()
        from chat.app.tool_runs import OneShotCalls

        output.begin_next()
        new = loop.run(done.tool_calls, OneShotCalls(output), lambda results: _store(session, results))
        results += new
        messages = tuple(result.message() for result in new)
        if loop.made > loop.most_calls:
            output.note(f"the limit of {counted(loop.most_calls, 'call')} is reached; `--tool-steps` allows more")
        request = request_builder.after_calls(request, done, messages)


def _store(session: OpenSession | None, results: Sequence[CallResult]) -> None:
    if session is not None:
        session.ask(*(result.message() for result in results))


def _one_answer(
    backend: ChatBackend, request: Request, output: AnswerOutput, session: OpenSession | None
) -> tuple[Completion, ModelInfo]:
    """One answer as it comes, stored in the session if there is one."""
    with output.waiting():
        info = backend.info(output.note_loading)  # before this returns, Ctrl+C ends the program at once
        _note_size(backend, request, info, output)
        writer = _writer(session, info) if session else None
        with cancelling(backend) as cancellable:
            try:
                events = cancellable(backend.reply(request))
                done = output.stream(events, keep=writer.update if writer else lambda text, reasoning: None)
            except BaseException as fault:  # the text before the fault is kept
                if writer and (output.text or output.reasoning):
                    writer.interrupt(output.text, output.reasoning)
                if isinstance(fault, ChatError):
                    output.break_off()
                raise
            if writer and (done.text or done.reasoning or done.tool_calls):
                writer.finish(done)
    return done, info


def _note_size(backend: ChatBackend, request: Request, info: ModelInfo, output: AnswerOutput) -> None:
    """Tell before a long wait how many tokens the attached files and the question have, if they are many."""
    settings, messages = output.settings, request.prompt.messages
    if not settings.file or settings.remote or settings.quiet or not messages or messages[-1].role != "user":
        return
    if len(messages[-1].content) > MOST_TOKEN_CHARACTERS * info.context:
        return  # it does not fit, and is refused without being counted
    (tokens,) = backend.count(tuple(messages[-1:]))
    if LARGE_SHARE <= tokens / info.context < 1:  # what does not fit is an error with both numbers
        share = f"{tokens / info.context:.0%} of the {info.context:,} that the context holds"
        output.note(f"the files and the question have {tokens:,} tokens, {share}")
