"""The child process that holds the functions of a Python file, and calls one at a time.

It reads JSON lines from stdin and writes others to stdout (`chat.tools.host_client` has their keys). What the file
itself prints goes to stderr. A call is ended by ending the process, with all that it started.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import queue
import sys
import threading
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from chat import platform
from chat.errors import reason_text
from chat.system.characters import json_text
from chat.system.child_streams import take_streams
from chat.tools.signatures import SignatureError, described
from chat.tools.tool import result_text

if TYPE_CHECKING:
    from collections.abc import Callable

MODULE = "functions_of_the_user"  # a name that no library has
Functions = dict[str, "Callable[..., Any]"]


def main() -> None:
    """Load the file that the first line names, and answer calls until stdin ends."""
    commands, send = _channels()
    jobs: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_read, args=(commands, jobs), daemon=True).start()
    try:
        functions = _functions(Path(jobs.get()["file"]))
        send({"tools": [_described(name, function) for name, function in functions.items()]})
    except SignatureError as error:
        send({"fault": str(error)})
        return
    except SystemExit:
        send({"fault": "the file ends the program when it is loaded"})
        return
    except BaseException as error:
        send({"fault": f"{type(error).__name__}: {reason_text(str(error))}{_line_of(error)}"})
        return
    while True:
        job = jobs.get()
        send({"id": job["id"], "started": True})
        send({"id": job["id"], **_called(functions[job["name"]], job["arguments"], job["characters"])})


def _channels() -> tuple[IO[bytes], Callable[[dict[str, Any]], None]]:
    """The real stdin and stdout for messages; the file's own are nothing, and stderr."""
    commands, output = take_streams()
    own = os.getpid()

    def send(message: dict[str, Any]) -> None:
        if os.getpid() != own:  # a copy of this process, which a function has forked and left
            os._exit(0)
        output.write(f"{json_text(message)}\n".encode("utf-8", "replace"))
        output.flush()

    return commands, send


def _read(commands: IO[bytes], jobs: queue.Queue[dict[str, Any]]) -> None:
    """Pass commands on; at the end of stdin, or to stop a call, end this process and all that the file started."""
    for line in commands:
        command = json.loads(line)
        if "cancel" in command:
            break
        jobs.put(command)
    platform.kill_group(os.getpid())  # it leads its group


def _functions(file: Path) -> Functions:
    """The public functions that the file defines, or those in its `__all__`."""
    sys.path.insert(0, str(file.parent))
    sys.dont_write_bytecode = True
    loader = SourceFileLoader(MODULE, str(file))
    module = module_from_spec(spec_from_loader(MODULE, loader) or ModuleSpec(MODULE, loader))
    sys.modules[MODULE] = module
    loader.exec_module(module)
    listed = getattr(module, "__all__", None)
    return {
        name: value
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and (name in listed if listed is not None else not name.startswith("_") and value.__module__ == MODULE)
    }


def _described(name: str, function: Callable[..., Any]) -> dict[str, Any]:
    try:
        description, parameters = described(function)
    except SignatureError as error:
        raise SignatureError(f"`{name}`: {error}") from error
    return {"name": name, "description": description, "parameters": parameters}


def _called(function: Callable[..., Any], arguments: dict[str, Any], most_characters: int) -> dict[str, Any]:
    try:
        value = function(**arguments)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
        text = "" if value is None else value if isinstance(value, str) else json_text(value)
        return {"text": result_text(text, most_characters)}
    except SystemExit:
        return {"fault": "the function tried to end the program"}
    except BaseException as error:
        return {"fault": f"{type(error).__name__}: {reason_text(str(error))}"}


async def _awaited(value: Any) -> Any:
    return await value


def _line_of(error: BaseException) -> str:
    """Where in the file an error was raised, or what its syntax breaks."""
    if isinstance(error, SyntaxError):
        return ""  # its text has the line
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})" if trace else ""


if __name__ == "__main__":
    try:
        main()
    finally:
        platform.kill_group(os.getpid())  # also where the program has died, and nobody reads a result any more
