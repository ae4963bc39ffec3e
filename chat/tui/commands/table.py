"""The table of commands; `/help` and `/bye`, and running a command."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from chat.core.document_kinds import DOCUMENTS
from chat.errors import ChatError, FileError
from chat.rendering.styled_text import Span, plain
from chat.tui import exchange
from chat.tui.commands import (
    attach_command,
    context_commands,
    export_commands,
    history_commands,
    model_commands,
    setting_commands,
    tool_commands,
    tree_commands,
)
from chat.tui.commands.lookup import SlashCommand, by_any_name, check_argument, find_command, split_command
from chat.tui.commands.session_options import changeable_options, think_words

if TYPE_CHECKING:
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

KEYS = """\
Enter sends · Alt+Enter or Ctrl+J breaks the line · \"\"\" around a block
Up finds earlier messages · Ctrl+R searches them · Ctrl+G opens $EDITOR
Ctrl+C stops an answer and keeps it · Ctrl+T prints what the model thought
Ctrl+D quits · // sends a slash"""
SPOKEN_KEYS = """\
Enter sends. \"\"\" begins and ends a message of several lines.
Ctrl+C stops an answer and keeps it, Ctrl+D quits. // sends a slash."""
NAME_CELLS, HELP_CELLS = 10, 27
HELP_COLUMNS = (("Conversation", "Sessions"), ("Model", "In and out", "More"))
GAP = "   "


def run_command(state: SessionState, text: str) -> str | None:
    """Run a line that is a command; an error is shown, and the session continues.

    Returns:
        A text to edit in the next prompt.

    Raises:
        EOFError: the user leaves.
        ChatError: the model cannot be used.
        Terminated: the program ends.
    """
    name, argument = split_command(text)
    prefill = None
    try:
        options = {option: f"set {option}" for option in changeable_options()}
        command = find_command(COMMANDS, name, options, after=" (`//` sends a slash)")
        check_argument(command, argument)
        prefill = command.handler(state, argument)
    except ChatError as error:
        if error is state.backend.fault:
            raise
        state.show_error(error)
    except OSError as error:  # for example of a name that no file can have
        state.show_error(FileError(f"{error.filename or 'cannot read or write'}: {error.strerror or error}"))
    state.show_notices()
    return prefill


def show_help(state: SessionState, argument: str) -> None:
    """`/help [COMMAND]`

    Raises:
        UsageError: there is no such command.
    """
    if argument.strip():
        command = find_command(COMMANDS, argument.strip().removeprefix("/").lower())
        names = ", ".join(f"/{alias}" for alias in command.aliases)
        state.show(plain(command.usage, "bold"), *state.wrapped(command.details))
        return state.report(f"also {names}") if names else state.show(())
    state.show(*_overview(0 if state.screen.is_spoken else state.screen.width), ())
    return state.report(SPOKEN_KEYS if state.screen.is_spoken else KEYS)


def leave(state: SessionState, argument: str) -> None:
    """`/bye`

    Raises:
        EOFError: always.
    """
    raise EOFError


def _overview(width: int) -> list[Line]:
    """All commands by topic, in two columns if they fit in so many cells."""
    columns = [[line for topic in topics for line in _topic_lines(topic)] for topics in HELP_COLUMNS]
    if width <= 2 * (NAME_CELLS + HELP_CELLS) + len(GAP):
        return [*columns[0], *columns[1]]
    blank = plain(" " * (NAME_CELLS + HELP_CELLS))
    return [(*left, Span(GAP), *right) for left, right in zip_longest(*columns, fillvalue=blank)]


def _topic_lines(topic: str) -> list[Line]:
    lines = [plain(f"{topic:<{NAME_CELLS + HELP_CELLS}}", "dim")]
    for command in TOPICS[topic]:
        lines.append((Span(f"/{command.name}".ljust(NAME_CELLS), "bold"), Span(command.help.ljust(HELP_CELLS))))
    return lines


