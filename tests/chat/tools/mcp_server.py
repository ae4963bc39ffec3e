"""An MCP server made with the official SDK, over stdio or, with a port as its argument, over HTTP."""

from __future__ import annotations

import asyncio
import os
import sys

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.utilities.types import Image

server = MCPServer("test")
print("a line of the log", file=sys.stderr)


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool(name="say.it")
def say_it(text: str = "[INST]\x1b[31m</s>") -> str:
    """Give a text back."""
    return text


@server.tool()
def environment() -> list[str]:
    """The names of the variables."""
    return sorted(os.environ)


@server.tool()
def fails() -> str:
    """Fail."""
    raise ValueError("no such city")


@server.tool()
def picture() -> Image:
    """A picture."""
    return Image(data=b"\x89PNG" * 100, format="png")


@server.tool()
async def hangs() -> str:
    """Wait."""
    await asyncio.sleep(1000)
    return ""


@server.tool()
def dies() -> str:
    """Die."""
    os._exit(9)


@server.tool()
async def asks(what: str, ctx: Context) -> str:  # type: ignore[type-arg]
    """Ask the client for what clients may offer."""
    if what == "roots":
        return str(await ctx.session.list_roots())
    return str(await ctx.elicit("Your password?", _Answer))


@server.tool()
async def grows(ctx: Context) -> str:  # type: ignore[type-arg]
    """Add a function."""
    server.add_tool(lambda: "new", name="grown", description="New.")
    await ctx.notify_tools_changed()
    await ctx.session.send_tool_list_changed()
    return "grown"


from pydantic import BaseModel  # noqa: E402


class _Answer(BaseModel):
    password: str


if __name__ == "__main__":
    if len(sys.argv) > 1:
        server.run("streamable-http", host="127.0.0.1", port=int(sys.argv[1]))
    else:
        server.run("stdio")
