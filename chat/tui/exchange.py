"""Make turns: ask, answer, answer again, go on. Knows the desk; decides what is put down when."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.app import request_builder
from chat.core.conversation import Message
from chat.core.request import Prompt
from chat.core.tool_results import check_no_pending_calls, describe_calls, result_messages
from chat.errors import ChatError, UsageError
from chat.history.open_session import AnswerWriter
from chat.history.records import title_of
from chat.rendering.answer_view import AnswerView, MarkdownAnswer, PlainAnswer
from chat.rendering.status_text import done_line
from chat.rendering.styled_text import plain
from chat.tui.signals import Leaving
from chat.tui.streaming import StreamingReply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chat.core.backend import Rendered
    from chat.core.conversation import Conversation, ToolCall
    from chat.core.events import Completion
    from chat.core.request import Request
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState
    from chat.tui.streaming import ReplyOutcome

ENDS = {"length": "cut at the limit, /continue goes on", "interrupted": "interrupted, /continue goes on"}


def ask(desk: SessionState, text: str) -> None:
    """Put a message down, attached files before it, and answer it."""
    if desk.edited is None:
        try:
            check_no_pending_calls(desk.session.conversation, "/result TEXT")
        except UsageError as error:
            return desk.show_error(error)
    parts = [each.text for each in desk.attachments]
    message = Message("user", "\n\n".join([*parts, text]) if parts else text)
    if desk.edited is not None:
        desk.session.set_leaf(desk.edited[0])
    desk.remember_model()
    # without a title of its own, the first file would make it
    desk.session.ask(message, title=title_of(text) if parts else "")
    desk.edited = None
    desk.attachments.clear()
    desk.show_notices()
    return answer_leaf(desk)


def give_result(desk: SessionState, text: str) -> None:
    """`/result TEXT`: put down what the next waiting function call gave back, and answer once none waits.

    Raises:
        UsageError: no call waits, or there is no text.
    """
    if not text:
        raise UsageError("needs what the function gave back")
    (message,) = result_messages(desk.session.conversation, [text])
    desk.session.ask(message)
    waiting = desk.session.conversation.pending_calls()
    if waiting:
        return desk.tell(f"no result yet for {describe_calls(waiting)}")
    return answer_leaf(desk)


def answer_leaf(desk: SessionState) -> None:
    """Answer the message that the conversation ends with."""
    _reply(desk, AnswerWriter(desk.session))


def answer_again(desk: SessionState) -> None:
    """Answer the last question once more; the answer it had stays in the tree.

    Raises:
        UsageError: nothing was asked.
    """
    path = desk.session.conversation.path()
    at = next((node for node in reversed(path) if node.message.role in ("user", "tool")), None)
    if at is None:
        raise UsageError("nothing was asked yet")
    desk.session.set_leaf(at.id)
    answer_leaf(desk)


def go_on(desk: SessionState) -> None:
    """Go on with an answer that was cut off.

    Raises:
        UsageError: the last answer is complete.
    """
    path = desk.session.conversation.path()
    last = path[-1] if path else None
    if last is not None and last.message.role in ("user", "tool"):
        check_no_pending_calls(desk.session.conversation, "/result TEXT")
        return answer_leaf(desk)
    if last is None or last.message.finish_reason not in ENDS:
        raise UsageError("there is no answer that was cut off", hint="`/regen` answers again")
    return _reply(desk, AnswerWriter(desk.session, last.id))


def request_for(desk: SessionState, conversation: Conversation, *, continues: bool = False) -> Request:
    """What the engine is asked for the conversation as it stands.

    Raises:
        ChatError: an option names a file that cannot be used.
    """
    request = request_builder.build_request(
        Prompt(messages=conversation.messages(), continues=continues), desk.settings, tools=desk.tools
    )
    record = desk.session.record
    return replace(request, session=record.id if record and not desk.settings.no_history else None)


def recount(desk: SessionState) -> None:
    """Find out how much of the context the conversation takes now, where that can be told at once."""
    desk.used = 0
    if desk.room.info is None or desk.session.conversation.leaf is None:
        return
    with contextlib.suppress(ChatError):  # too long for the context, or a server that does not tell
        desk.used = context_tokens(desk)


def context_tokens(desk: SessionState) -> int:
    """How many tokens the conversation takes in the context; as `context` says."""
    return len(context(desk).ids)


def context(desk: SessionState) -> Rendered:
    """What the model reads of the conversation, with what the prompt format adds.

    Raises:
        ChatError: the prompt format refuses it, or a server does not tell.
    """
    path = desk.session.conversation.path()
    is_answered = bool(path) and path[-1].message.role == "assistant"
    request = request_for(desk, desk.session.conversation, continues=is_answered)
    return desk.room.replier.render(request)


def _reply(desk: SessionState, answer: AnswerWriter) -> None:
    """Show and keep one reply.

    Raises:
        Leaving: the program is to end; what was said is stored.
    """
    try:
        request = request_for(desk, desk.session.conversation, continues=bool(answer.before.content))
    except ChatError as error:
        desk.show_error(error)
        return
    view = _view(desk, answer.before.content)
    turn = StreamingReply(desk.room, request, view, desk.screen, desk.signals, answer.update, desk.model_name)
    if desk.screen.is_live:
        desk.say(())
    desk.signals.modes.on_return = desk.screen.leave
    with desk.signals.answering():
        reply = turn.run()
        _put_down(answer, reply)  # still in here: Ctrl+C must not come between the answer and the store
    _close(desk, reply)


def _view(desk: SessionState, before: str) -> AnswerView:
    if desk.shows_markdown and desk.screen.is_live:
        return MarkdownAnswer(desk.screen, before=before)
    return PlainAnswer(desk.screen)


def _put_down(answer: AnswerWriter, reply: ReplyOutcome) -> None:
    done = reply.done
    if done is not None and (done.text or done.tool_calls or answer.before.content):
        answer.finish(done)
    elif done is None and reply.text:
        answer.interrupt(reply.text)


def _close(desk: SessionState, reply: ReplyOutcome) -> None:
    """Say how it went."""
    if reply.done is not None:
        desk.last = reply.done
        desk.used = reply.done.tokens.prompt + reply.done.tokens.generated
        desk.totals.add(reply.done)
        if not desk.settings.quiet:
            desk.say(*_figures(desk, reply.done))
    elif reply.is_cancelled and not reply.is_left:
        desk.say(plain("stopped", "dim"))
    if reply.done or reply.text or reply.is_cancelled:
        desk.say(())
    if desk.room.fault is not None:
        raise desk.room.fault
    if isinstance(reply.error, ChatError):
        desk.show_error(reply.error)
        desk.tell("your message is kept: /regen asks again, /undo takes it back")
    desk.show_notices()
    if reply.is_left:
        raise Leaving


def _figures(desk: SessionState, done: Completion) -> list[Line]:
    """The dim line under an answer, and why the answer ends here where it is cut off."""
    line = done_line(done, desk.screen.width)
    if done.tool_calls:
        way = plain("/result TEXT answers it", "dim")
        return [(), *(each for words in call_words(done.tool_calls) for each in desk.wrapped(words, "cyan")), way, line]
    if not done.text and done.finish_reason != "interrupted":
        return [*desk.wrapped("the answer is empty, /regen asks again", "dim"), line]
    if done.finish_reason in ENDS:
        ending = [*desk.wrapped(ENDS[done.finish_reason], "dim"), line]
        return [(), *ending] if done.text else ending
    return [(), line]


def call_words(calls: Sequence[ToolCall]) -> list[str]:
    """What a model wants of functions, call by call."""
    return [f"asks for {call.name}({call.arguments})" for call in calls]


def show_message(desk: SessionState, message: Message) -> None:
    """Show an answer, or a function's result, that was given before."""
    if message.role == "tool":
        desk.say(*desk.wrapped(f"result: {message.content}", "dim"), ())
        return
    if message.content:
        show_text(desk, message.content)
    for words in call_words(message.tool_calls):
        desk.say(*desk.wrapped(words, "cyan"))
    if message.finish_reason in ENDS:
        desk.say((), plain(ENDS[message.finish_reason], "dim"))
    desk.say(())


def show_text(desk: SessionState, text: str) -> None:
    """Show an answer that was given before."""
    view = _view(desk, "")
    view.feed(text)
    view.finish()