TOPICS: dict[str, tuple[SlashCommand, ...]] = {
    "Conversation": (
        SlashCommand("undo", "remove the last turn",
                "Goes back to before the last turn, or the last n. What is undone stays in the tree: see `/branches`.",
                tree_commands.undo, "[N]", ("u",)),
        SlashCommand("edit", "edit your last message",
                "Puts your last message, or the one n turns ago, back into the prompt; sending it makes a branch.",
                tree_commands.edit, "[N]", ("e",)),
        SlashCommand("regen", "answer again",
                "Makes another answer to the last message; the one before stays as a branch.",
                tree_commands.regenerate, "", ("retry", "regenerate")),
        SlashCommand("continue", "resume a cut answer",
                "Continues an answer that Ctrl+C or the token limit cut off, as one message.",
                tree_commands.continue_answer, "", ("go", "cont")),
        SlashCommand("result", "answer a function call",
                "Gives the model the result of a function that it called, one call after the other; `--tools FILE` "
                "offers functions.",
                exchange.send_tool_result, "TEXT", ("tool",)),
        SlashCommand("tools", "functions the model calls",
                "`/tools on` runs functions that the model calls, each after a yes: own ones that read files here, "
                "those of `--tools FILE.py` and of MCP servers. `last` shows the last results, `again` runs the last "
                "calls again, `forget RULE` removes what was allowed.",
                tool_commands.tools, f"[{tool_commands.USAGE}]", ("functions",), "tools"),
        SlashCommand("branches", "list or switch branches",
                "Edits and new answers keep what they replace as branches; `/branches 2` switches.",
                tree_commands.show_branches, "[NUMBER]", ("branch", "tree")),
    ),
    "Sessions": (
        SlashCommand("new", "begin a new session",
                "Begins an empty session with the same model, options and system prompt. The one before is kept.",
                history_commands.start_session, "[NAME]", ("reset",)),
        SlashCommand("clear", "forget what was said here",
                "Goes back to before the first message of this session; `/branches` finds the conversation again.",
                history_commands.clear, "", ("cls",)),
        SlashCommand("save", "give the session a name",
                "Sessions are always kept; a name makes this one easy to find: `mistral-chat --session NAME`.",
                history_commands.save, "[NAME]", ("name", "rename")),
        SlashCommand("load", "open a session",
                "Opens a session by its name, the beginning of its id, or its number in the last list.",
                history_commands.load, "NAME", ("open",), "session"),
        SlashCommand("sessions", "list the last sessions",
                "Lists the sessions that were used last; `/load NUMBER` opens one.",
                history_commands.list_sessions, "", ("ls", "list")),
        SlashCommand("search", "search everything said",
                "All words must be there, \"phrases\" as they are; `/load NUMBER` opens a hit.",
                history_commands.search, "WORDS", ("find", "grep")),
    ),
    "Model": (
        SlashCommand("system", "show or set system prompt",
                "Without text it shows the system prompt; `/system none` is none, `/system default` the model's own. "
                "It applies from the next answer on.",
                setting_commands.set_system, "[TEXT]", ("sys",)),
        SlashCommand("model", "list or switch models",
                "Lists models, or continues the same conversation with another one: a GGUF file, a name of the list or "
                "of the catalogue, a model of the server that answers, or another server (its name or address, and a "
                "model of it). `/model info` shows the details of the current one.",
                model_commands.switch_model, "[NAME|info]", (), "model"),
        SlashCommand("think", "thinking before an answer",
                "`/think show` prints what the model thought (Ctrl+T too). `on` and `off` tell it to think or not, "
                "`auto` leaves that to the model, `hide` keeps it off the screen, `limit N` sets the most tokens.",
                setting_commands.think, f"[{'|'.join(think_words())} N]", ("thinking", "reasoning"), "think"),
        SlashCommand("set", "change an option",
                "`/set temperature 0.2`; `default` restores the default. Options of the engine load the model again.",
                setting_commands.set_option, "OPTION VALUE", (), "option"),
        SlashCommand("show", "show changed options",
                "Shows the options that are not at their defaults, with their values and origins. `/show all` shows "
                "every option that a session may change, `/show OPTION` one with its help.",
                setting_commands.show_options, "[OPTION|all]", ("options", "config"), "shown"),
        SlashCommand("preset", "use a preset",
                "Uses the values of [preset.NAME]: model, system prompt and options.",
                setting_commands.use_preset, "[NAME]", (), "preset"),
    ),
    "In and out": (
        SlashCommand("file", "attach a file",
                f"Attaches a text, a document ({DOCUMENTS}), a folder, an https:// page, or "
                "the output of a `!command`. Shows the size in tokens before you send; `/file *.py` attaches several. "
                "Without a path it lists what is attached; `/file clear` drops it. With `/set find on`, long files "
                "stay attached, and each message gets the passages that match it.",
                attach_command.attach_files, "[PATH ...]", ("read", "attach"), "path"),
        SlashCommand("export", "export the conversation",
                "Writes a file whose name decides the format: .md, .txt, .html, .json, or .jsonl (ShareGPT style). "
                "Paths on this machine are left out unless you add --paths.",
                export_commands.export, "FILE [--paths] [--overwrite]", (), "path"),
        SlashCommand("copy", "copy the last answer",
                "Copies the last answer, its last block of code (`/copy code`), or the conversation (`/copy all`).",
                export_commands.copy, "[code|all]", ("c",), "copy"),
        SlashCommand("raw", "Markdown styled, or plain",
                "Switches the styling of Markdown off or on.",
                setting_commands.toggle_raw, "[on|off]", ("markdown",)),
    ),
    "More": (
        SlashCommand("help", "explain a command",
                "Lists the commands, or explains one.",
                show_help, "[NAME]", ("?", "h"), "command"),
        SlashCommand("context", "what the model reads",
                "Lists the messages in the context turn by turn, with their tokens.",
                context_commands.show_context, "", ("ctx", "history")),
        SlashCommand("stats", "speeds and tokens",
                "Tokens, speeds and sampling of the last answer and of all since the start.",
                context_commands.show_stats, "", ("usage",)),
        SlashCommand("bye", "leave",
                "Quits; the session is kept.",
                leave, "", ("exit", "quit", "q")),
    ),
}  # fmt: skip

COMMANDS = {command.name: command for rows in TOPICS.values() for command in rows}
NAMES = by_any_name(COMMANDS)
