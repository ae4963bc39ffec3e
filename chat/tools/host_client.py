"""A source of functions that lives in a child process: a Python file, or an MCP server.

Messages are JSON, one in a line. To the child: its settings; then `{"id", "name", "arguments", "characters"}` to call,
`{"cancel": id}` to stop a call, `{"again": true}` for a new list. From it: `{"tools": [...]}` or `{"fault": sentence}`
at the start, `{"changed": true}` when the list may be another one, and of a call first `{"id", "started": true}`, then
`{"id", "text"}`, `{"id", "fault"}`, or `{"id", "again": true}` where another child can be asked; `{"unchanged"}` tells
why there is no new list, and `{"end"}` why the child ends.
"""

from __future__ import annotations

import json
import math
import subprocess
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from chat import platform
from chat.errors import ChatError, EngineError, reason_text
from chat.prompts.json_schema import fault
from chat.system.python_child import python_child
from chat.system.secrets import child_environment
from chat.system.terminal_text import counted
from chat.system.text_files import open_log
from chat.tools.tool import SourceTool, ToolError, rule_name

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from chat.tools.tool import CallControl

ORIGIN_KEYS = ("command", "args", "url", "file")
LIST_SECONDS = 1.0  # for a new list, before the one there is counts on
END_SECONDS = 6.0  # an MCP server that does not end by itself is killed by the SDK within four
POLL_SECONDS = 0.05
END_POLL_SECONDS = 0.005
MOST_LINE_BYTES = 32 << 20  # of one message
LONGEST_NAME = 128  # characters, which the protocol recommends
MOST_NOTICES = 5  # about single functions
LONGEST_SCHEMA = 50_000  # characters
LONGEST_DESCRIPTION = 4000  # characters; a model reads it with each question


@dataclass
class _Reply:
    """What is known of one call."""

    is_started: threading.Event = field(default_factory=threading.Event)
    is_done: threading.Event = field(default_factory=threading.Event)
    message: dict[str, Any] = field(default_factory=dict)


