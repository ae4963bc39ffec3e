"""The child process that speaks with one MCP server, through the official SDK.

It reads JSON lines from stdin and writes others to stdout (`chat.tools.host_client` has their keys). What the server
asks of a client besides, such as samples of a model, is refused by the SDK, as nothing here offers it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

import mcp_types as types
from mcp import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from pydantic import ValidationError

from chat import platform
from chat.errors import reason_text
from chat.system.characters import json_text
from chat.system.child_streams import take_streams
from chat.system.terminal_text import size_text
from chat.tools.tool import result_text

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_PAGES, MOST_TOOLS = 50, 1000
MOST_MEMORY_BYTES = 1 << 30  # of this process: a server that sends without an end fills it
MOST_LOG_CHARACTERS = 1 << 20  # of the server's stderr
LIST_SECONDS = 30.0  # for a new list
END_SECONDS = 5.0  # for the server's end, before this process ends without it
ASK_SECONDS = 2.0  # for the end of a server whose stdin is closed, before it is asked by a signal
# HTTP status, and the error that the SDK makes of it, where a server does not know its session any more; some say 400
FORGOTTEN = {404: types.INVALID_REQUEST, 400: types.INTERNAL_ERROR}
_WATCH_SECONDS = 0.2


class _Host:
    """The connection to one server."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._listing: asyncio.Task[None] | None = None  # a new list, on its way
        self._is_told = False
        self._status = 0  # of the last response over HTTP that was a refusal
        self._errors: deque[str] = deque(maxlen=20)  # the last lines of the server's stderr

    async def run(self, commands: asyncio.Queue[dict[str, Any] | None]) -> None:
        """Connect, send the list of functions, and answer calls until there are no more commands."""
        async with AsyncExitStack() as stack:
            try:
                client = await stack.enter_async_context(await self._client(stack))
                send(await self._tools(client))
                self._status = 0  # of an earlier try, such as for a newer protocol
                watching = asyncio.create_task(self._watch(client))
                stack.callback(watching.cancel)
                stack.callback(asyncio.get_running_loop().call_later, ASK_SECONDS, platform.terminate_own_group)
            except BaseException as error:
                send({"fault": self._reason(error)})
                raise SystemExit from error
            while (command := await commands.get()) is not None:
                if "cancel" in command:
                    if task := self._tasks.get(command["cancel"]):
                        task.cancel()
                elif "again" in command:
                    self._is_told = False
                    self._listing = asyncio.create_task(self._list_again(client))
                else:
                    self._tasks[command["id"]] = asyncio.create_task(self._call(client, **command))

    async def _client(self, stack: AsyncExitStack) -> Client:
        own = self._settings
        transport: Any
        if "url" in own:
            import httpx2

            hooks = {"response": [self._on_response]}
            # The program limits a start and a call
            http = httpx2.AsyncClient(headers=own["headers"], timeout=None, event_hooks=hooks)
            transport = streamable_http_client(own["url"], http_client=await stack.enter_async_context(http))
        else:
            server = StdioServerParameters(
                command=own["command"], args=own["args"], env=own["env"], cwd=own["cwd"],
                encoding_error_handler="replace",
            )  # fmt: skip
            transport = stdio_client(server, errlog=self._error_stream())
        return Client(transport, message_handler=self._on_message, cache=None, client_info=_information())

    async def _on_response(self, response: Any) -> None:
        """Remember the status of a refusal, which the SDK does not tell; a server need not answer GET."""
        if response.status_code >= 400 and response.request.method == "POST":
            self._status = response.status_code

    async def _tools(self, client: Client) -> dict[str, Any]:
        """The message with the list of functions; `is_cut` where the server has more."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page = await client.list_tools(cursor=cursor)
            found += [
                {
                    "name": each.name,
                    "description": each.description or "",
                    "parameters": each.input_schema,
                    "fault": "it runs as a task only" if _needs_task(each) else "",
                }
                for each in page.tools
            ]
            cursor = page.next_cursor
            if cursor is None or len(found) > MOST_TOOLS:
                break
        return {"tools": found[:MOST_TOOLS], "is_cut": cursor is not None or len(found) > MOST_TOOLS}

    async def _list_again(self, client: Client) -> None:
        """Send a new list, or why there is none."""
        try:
            async with asyncio.timeout(LIST_SECONDS):
                send(await self._tools(client))
        except Exception as error:
            send({"unchanged": self._reason(error)})

    async def _watch(self, client: Client) -> None:
        """Tell when a server of a protocol since 2026 changes its list; others send a notification unasked."""
        with suppress(RuntimeError, MCPError, TimeoutError):  # it has no such stream, or ended it
            async with client.listen(tools_list_changed=True) as events:
                async for _ in events:
                    self._tell_change()

    async def _on_message(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self._tell_change()

    def _tell_change(self) -> None:
        """Tell once that the list may be another one, until it is asked for."""
        if not self._is_told:
            self._is_told = True
            send({"changed": True})

    async def _call(self, client: Client, id: int, name: str, arguments: dict[str, Any], characters: int) -> None:
        send({"id": id, "started": True})
        self._status = 0
        try:
            result = await client.call_tool(name, arguments)
            try:
                text = result_text("\n".join(_texts(result)), characters)
            except (ValueError, RecursionError) as error:  # a number, or a depth, that JSON is not written with here
                return send({"id": id, "fault": f"its result cannot be read: {reason_text(error)}"})
            send({"id": id, "fault" if result.is_error else "text": text or ("it failed" if result.is_error else "")})
        except asyncio.CancelledError:
            send({"id": id, "fault": "stopped"})
        except MCPError as error:
            if error.code == types.CONNECTION_CLOSED:
                send({"id": id, "fault": self._reason(error)})
                end()
            if FORGOTTEN.get(self._status) == error.code:
                send({"end": self._reason(error)})
                send({"id": id, "again": True})
                end()
            send({"id": id, "fault": reason_text(error.message)})
        except Exception as error:
            send({"id": id, "fault": self._reason(error)})
            end()
        finally:
            self._tasks.pop(id, None)

    def _error_stream(self) -> TextIO:
        """A pipe for the server's stderr: its last lines explain why it ended, and all go to ours."""
        reading, writing = os.pipe()

        def read() -> None:
            left = MOST_LOG_CHARACTERS
            with os.fdopen(reading, "r", encoding="utf-8", errors="replace") as lines:
                while line := lines.readline(4096):
                    self._errors.append(line.rstrip())
                    if left > 0:
                        left -= len(line)
                        with suppress(OSError):
                            sys.stderr.write(line if left > 0 else "[more of this server is left out]\n")
                            sys.stderr.flush()

        threading.Thread(target=read, daemon=True).start()
        return os.fdopen(writing, "w")

    def _reason(self, error: BaseException) -> str:
        """Why the server cannot be used, in one sentence."""
        inner = next(_leaves(error))
        if isinstance(inner, TimeoutError):
            return f"it did not answer within {LIST_SECONDS:g} s"
        if isinstance(inner, ValidationError):  # of the SDK's models of the protocol
            first = inner.errors()[0]
            return f"it breaks the protocol at {'.'.join(map(str, first['loc']))}: {first['msg']}"
        if self._status in (401, 403):
            return f"the server asks for a key, which belongs in `headers` (HTTP status {self._status})"
        if self._status:
            return f"the server refused with HTTP status {self._status}"
        is_end = isinstance(inner, MCPError) and inner.code == types.CONNECTION_CLOSED
        words = "the server ended" if is_end else reason_text(inner) if str(inner) else type(inner).__name__
        time.sleep(0.05)  # what the server wrote before it ended may still be in the pipe
        last = next((line for line in reversed(self._errors) if line.strip()), "")
        return f"{words}: {last[:300]}" if last else words


