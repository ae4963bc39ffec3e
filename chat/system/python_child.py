"""Run a module of this program in a Python process of its own.

A folder of the user may hold a `chat.py` or a `convert.py`, and PYTHONPATH may name such a folder. The child imports
`chat` and `convert` from where this file is, and nothing from the working folder. PYTHONPATH stays as it is: with our
own folder in front, other packages beside ours, such as a backport of `typing`, would hide the standard library's.

The child runs this file: `python -P python_child.py MODULE [ARGUMENT]...`. Where the program is one file with Python in
it (docs/packaging/one_file.py), that file is started again: `mistral-chat FROZEN_CHILD MODULE [ARGUMENT]...`.
"""

from __future__ import annotations

import sys
from importlib import import_module
from os.path import dirname

FROZEN_CHILD = "--run-own-module"
PACKAGES = ("chat", "convert")  # their own `__init__.py` import nothing
ROOT = dirname(dirname(dirname(__file__)))  # the folder that holds both packages


def python_child(module: str, *arguments: str) -> list[str]:
    """The command that runs a module of ours as `python -m` does, with the import options of this process.

    Args:
        module: its full name, such as `chat.worker.server`.
    """
    if getattr(sys, "frozen", False):
        return [sys.executable, FROZEN_CHILD, module, *arguments]
    flags = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site, "-P": True}
    return [sys.executable, *(flag for flag, is_on in flags.items() if is_on), __file__, module, *arguments]


def import_own_packages() -> None:
    """Import `chat` and `convert` from where this file is, whatever else on the import path has their names."""
    path = sys.path[:]
    sys.path[:] = [ROOT]
    try:
        for name in PACKAGES:
            import_module(name)
    finally:
        sys.path[:] = path


def end_if_hidden(error: BaseException) -> None:
    """End with a sentence where a file of the user has the name of a module that is imported before all else."""
    from chat.errors import hiding_error

    if hidden := hiding_error(error):
        print(f"error: {hidden.message}\nhint: {hidden.hint}", file=sys.stderr)
        sys.exit(int(hidden.exit_code))


def run_module(module: str, *arguments: str) -> None:
    """Be the child: run a module as `__main__`."""
    import runpy

    import_own_packages()
    from chat.system.network import seal_child

    seal_child()
    if ROOT not in sys.path:  # the libraries may be there, too, as after `pip install --target`
        sys.path.append(ROOT)
    sys.argv[1:] = arguments
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    run_module(*sys.argv[1:])