class HostedTools:
    """The functions that a child process holds. It is started again when it has died, by the next call.

    Attributes:
        name: what the user knows the source by.
        origin: the program with its arguments, the address, or the file, as JSON.
        notices: sentences for the user, which `take_notices` of the toolbox empties.
    """

    def __init__(
        self, name: str, module: str, settings: Mapping[str, Any], start_seconds: float, log_file: Path | None = None
    ) -> None:
        """Describe the source.

        Args:
            name: what the user knows it by.
            module: what the child runs.
            settings: its first message.
            start_seconds: how long its start may take.
            log_file: gets what it writes to stderr; None for nothing.
        """
        self.name = name
        self.origin = json.dumps({key: settings[key] for key in ORIGIN_KEYS if key in settings})
        self.notices: list[str] = []
        self._is_announced = False  # another list, which was not asked for yet
        self._is_answered = threading.Event()  # what was asked for has come
        self._is_answered.set()
        self._unchanged = ""  # why it has not
        self._taken: object = None  # the message whose list `tools` gave last
        self._tools: tuple[SourceTool, ...] = ()
        self._module, self._settings, self._log_file = module, dict(settings), log_file
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()  # of starting and of writing
        self._start_seconds = start_seconds
        self._late_at = math.inf  # when the start has taken too long
        self._killing = threading.Lock()
        self._replies: dict[int, _Reply] = {}  # to calls that this child got
        self._count = 0
        self._list = _Reply()
        self._reason = ""

    def start(self) -> None:
        """Start the child if it does not run, without waiting.

        Raises:
            EngineError: the system cannot start a process.
            FileError: the log cannot be written.
        """
        with self._lock:
            if self._process is not None and not self._has_ended(self._process):
                return
            log: IO[bytes] | int = open_log(self._log_file) if self._log_file is not None else subprocess.DEVNULL
            try:
                self._process = subprocess.Popen(
                    python_child(self._module),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=child_environment(),
                    start_new_session=True,
                    creationflags=platform.OWN_GROUP,
                )
            except OSError as error:
                raise EngineError(f"`{self.name}` cannot be started: {reason_text(error)}") from error
            finally:
                if not isinstance(log, int):
                    log.close()
            self._late_at = time.monotonic() + self._start_seconds
            self._list, self._replies, self._reason = _Reply(), {}, ""
            self._is_announced = False
            self._is_answered.set()
            reading = (self._process, self._list, self._replies)
            threading.Thread(target=self._read, args=reading, daemon=True, name=self.name).start()
        self._send(self._settings)

    def tools(self) -> tuple[SourceTool, ...]:
        """Its functions, without those whose schema is none; those before where it does not list others at once.

        Raises:
            EngineError: it cannot be used, or has not started in time.
        """
        if self._process is None:
            self.start()
        if self._is_announced and self._is_answered.is_set():
            self._ask_for_list()
        message = self._started()
        if message is self._taken:
            return self._tools
        self._taken = message
        left_out: list[str] = []
        found: dict[str, SourceTool] = {}
        for plain in message["tools"]:
            tool = SourceTool(plain["name"], plain["description"][:LONGEST_DESCRIPTION], plain["parameters"])
            name = rule_name(tool.name)
            wrong = plain.get("fault") or ("another one has its name" if name in found else _fault_of(tool))
            if wrong:
                left_out.append(f"`{self.name}`: the function {tool.name[:LONGEST_NAME]} is left out: {wrong}")
            else:
                found[name] = tool
        self.notices += left_out[:MOST_NOTICES]
        if more := len(left_out[MOST_NOTICES:]):
            self.notices.append(f"`{self.name}`: {counted(more, 'more function')} are left out")
        if message.get("is_cut"):
            self.notices.append(f"`{self.name}` has more than {len(message['tools']):,} functions; those are on offer")
        self._tools = tuple(found.values())
        return self._tools

    def call(self, name: str, arguments: Mapping[str, Any], control: CallControl) -> str:
        """The result of a function.

        Raises:
            ToolError: there is none: it failed, took too long, or was stopped.
        """
        for _ in range(2):  # a call that waited for another one in the child is asked again where that one killed it
            try:
                self.start()
                self._started()
            except ChatError as error:
                raise ToolError(error.message) from error
            if control.stopped.is_set():
                raise ToolError("stopped")
            reply = self._ask(name, arguments, control)
            if reply is not None:
                break
        else:
            raise ToolError(f"`{self.name}` ended: {self._end_reason()}")
        if "text" not in reply:
            raise ToolError(str(reply.get("fault") or f"`{self.name}` ended: {self._end_reason()}"))
        return str(reply["text"])

    def path_argument(self, name: str, arguments: Mapping[str, Any]) -> None:
        """None: what an argument means is not known here."""

    @property
    def has_news(self) -> bool:
        """Whether `tools` may give other functions than the last time."""
        is_new = self._list.is_done.is_set() and self._list.message is not self._taken
        return is_new or (self._is_announced and self._is_answered.is_set())

    @property
    def is_ready(self) -> bool:
        """Whether it has started, or cannot be used."""
        return self._list.is_done.is_set() or time.monotonic() > self._late_at

    def begin_end(self) -> None:
        """Tell the child to end, without waiting."""
        if self._process is not None and self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def close(self, seconds: float = END_SECONDS) -> None:
        """End the child; it is killed where it takes longer."""
        self.begin_end()
        deadline = time.monotonic() + seconds
        try:
            while self._process is not None and not self._has_ended(self._process) and time.monotonic() < deadline:
                time.sleep(END_POLL_SECONDS)
        finally:
            self._kill()

    def _ask_for_list(self) -> None:
        """Ask for the list that was announced, and wait a moment; one that comes later is news."""
        self._is_announced = False  # before the child is asked: what changes while it answers needs another list
        self._is_answered.clear()
        self._unchanged = "it does not list them"
        self._send({"again": True})
        self._is_answered.wait(LIST_SECONDS)
        if self._unchanged:
            self.notices.append(
                f"`{self.name}` announced other functions, but {self._unchanged}; the earlier ones stay on offer"
            )

    def _started(self) -> dict[str, Any]:
        """The list of functions, which comes when it has started.

        Raises:
            EngineError: it cannot be used, or has not started in time.
        """
        listed = self._list
        if not listed.is_done.wait(max(0.0, self._late_at - time.monotonic())):
            self._kill()
            raise EngineError(
                f"`{self.name}` did not start within {self._start_seconds:g} s, which is its `startup_timeout_sec`"
            )
        if "tools" not in listed.message:
            raise EngineError(f"`{self.name}` cannot be used: {listed.message.get('fault') or self._end_reason()}")
        return listed.message

    def _ask(self, name: str, arguments: Mapping[str, Any], control: CallControl) -> dict[str, Any] | None:
        """What the child answers; None where it died before it had begun, or another one can be asked.

        Raises:
            ToolError: it took too long, or was stopped.
        """
        reply = _Reply()
        with self._lock:
            self._count += 1
            number, process = self._count, self._process
            self._replies[number] = reply
        limits = control.limits
        self._send({"id": number, "name": name, "arguments": arguments, "characters": limits.characters})
        began = 0.0
        while not reply.is_done.wait(POLL_SECONDS):
            began = began or (time.monotonic() if reply.is_started.is_set() else 0.0)
            if process is not None and self._has_ended(process) and not reply.is_done.wait(1.0):
                break  # what it has started holds its stdout open, so that the reader waits on
            is_late = began and time.monotonic() - began > limits.seconds
            if not (is_late or control.stopped.is_set()):
                continue
            self._send({"cancel": number})
            if not reply.is_done.wait(1.0):  # it does not even stop: the next call starts another one
                self._kill(process)
            raise ToolError(f"it took longer than {limits.seconds:g} s and was ended" if is_late else "stopped")
        if "again" in reply.message:
            self._kill(process)
            return None
        return reply.message if reply.message or reply.is_started.is_set() else None

    def _send(self, message: Mapping[str, Any]) -> None:
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with suppress(OSError, ValueError):  # it has died; the reader tells
                    self._process.stdin.write(json.dumps(message).encode() + b"\n")
                    self._process.stdin.flush()

    def _read(self, process: subprocess.Popen[bytes], listed: _Reply, replies: dict[int, _Reply]) -> None:
        """Pass on what the child sends, until it ends; another one may have been started by then.

        Args:
            process: the child.
            listed: its first list.
            replies: to calls that it got.
        """
        assert process.stdout is not None
        while line := process.stdout.readline(MOST_LINE_BYTES):
            try:
                message = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(message, dict) or type(message.get("id", 0)) is not int:
                break
            if "id" in message:
                reply = replies.get(message["id"])
                if reply is not None and "started" in message:
                    reply.is_started.set()
                elif reply is not None:
                    reply.message = message
                    replies.pop(message["id"]).is_done.set()
            elif process is not self._process:
                break
            elif "changed" in message:
                self._is_announced = True
            elif "unchanged" in message:
                self._unchanged = str(message["unchanged"])
                self._is_answered.set()
            elif "end" in message:
                self._reason = message["end"]
            else:
                self._list.message, self._unchanged = message, ""
                self._list.is_done.set()
                self._is_answered.set()
        self._kill(process)
        listed.is_done.set()
        with self._lock:
            for reply in replies.values():
                reply.is_done.set()
            if process is self._process:
                self._is_announced = False
                self._is_answered.set()
                self._list.is_done.set()

    def _has_ended(self, process: subprocess.Popen[bytes]) -> bool:
        """Whether a child has ended; what it has left in its group is killed before its number is given back."""
        if not platform.has_ended(process):
            return False
        self._kill(process)
        return True

    def _kill(self, process: subprocess.Popen[bytes] | None = None) -> None:
        """Kill the child and what it started in its group."""
        process = process or self._process
        with self._killing:
            if process is not None and process.returncode is None:  # its number belongs to it until then
                with suppress(PermissionError):
                    platform.kill_group(process.pid)
                process.wait()

    def _end_reason(self) -> str:
        code = self._process.returncode if self._process is not None else None
        if self._reason:
            return self._reason
        return f"its process was ended by signal {-code}" if code is not None and code < 0 else "its process ended"


def _fault_of(tool: SourceTool) -> str:
    """Why no prompt can offer the function; empty where one can."""
    if not tool.name:
        return "it has no name"
    if len(tool.name) > LONGEST_NAME:
        return f"its name has more than {LONGEST_NAME} characters"
    if not isinstance(tool.parameters, dict) or tool.parameters.get("type", "object") != "object":
        return "its arguments are not an object"
    try:
        found = fault(tool.parameters)
    except RecursionError:
        return "its schema is nested too deeply"
    if not found and len(json.dumps(tool.parameters)) > LONGEST_SCHEMA:
        return f"its schema has more than {LONGEST_SCHEMA:,} characters"
    return f"its schema is wrong: {found}" if found else ""