def _needs_task(tool: types.Tool) -> bool:
    """Whether a function can only be called in a way that is not offered here: in the background, asked again later."""
    return tool.execution is not None and tool.execution.task_support == "required"


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, those that the others came of first."""
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _leaves(each)
    else:
        yield error


def _texts(result: types.CallToolResult) -> Iterator[str]:
    """The parts of a result as text; pictures and sounds are named only."""
    for part in result.content:
        if isinstance(part, types.TextContent):
            yield part.text
        elif isinstance(part, (types.ImageContent, types.AudioContent)):
            yield f"[{part.mime_type}, {size_text(len(part.data) * 3 // 4)}, not shown]"
        elif isinstance(part, types.ResourceLink):
            yield f"[{part.name}: {part.uri}]"
        elif isinstance(part.resource, types.TextResourceContents):
            yield part.resource.text
        else:
            yield f"[{part.resource.uri}, binary, not shown]"
    if not result.content and result.structured_content is not None:
        yield json_text(result.structured_content)


def _information() -> types.Implementation:
    from chat import __version__

    return types.Implementation(name="mistral-chat", version=__version__)


_OUTPUT = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="replace")


def send(message: dict[str, Any]) -> None:
    """Write a message to the program."""
    _OUTPUT.write(json_text(message) + "\n")
    _OUTPUT.flush()


def end() -> None:
    """End now, with the server and all that it started."""
    platform.kill_group(os.getpid())
    os._exit(1)


def _watch_memory() -> None:
    while True:
        if (platform.most_memory_used() or 0) > MOST_MEMORY_BYTES:
            send({"end": "the server sends more than fits in memory"})
            end()
        time.sleep(_WATCH_SECONDS)


async def _serve(lines: BinaryIO) -> None:
    commands: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    settings = json.loads(await asyncio.to_thread(lines.readline) or b"{}")

    def read() -> None:
        for line in lines:
            loop.call_soon_threadsafe(commands.put_nowait, json.loads(line))
        threading.Timer(END_SECONDS, end).start()
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(commands.put_nowait, None)

    threading.Thread(target=read, daemon=True).start()
    if settings:
        await _Host(settings).run(commands)


def _loop() -> asyncio.AbstractEventLoop:
    """A loop whose processes stay in our group, where the SDK gives each one of its own.

    So the server ends with us however we end, also where it ignores that its stdin is closed.
    """
    loop = asyncio.new_event_loop()
    start = loop.subprocess_exec

    def start_in_group(*arguments: Any, **options: Any) -> Any:
        return start(*arguments, **options | {"start_new_session": False})

    loop.subprocess_exec = start_in_group  # type: ignore[method-assign]
    return loop


def main() -> None:
    """Serve until stdin ends."""
    lines, _ = take_streams()
    threading.Thread(target=_watch_memory, daemon=True).start()
    try:
        with asyncio.Runner(loop_factory=_loop) as runner:
            runner.run(_serve(lines))
    finally:
        end()


if __name__ == "__main__":
    main()
