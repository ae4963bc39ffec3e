"""Commands for what goes in and out beside the talk: files, the clipboard, figures, help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from chat.app.code_blocks import code_blocks
from chat.app.prompt_input import attach
from chat.core.conversation import Message
from chat.errors import ChatError, FileError, UsageError
from chat.rendering.status_text import duration, rate, used_of
from chat.rendering.styled_text import Span, cut, plain
from chat.system.terminal_text import escape_control_characters, escape_line
from chat.tui import exchange
from chat.tui.commands import clipboard
from chat.tui.commands.file_patterns import meant_files
from chat.tui.state import Attachment

if TYPE_CHECKING:
    from chat.app.prompt_input import InputText
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

LONG_CHARACTERS = 1_000_000  # of which tokens are not counted at once


def attach_files(desk: SessionState, argument: str) -> None:
    """`/file [path ...]`"""
    if argument.strip() == "clear":
        desk.attachments.clear()
    elif argument.strip():
        given = [(path, _read(path)) for path in meant_files(argument.strip())]  # all of them, or none
        for path, content in given:
            desk.attachments.append(Attachment(escape_line(Path(path).name), content.text))
            for warning in content.warnings:
                desk.say(*desk.wrapped(f"note: {warning}", "magenta"))
    if not desk.attachments:
        return desk.tell("no files attached; /file PATH attaches one to the next message")
    if sum(len(each.text) for each in desk.attachments) > LONG_CHARACTERS:
        desk.screen.update((), [plain("counting tokens …", "dim")])
    counts = tokens_of(desk, tuple(Message("user", each.text) for each in desk.attachments))
    desk.screen.update()
    for each, count in zip(desk.attachments, counts, strict=True):
        desk.say(*desk.wrapped(f"{each.name} · {size_words(each.text, count)}", "dim"))
    return desk.tell("goes with the next message; /file clear drops it")


def tokens_of(desk: SessionState, messages: tuple[Message, ...]) -> tuple[int | None, ...]:
    """How many tokens each message takes; None while that cannot be told."""
    try:
        return desk.room.replier.count(messages) if desk.room.info else (None,) * len(messages)
    except ChatError:  # a server that does not count
        return (None,) * len(messages)


def size_words(text: str, tokens: int | None) -> str:
    """The size of a text in words."""
    size = f"{len(text):,} characters"
    return size if tokens is None else f"{size}, {tokens:,} tokens"


def _read(path: str) -> InputText:
    """A file to attach: none that might never end.

    Raises:
        FileError: it cannot be read.
        DataError: it is binary.
    """
    place = Path(path)
    if place.is_dir():
        raise FileError(f"{path}: is a folder", hint=f"`/file {place / '*.txt'}` attaches what is in it")
    if place.exists() and not place.is_file():
        raise FileError(f"{path}: is not a file")
    return attach("./-" if path == "-" else path, b"")  # here no name means stdin


def copy(desk: SessionState, argument: str) -> None:
    """`/copy [code|all]`"""
    text = _to_copy(desk, argument.strip().lower())
    took = clipboard.copy(text, desk.screen.write if desk.screen.is_live else None)
    if not took:
        raise ChatError("there is no clipboard within reach", hint="`/export FILE` writes a file")
    desk.tell(f"copied {len(text):,} characters to {' and '.join(took)}")


def _to_copy(desk: SessionState, what: str) -> str:
    messages = desk.session.conversation.messages()
    answers = [message.content for message in messages if message.role == "assistant"]
    if what not in ("", "code", "all"):
        raise UsageError("copies the last answer, its last `code`, or `all`")
    if not answers:
        raise UsageError("there is no answer to copy yet")
    if what == "all":
        return "\n\n".join(f"**{message.role}**\n\n{message.content}" for message in messages) + "\n"
    if what == "code":
        blocks = code_blocks(answers[-1])
        if not blocks:
            raise UsageError("the last answer has no code block")
        return blocks[-1]
    return answers[-1]


def show_context(desk: SessionState, argument: str) -> None:
    """`/context`"""
    messages = desk.session.conversation.messages()
    if not messages:
        return desk.tell("nothing is in the context yet")
    desk.room.wait()
    counts = tokens_of(desk, messages)
    if desk.room.info is None:
        return desk.say(*_context_lines(desk, messages, counts), ())
    try:
        read = exchange.context(desk)
    except ChatError as error:
        desk.say(*_context_lines(desk, messages, counts), ())
        return desk.show_error(error)
    desk.used = len(read.ids)
    words = f"{used_of(desk.room.info, desk.used)}, with what the format adds"
    if read.dropped:
        words += f"; the first {read.dropped} turns no longer fit and are left out"
    return desk.say(*_context_lines(desk, messages, counts, read.dropped), (), *desk.wrapped(words, "dim"), ())


def _context_lines(
    desk: SessionState, messages: tuple[Message, ...], counts: tuple[int | None, ...], dropped: int = 0
) -> list[Line]:
    """A line for each message; those of the first turns that were dropped are dim, with `out` for a number."""
    lines: list[Line] = []
    turn = 0
    for message, count in zip(messages, counts, strict=True):
        turn += message.role == "user"
        is_out = 0 < turn <= dropped
        tokens = "out" if is_out else "?" if count is None else f"{count:,}"
        number = str(turn) if message.role == "user" else ""
        before = f"{number:>3} {message.role:<9} {tokens:>7}  "
        room = max(8, desk.screen.width - len(before) - 1)
        text = " ".join([message.content, *exchange.call_words(message.tool_calls)])
        lines.append((Span(before, "dim"), Span(cut(escape_control_characters(text), room), "dim" if is_out else "")))
    return lines


def show_stats(desk: SessionState, argument: str) -> None:
    """`/stats`"""
    totals = desk.totals
    if not totals.replies:
        return desk.tell("no answers yet")
    rows: list[tuple[str, str]] = []
    if desk.last is not None:
        tokens, seconds = desk.last.tokens, desk.last.seconds
        rows += [
            ("last prompt", f"{tokens.prompt:,} tokens, {tokens.cached:,} of them cached, {duration(seconds.prompt)}"),
            ("last answer", f"{tokens.generated:,} tokens, {duration(seconds.generate)}, "
                            f"{rate(tokens.generated, seconds.generate)}/s"),
            ("sampling", ", ".join(f"{name} {value}" for name, value in desk.last.sampling.items())),
        ]  # fmt: skip
        if tokens.drafted:
            rows.append(("drafts", f"{tokens.accepted:,} of {tokens.drafted:,} accepted"))
    rows += [
        ("answers", f"{totals.replies:,}"),
        ("read", f"{totals.read:,} tokens, {rate(totals.read, totals.read_seconds)}/s; {totals.cached:,} were cached"),
        ("generated", f"{totals.generated:,} tokens, {rate(totals.generated, totals.generate_seconds)}/s"),
    ]
    for name, value in rows:
        lines = desk.wrapped(value, indent=" " * 13)
        desk.say((Span(f"{name:<13}", "dim"), *lines[0][1:]), *lines[1:])
    return desk.say(())


def leave(desk: SessionState, argument: str) -> None:
    """`/bye`

    Raises:
        EOFError: always.
    """
    raise EOFError
