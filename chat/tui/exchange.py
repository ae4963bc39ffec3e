"""Send a message and answer it, answer again, or continue an answer; what is said is stored as it comes."""

from __future__ import annotations

from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.app.prompt_input import search_models
from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.core.tool_results import check_no_pending_calls, describe_calls, result_messages
from chat.documents.document import pictures_of, texts_of
from chat.documents.selection import Selection
from chat.errors import ChatError, DataError, ModelError, UsageError
from chat.history.open_session import AnswerWriter
from chat.history.records import title_of
from chat.tui.signals import Terminated
from chat.tui.streaming import StreamingReply
from chat.tui.transcript import CUT_REASONS, answer_view, completion_lines

if TYPE_CHECKING:
    from chat.core.backend import Rendered
    from chat.core.request import Request
    from chat.tui.state import SessionState
    from chat.tui.streaming import ReplyOutcome

RESULT_USAGE = "/result TEXT"


def send_message(state: SessionState, text: str) -> bool:
    """Store a message of the user, preceded by the attached files, and answer it.

    Returns:
        Whether nothing was sent, or Ctrl+C stopped it before anything was generated: then the conversation is as
        before, its files are attached again, and the message can be edited.

    Raises:
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    leaf, branch_point, attachments = state.session.conversation.leaf, state.branch_point, tuple(state.attachments)
    documents, pictures = texts_of(attachments), pictures_of(attachments)
    files = [document.fenced() for document in documents]
    try:
        state.backend.check_pictures(pictures)
    except ChatError as error:
        state.show_error(error)
        return True  # the message can be edited
    if documents and state.settings.find:
        try:
            models = search_models(state.settings, Path(state.model_path) if state.model_path else None)
            with closing(Selection(documents, models, shows_progress=True)) as selection:
                found = selection.text_for(text)
        except (DataError, ModelError) as error:
            state.show_error(error)
            return True  # the message can be edited
        files = [found.text]
        for warning in found.warnings:
            state.report(warning)
    not_run: tuple[Message, ...] = ()
    if branch_point is None:
        if state.calls is not None:
            from chat.tui.tool_calls import results_of_calls_not_run

            not_run = results_of_calls_not_run(state)
        try:
            if not not_run:
                check_no_pending_calls(state.session.conversation, RESULT_USAGE)
        except UsageError as error:
            state.show_error(error)
            return False
    else:
        state.session.set_leaf(branch_point[0])
    title = title_of(text) if files else ""  # else the first file would give it
    content = "\n\n".join([*files, text] if text else files)
    state.session.ask(*not_run, Message("user", content, pictures=pictures), title=title)
    state.branch_point = None
    # with `--find` each message gets its own passages of them
    state.attachments[:] = documents if state.settings.find else []
    state.show_notices()
    if not _answer_with_calls(state):
        return False
    state.session.set_leaf(leaf)
    state.branch_point = branch_point
    state.attachments[:] = attachments
    update_used_tokens(state)
    state.report("Stopped before the answer began. Your message is back in the editor.")
    return True


def send_tool_result(state: SessionState, text: str) -> None:
    """`/result TEXT`: store the result of the next pending function call, and answer once none is pending.

    Raises:
        UsageError: there is no text.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    if not text:
        raise UsageError("`/result` needs the result of the function")
    if not state.session.conversation.pending_calls():
        return state.report("No function call is waiting for a result.")
    state.session.ask(*result_messages(state.session.conversation, [text]))
    pending = state.session.conversation.pending_calls()
    if pending:
        return state.report(f"There is no result yet for {describe_calls(pending)}.")
    return answer_last_message(state)


def answer_last_message(state: SessionState) -> None:
    """Answer the message at the end of the conversation.

    Raises:
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    if _answer_with_calls(state):
        state.report("Stopped. /regen tries again.")


def answer_again(state: SessionState) -> None:
    """Answer the last question, or the last function result, once more; the earlier answer stays in the tree.

    Raises:
        UsageError: there is no question.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    path = state.session.conversation.path()
    question = next((node for node in reversed(path) if node.message.role in ("user", "tool")), None)
    if question is None:
        raise UsageError("nothing has been asked yet")
    state.session.set_leaf(question.id)
    answer_last_message(state)


def continue_answer(state: SessionState) -> None:
    """Continue an answer that was cut off, or answer a message that has no answer.

    Raises:
        UsageError: the last answer is complete, or a function call is pending.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    path = state.session.conversation.path()
    last = path[-1] if path else None
    if state.calls is not None and state.session.conversation.pending_calls():
        return _run_calls_and_answer(state)
    if last is not None and last.message.role in ("user", "tool"):
        check_no_pending_calls(state.session.conversation, RESULT_USAGE)
        return answer_last_message(state)
    if last is None or last.message.finish_reason not in CUT_REASONS:
        raise UsageError("there is no answer that was cut off", hint="`/regen` answers again" if path else None)
    if _answer_with_calls(state, last.id):
        state.report("Stopped. /continue resumes.")
    return None


def run_calls_again(state: SessionState) -> None:
    """Run the calls of the last answer that has any once more; the earlier results stay in the tree.

    Raises:
        UsageError: calls are not run here, or there are none.
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    path = state.session.conversation.path()
    calling = next((node for node in reversed(path) if node.message.tool_calls), None)
    if state.calls is None or calling is None:
        raise UsageError("no function call has been run here")
    state.session.set_leaf(calling.id)
    _run_calls_and_answer(state)


