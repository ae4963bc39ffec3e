"""The table of commands: one row each. Knows who does what, not how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.ground.errors import ChatError
from chat.terminal import desk_commands, export_command, history_commands, setting_commands, tree_commands
from chat.terminal.command import Command, by_any_name, find, split
from chat.terminal.render import Span, plain

if TYPE_CHECKING:
    from chat.terminal.desk import Desk

KEYS = """\
Enter sends · Alt+Enter or Ctrl+J breaks the line · \"\"\" begins and ends a block
Up finds earlier messages by their beginning · Ctrl+R searches them · Ctrl+G opens $EDITOR
Ctrl+C stops an answer and keeps it · Ctrl+D leaves · // begins a message with a slash"""


def show_help(desk: Desk, argument: str) -> None:
    """`/help [command]`"""
    if argument.strip():
        command = find(COMMANDS, argument.strip().removeprefix("/").lower())
        names = ", ".join(f"/{alias}" for alias in command.aliases)
        desk.say(plain(command.usage, "bold"), *desk.wrapped(command.details))
        return desk.tell(f"also {names}") if names else desk.say(())
    width = 13 if desk.screen.width < 60 else 18
    for command in COMMANDS.values():
        usage = command.usage if len(command.usage) < width else f"/{command.name}"
        lines = desk.wrapped(command.help, indent=" " * width)
        desk.say((Span(f"{usage:<{width}}", "bold"), *lines[0][1:]), *lines[1:])
    desk.say(())
    return desk.tell(KEYS)


def run(desk: Desk, text: str) -> str | None:
    """Do what a line that is a command says; a fault is shown, and the session goes on.

    Returns:
        A text to edit in the next prompt.

    Raises:
        EOFError: the person leaves.
    """
    name, argument = split(text)
    try:
        options = {each: f"set {each}" for each in setting_commands.changeable()}
        prefill = find(COMMANDS, name, options).handler(desk, argument)
    except ChatError as error:
        if error is desk.room.fault:
            raise
        desk.show_error(error)
        prefill = None
    desk.show_notices()
    return prefill


_ROWS = (
    Command("help", "this list, or one command's details", "Lists the commands, or explains one.",
            show_help, "[NAME]", ("?", "h"), "command"),
    Command("new", "begin a new session", "Begins an empty session under the same model, options and system prompt. "
            "The one before is kept.", history_commands.begin, "[NAME]", ("reset",)),
    Command("clear", "forget what was said, clear the screen", "Goes back before the first message of this session; "
            "`/branches` finds the conversation again.", history_commands.clear, "", ("cls",)),
    Command("system", "show or change the system prompt", "Without text it shows the system prompt; `/system none` "
            "takes it away. It holds from the next answer on.", setting_commands.set_system, "[TEXT]", ("sys",)),
    Command("model", "show or switch the model", "Goes on with the same conversation under another model: a GGUF "
            "file or a catalogue name.", setting_commands.switch_model, "[NAME]", (), "model"),
    Command("set", "change an option", "`/set temperature 0.2`; the value `default` is the default again. Options of "
            "the engine load the model again.", setting_commands.change, "OPTION VALUE", (), "option"),
    Command("show", "show options and where they come from", "Shows all options that a session may change with their "
            "values and origins, or one with its help; `/show model` is `/model`.", setting_commands.show, "[OPTION]",
            ("options", "config"), "option"),
    Command("file", "attach a text file to the next message", "Tells the size in tokens before you send. Without a "
            "path it lists what is attached; `/file clear` drops it.", desk_commands.attach_files, "[PATH]",
            ("read", "attach"), "path"),
    Command("undo", "take the last turn back", "Goes back before the last turn, or the last n. What is left stays "
            "in the tree: see `/branches`.", tree_commands.undo, "[N]", ("u",)),
    Command("edit", "edit your last message, ask again", "Puts your last message, or the one n turns ago, back into "
            "the prompt; sending it makes a branch.", tree_commands.edit, "[N]", ("e",)),
    Command("regen", "answer the last message again", "Makes another answer to the last message; the one before "
            "stays as a branch.", tree_commands.regenerate, "", ("retry", "regenerate")),
    Command("continue", "go on with an answer that was cut off", "Goes on after Ctrl+C or the token limit, as if "
            "nothing had been.", tree_commands.go_on, "", ("go", "cont")),
    Command("branches", "list the branches, switch to one", "Edits and new answers keep what they replace as "
            "branches; `/branches 2` switches.", tree_commands.show_branches, "[NUMBER]", ("branch", "tree")),
    Command("save", "give the session a name", "Sessions are always kept; a name makes this one easy to find: "
            "`mistral-chat --session NAME`.", history_commands.save, "[NAME]", ("name", "rename")),
    Command("load", "open a session", "Opens a session by its name, the beginning of its id, or its number in the "
            "list shown last.", history_commands.load, "NAME", ("open",), "session"),
    Command("sessions", "list the last sessions", "Lists the sessions used last; `/load NUMBER` opens one.",
            history_commands.list_sessions, "", ("ls", "list")),
    Command("search", "search in everything that was said", "All words must be there, \"phrases\" as they are; "
            "`/load NUMBER` opens a hit.", history_commands.search, "WORDS", ("find", "grep")),
    Command("export", "write the conversation to a file", "The name decides the format: .md, .json, .html, or .jsonl "
            "(ShareGPT style).", export_command.export, "FILE", (), "path"),
    Command("copy", "copy the last answer", "Copies the last answer, its last block of code (`/copy code`), or the "
            "conversation (`/copy all`).", desk_commands.copy, "[code|all]", ("c",), "copy"),
    Command("context", "what the model reads, with tokens", "Lists the messages in the context turn by turn, with "
            "their tokens.", desk_commands.show_context, "", ("ctx", "history")),
    Command("stats", "figures of the answers", "Tokens, speeds and sampling of the last answer and of all since the "
            "start.", desk_commands.show_stats, "", ("usage",)),
    Command("raw", "show answers as plain text", "Switches the styling of Markdown off or on.",
            setting_commands.toggle_raw, "[on|off]", ("markdown",)),
    Command("preset", "use a preset of the settings file", "Puts the values of [preset.NAME] in force: model, system "
            "prompt and options.", setting_commands.use_preset, "[NAME]", (), "preset"),
    Command("bye", "leave", "Leaves; the session is kept.", desk_commands.leave, "", ("exit", "quit", "q")),
)  # fmt: skip

COMMANDS = {command.name: command for command in _ROWS}
NAMES = by_any_name(COMMANDS)
