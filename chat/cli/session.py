"""Start a terminal session with the model and the stored session that the settings name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chat.app.backends import session_backend, state_folder_of
from chat.app.sessions import find_session, load_conversation
from chat.errors import ExitCode, ModelError
from chat.guide import PATH as GUIDE_FILE
from chat.models.resolve import resolve

if TYPE_CHECKING:
    from chat.config.options import Settings
    from chat.config.resolve import ResolvedSettings
    from chat.system.environment import Environment
    from chat.tui.tty_modes import TtyModes


def enter_session(resolved: ResolvedSettings, modes: TtyModes, environment: Environment) -> int:
    """Run a terminal session.

    Args:
        modes: the terminal's modes during the session.

    Returns:
        The exit code.

    Raises:
        ChatError: the model cannot be used, or the session is missing.
    """
    from chat.history.store import open_history
    from chat.tui.repl import Opening, run_session

    if sentence := unused_template(resolved.settings):
        environment.notify(f"note: {sentence}")
    with open_history(enabled=not resolved.settings.no_history) as store:
        base = resolved
        record, resolved = find_session(store, base)
        if resolved.missing_model is not None:
            environment.notify(f"note: the model of your last session is gone: {resolved.missing_model}")
        if _needs_choice(resolved.settings):
            from chat.cli.first_run import choose_model

            try:
                with modes.restored():
                    model = choose_model(environment)
            except (EOFError, KeyboardInterrupt):  # Ctrl+D and Ctrl+C leave, as in the session
                environment.print("")
                return ExitCode.DONE
            resolved = replace(resolved, settings=replace(resolved.settings, model=model))
        settings = resolved.settings
        opening = Opening(
            store,
            record,
            load_conversation(store, record, resolved),
            base,
            files=settings.file,
            config_file=environment.config_file,
            environment=environment,
            state_folder=state_folder_of(settings),
        )
        return run_session(lambda options: session_backend(options, settings), resolved, opening, modes)


def unused_template(settings: Settings) -> str:
    """A sentence that a session sends messages as they are typed; empty if no template would change them."""
    if settings.template is None:
        return ""
    from chat.templates import store

    template = store.load(settings.template)
    if template.prompt.strip() == "$input":
        return ""
    rest = "uses only its settings" if template.settings else "does not use it"
    return f"the text of template `{template.name}` is for a single prompt; a session {rest}"


def _needs_choice(settings: Settings) -> bool:
    """Whether no model is named, and several were pulled, or none."""
    if settings.model is not None or settings.remote:
        return False
    try:
        return resolve(None) == GUIDE_FILE
    except ModelError:
        return True
