"""Hold the engine child in one phase of its life. For tests only: Python runs it at its start where PYTHONPATH says.

`HELD_PHASE` names the phase; `HELD_MARK` a file that is made when the child gets there, and removed to let it go on.
"""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASES: dict[str, tuple[str, str, Callable[..., bool]]] = {  # module, name in it, for which arguments
    "loading": ("chat.engine.model", "Model.__init__", lambda *_: True),
    "making the context": ("chat.engine.decoder", "Decoder.__init__", lambda *_: True),
    "encoding": ("chat.engine.compose", "encode", lambda *_: True),
    "compiling": ("chat.engine.constraint", "checked_grammar", lambda *_: True),
    "looking for a state": ("chat.engine.states", "States.best", lambda *_: True),
    "checking a state": ("chat.engine.states", "States.load", lambda *_: True),
    "restoring": ("chat.engine.decoder", "Decoder.restore", lambda *_: True),
    "reading": ("chat.engine.decoder", "Decoder.feed", lambda _, ids, *rest: len(ids) > 1),
    "decoding": ("chat.engine.decoder", "Decoder.feed", lambda _, ids, *rest: len(ids) == 1),
    "taking a snapshot": ("chat.engine.decoder", "Decoder.snapshot", lambda *_: True),
    "writing a state": ("os", "fsync", lambda *_: True),
}


def hold(phase: str, mark: Path) -> None:
    """Put a wait before what the phase begins with."""
    module, path, applies = PHASES[phase]
    *above, name = path.split(".")
    owner = importlib.import_module(module)
    for each in above:
        owner = getattr(owner, each)
    function = getattr(owner, name)

    def held(*arguments: Any, **named: Any) -> Any:
        if applies(*arguments):
            mark.touch()
            while mark.exists():
                time.sleep(0.005)
        return function(*arguments, **named)

    setattr(owner, name, held)


if "chat.engine.worker" in sys.orig_argv and os.environ.get("HELD_PHASE"):
    hold(os.environ["HELD_PHASE"], Path(os.environ["HELD_MARK"]))
