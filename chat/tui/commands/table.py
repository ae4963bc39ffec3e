"""The table of commands: one row each. Knows who does what, not how."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from chat.errors import ChatError, FileError
from chat.rendering.styled_text import Span, plain
from chat.tui import exchange
from chat.tui.commands import export_command, history_commands, io_commands, setting_commands, tree_commands
from chat.tui.commands.lookup import SlashCommand, by_any_name, check_argument, find, split

if TYPE_CHECKING:
    from chat.rendering.styled_text import Line
    from chat.tui.state import SessionState

KEYS = """\
Enter sends · Alt+Enter or Ctrl+J breaks the line · \"\"\" around a block
Up finds earlier messages · Ctrl+R searches them · Ctrl+G opens $EDITOR
Ctrl+C stops an answer and keeps it · Ctrl+D leaves · // sends a slash"""
NAME_CELLS, HELP_CELLS = 10, 27
HALVES = (("Talk", "Sessions"), ("Model", "In and out", "More"))
GAP = "   "


def show_help(desk: SessionState, argument: str) -> None:
    """`/help [command]`"""
    if argument.strip():
        command = find(COMMANDS, argument.strip().removeprefix("/").lower())
        names = ", ".join(f"/{alias}" for alias in command.aliases)
        desk.say(plain(command.usage, "bold"), *desk.wrapped(command.details))
        return desk.tell(f"also {names}") if names else desk.say(())
    desk.say(*_overview(desk.screen.width), ())
    return desk.tell(KEYS)


def _overview(width: int) -> list[Line]:
    """All commands by topic, in two columns where they fit."""
    columns = [[line for topic in half for line in _topic_lines(topic)] for half in HALVES]
    if width <= 2 * (NAME_CELLS + HELP_CELLS) + len(GAP):
        return [*columns[0], *columns[1]]
    blank = plain(" " * (NAME_CELLS + HELP_CELLS))
    return [(*left, Span(GAP), *right) for left, right in zip_longest(*columns, fillvalue=blank)]


def _topic_lines(topic: str) -> list[Line]:
    lines = [plain(f"{topic:<{NAME_CELLS + HELP_CELLS}}", "dim")]
    for each in TOPICS[topic]:
        lines.append((Span(f"/{each.name}".ljust(NAME_CELLS), "bold"), Span(each.help.ljust(HELP_CELLS))))
    return lines


def run(desk: SessionState, text: str) -> str | None:
    """Do what a line that is a command says; a fault is shown, and the session goes on.

    Returns:
        A text to edit in the next prompt.

    Raises:
        EOFError: the person leaves.
    """
    name, argument = split(text)
    try:
        options = {each: f"set {each}" for each in setting_commands.changeable()}
        command = find(COMMANDS, name, options)
        check_argument(command, argument)
        prefill = command.handler(desk, argument)
    except ChatError as error:
        if error is desk.room.fault:
            raise
        desk.show_error(error)
        prefill = None
    except OSError as error:  # of a name that no file can have, say
        desk.show_error(FileError(f"{error.filename or 'cannot read or write'}: {error.strerror or error}"))
        prefill = None
    desk.show_notices()
    return prefill


