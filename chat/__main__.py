"""Begin the program: decide what Ctrl+C does before anything that takes time is imported. Knows nothing else."""

from __future__ import annotations

from chat.ground import ctrl_c


def main() -> None:
    """The command `mistral-chat`; it ends with an exit code, as SystemExit."""
    ctrl_c.leaves_at_once()
    ctrl_c.is_unheard_at_the_end()
    from chat.cli import main as enter

    enter()


if __name__ == "__main__":
    main()
