"""Start the program: decide what Ctrl+C does before anything that takes time is imported."""

from __future__ import annotations

from chat.system import interrupts


def main() -> None:
    """The command `mistral-chat`; it ends with an exit code, as SystemExit."""
    interrupts.exit_on_interrupt()
    interrupts.ignore_interrupts_at_exit()
    from chat.system.python_child import end_if_hidden, import_own_packages

    import_own_packages()  # later imports of `convert`, too, get the package beside `chat`
    try:
        from chat.cli.main import main as enter
    except (Exception, SystemExit) as error:
        end_if_hidden(error)
        raise
    enter()


if __name__ == "__main__":
    main()