def _run_calls_and_answer(state: SessionState) -> None:
    """Run the calls that have no result yet, and answer if all have one then."""
    from chat.tui.tool_calls import run_pending_calls

    if state.calls is not None:
        state.calls.begin_question()
    if run_pending_calls(state) and _answer_with_calls(state, is_new=False):
        state.report("Stopped. /continue lets the model answer.")


def _answer_with_calls(state: SessionState, continued: str | None = None, *, is_new: bool = True) -> bool:
    """Show an answer, run the functions that it calls, and answer again until it calls none.

    Args:
        state: the session.
        continued: the id of the node whose answer is continued; None for a new answer.
        is_new: count the calls from 1.

    Returns:
        Whether Ctrl+C stopped the first answer before anything was generated.
    """
    if state.calls is None:
        return _answer(state, continued)
    from chat.tui.tool_calls import run_pending_calls, wait_for_functions

    if is_new:
        state.calls.begin_question()
    if not wait_for_functions(state) or _answer(state, continued):
        return True
    while run_pending_calls(state):
        if _answer(state, is_separate=False):
            state.report("Stopped. /continue lets the model answer.")
            break
    return False


def render_context(state: SessionState) -> Rendered:
    """What the model reads of the conversation, with what the prompt format adds.

    Raises:
        ChatError: the prompt format does not allow the messages, or a server does not give ids.
    """
    path = state.session.conversation.path()
    is_answered = bool(path) and path[-1].message.role == "assistant"
    return state.backend.render(_build_request(state, continues=is_answered))


def update_used_tokens(state: SessionState) -> None:
    """Count the tokens that the conversation takes in the context, if the model is loaded and can count."""
    state.used_tokens = 0
    can_count = state.calls is None or state.calls.toolbox.is_ready
    if can_count and state.backend.info is not None and state.session.conversation.leaf is not None:
        with suppress(ChatError):  # longer than the context, or a server that does not give ids
            state.used_tokens = len(render_context(state).ids)


def _build_request(state: SessionState, *, continues: bool) -> Request:
    """The request for an answer to the conversation.

    Raises:
        ChatError: an option names a file that cannot be used.
    """
    prompt = Prompt.of_conversation(state.session.conversation, continues=continues)
    request = request_builder.build_request(prompt, state.settings, tools=state.tools)
    path = state.session.conversation.path()
    if state.calls is not None and path and path[-1].message.role == "tool":
        request = request_builder.after_results(request)
    record = state.session.record
    return replace(request, session=record.id if record and not state.settings.no_history else None)


def _answer(state: SessionState, continued: str | None = None, *, is_separate: bool = True) -> bool:
    """Show one answer as it comes, and store it.

    Args:
        state: the session.
        continued: the id of the node whose answer is continued; None for a new answer.
        is_separate: leave an empty line before it.

    Returns:
        Whether Ctrl+C stopped it before anything was generated.

    Raises:
        ChatError: the model cannot be used.
        Terminated: the program ends; what was generated is stored.
    """
    writer = AnswerWriter(state.session, continued, model=lambda: state.backend.info)
    before = writer.before
    try:
        request = _build_request(state, continues=bool(before.content or before.reasoning))
    except ChatError as error:
        state.show_error(error)
        return False
    state.show_notices()
    reply = StreamingReply(
        backend=state.backend,
        request=request,
        view=answer_view(state, before.content),
        screen=state.screen,
        signals=state.signals,
        store_partial=writer.update,
        model_name=state.model_name,
        shows_reasoning=state.settings.think != "hide",
    )
    if state.screen.is_live and is_separate:
        state.show(())
    with state.signals.counting_ctrl_c():
        outcome = reply.run()
        _store(writer, outcome)  # inside the block: Ctrl+C must not come between the answer and its transaction
    _report(state, outcome)
    return outcome.has_nothing


def _store(writer: AnswerWriter, outcome: ReplyOutcome) -> None:
    """Store an answer, unless it is empty."""
    done, before = outcome.completion, writer.before
    if done is not None and (done.text or done.reasoning or done.tool_calls or before.content or before.reasoning):
        writer.finish(done)
    elif done is None and (outcome.text or outcome.reasoning):
        writer.interrupt(outcome.text, outcome.reasoning)


def _report(state: SessionState, outcome: ReplyOutcome) -> None:
    """Show the figures of an answer, or why there is none.

    Raises:
        ChatError: the model cannot be used.
        Terminated: the program ends without waiting for the engine.
    """
    completion = outcome.completion
    if outcome.has_nothing:
        return
    if completion is not None:
        state.last_completion = completion
        state.used_tokens = completion.tokens.prompt + completion.tokens.generated
        state.totals.add(completion)
        if not state.settings.quiet:
            state.show(*completion_lines(state, completion))
    if completion or outcome.text or outcome.reasoning or outcome.is_cancelled:
        state.show(())
    if state.backend.fault is not None:
        raise state.backend.fault
    if outcome.error is not None:
        state.show_error(outcome.error)
        is_begun = outcome.text or outcome.reasoning
        begun = "The answer so far is kept. /continue resumes it, /regen asks again."
        state.report(begun if is_begun else "Your message is kept. /regen asks again, /undo removes it.")
    state.show_notices()
    if outcome.is_abandoned:
        raise Terminated
