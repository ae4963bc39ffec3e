"""A session with a scripted engine, as a program: `python program.py '{"scripts": [...]}'`."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from chat.app.sessions import apply_session
from chat.config.resolve import resolve_settings
from chat.core.conversation import Conversation
from chat.errors import ChatError
from chat.history.store import open_history
from chat.system.paths import config_folder
from chat.tui.repl import Opening, run_session
from chat.tui.tty_modes import TtyModes
from tests.chat.tui.scripted import Scripted


def main() -> int:
    """Run the session.

    `flags` are settings, `resume` names a session to continue, `seconds` are limits of the line editor; the rest is
    for the engine.
    """
    script: dict[str, Any] = json.loads(sys.argv[1])
    config = config_folder() / "config.toml"
    resolved = resolve_settings(
        {"model": script.pop("model", __file__), "stats": True, **script.pop("flags", {})}, {}, config
    )
    resume = script.pop("resume", None)
    if limits := script.pop("seconds", {}):
        vars(import_module("chat.tui.input.line_editor")).update(limits)
    files = tuple(script.pop("files", ()))
    others = script.pop("others", {})  # facts of engines for other models, by the file's name
    made: list[Scripted] = []

    def engine(options: Any) -> Scripted:
        facts = script if not made else others.get(Path(options.model_path).name, {**script, "scripts": []})
        made.append(Scripted(**facts, name=Path(options.model_path).stem))
        return made[-1]

    with open_history(enabled=not resolved.settings.no_history) as store:
        record, conversation = store.load(store.get(resume).id) if resume else (None, Conversation())
        if record is not None:
            resolved = apply_session(resolved, record)
        conversation = conversation.with_system(resolved.settings.system)
        begin = Opening(store, record, conversation, files=files, config_file=config)
        with TtyModes().raw_between_prompts() as modes:
            return run_session(engine, resolved, begin, modes)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ChatError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