TOPICS: dict[str, tuple[SlashCommand, ...]] = {
    "Talk": (
        SlashCommand("undo", "take the last turn back",
                "Goes back before the last turn, or the last n. What is left stays in the tree: see `/branches`.",
                tree_commands.undo, "[N]", ("u",)),
        SlashCommand("edit", "edit your last message",
                "Puts your last message, or the one n turns ago, back into the prompt; sending it makes a branch.",
                tree_commands.edit, "[N]", ("e",)),
        SlashCommand("regen", "answer again",
                "Makes another answer to the last message; the one before stays as a branch.",
                tree_commands.regenerate, "", ("retry", "regenerate")),
        SlashCommand("continue", "go on with a cut answer",
                "Goes on after Ctrl+C or the token limit, as if nothing had been.",
                tree_commands.go_on, "", ("go", "cont")),
        SlashCommand("result", "answer a function call",
                "Gives the model what a function that it called gave back, one call after the other; `--tools FILE` "
                "offers functions.",
                exchange.give_result, "TEXT", ("tool",)),
        SlashCommand("branches", "list or switch branches",
                "Edits and new answers keep what they replace as branches; `/branches 2` switches.",
                tree_commands.show_branches, "[NUMBER]", ("branch", "tree")),
    ),
    "Sessions": (
        SlashCommand("new", "begin a new session",
                "Begins an empty session under the same model, options and system prompt. The one before is kept.",
                history_commands.begin, "[NAME]", ("reset",)),
        SlashCommand("clear", "forget what was said here",
                "Goes back before the first message of this session; `/branches` finds the conversation again.",
                history_commands.clear, "", ("cls",)),
        SlashCommand("save", "give the session a name",
                "Sessions are always kept; a name makes this one easy to find: `mistral-chat --session NAME`.",
                history_commands.save, "[NAME]", ("name", "rename")),
        SlashCommand("load", "open a session",
                "Opens a session by its name, the beginning of its id, or its number in the list shown last.",
                history_commands.load, "NAME", ("open",), "session"),
        SlashCommand("sessions", "list the last sessions",
                "Lists the sessions used last; `/load NUMBER` opens one.",
                history_commands.list_sessions, "", ("ls", "list")),
        SlashCommand("search", "search everything said",
                "All words must be there, \"phrases\" as they are; `/load NUMBER` opens a hit.",
                history_commands.search, "WORDS", ("find", "grep")),
    ),
    "Model": (
        SlashCommand("system", "show or set system prompt",
                "Without text it shows the system prompt; `/system none` takes it away. It holds from the next answer"
                " on.",
                setting_commands.set_system, "[TEXT]", ("sys",)),
        SlashCommand("model", "show or switch the model",
                "Goes on with the same conversation under another model: a GGUF file or a catalogue name.",
                setting_commands.switch_model, "[NAME]", (), "model"),
        SlashCommand("set", "change an option",
                "`/set temperature 0.2`; the value `default` is the default again. Options of the engine load the "
                "model again.",
                setting_commands.change, "OPTION VALUE", (), "option"),
        SlashCommand("show", "show all options",
                "Shows all options that a session may change with their values and origins, or one with its help; "
                "`/show model` is `/model`.",
                setting_commands.show, "[OPTION]", ("options", "config"), "option"),
        SlashCommand("preset", "use a preset",
                "Puts the values of [preset.NAME] in force: model, system prompt and options.",
                setting_commands.use_preset, "[NAME]", (), "preset"),
    ),
    "In and out": (
        SlashCommand("file", "attach a text file",
                "Tells the size in tokens before you send; `/file *.py` attaches several. Without a path it lists what "
                "is attached; `/file clear` drops it.",
                io_commands.attach_files, "[PATH ...]", ("read", "attach"), "path"),
        SlashCommand("export", "write the talk to a file",
                "The name decides the format: .md, .json, .html, or .jsonl (ShareGPT style).",
                export_command.export, "FILE [--overwrite]", (), "path"),
        SlashCommand("copy", "copy the last answer",
                "Copies the last answer, its last block of code (`/copy code`), or the conversation (`/copy all`).",
                io_commands.copy, "[code|all]", ("c",), "copy"),
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
                io_commands.show_context, "", ("ctx", "history")),
        SlashCommand("stats", "speeds and tokens",
                "Tokens, speeds and sampling of the last answer and of all since the start.",
                io_commands.show_stats, "", ("usage",)),
        SlashCommand("bye", "leave",
                "Leaves; the session is kept.",
                io_commands.leave, "", ("exit", "quit", "q")),
    ),
}  # fmt: skip

COMMANDS = {command.name: command for rows in TOPICS.values() for command in rows}
NAMES = by_any_name(COMMANDS)
