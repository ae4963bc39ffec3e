"""The command `mistral-chat`: start the `chat` that was installed together with this package.

The script that pip writes imports a module by its name, and PYTHONPATH may name a folder of the user that holds another
`chat`. So this package has a name that nobody else uses, and finds `chat` by its place: beside this package where a
wheel is installed, three folders up in the source tree.
"""

from __future__ import annotations

import sys
from os.path import dirname

FOLDER = dirname(dirname(__file__))


def main() -> None:
    """Start the program; it ends with an exit code, as SystemExit."""
    path = sys.path[:]
    sys.path[:] = [FOLDER, dirname(dirname(FOLDER))]
    try:
        import chat  # noqa: F401 - imports of its modules start from it
    finally:
        sys.path[:] = path
    from chat.__main__ import main as enter

    enter()
