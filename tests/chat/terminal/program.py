"""The session with a scripted engine as a program of its own: `python program.py '{"scripts": [...]}' [FLAGS]`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from scripted import Scripted  # noqa: E402

from chat.layers import layer  # noqa: E402


def main() -> int:
    script: dict[str, Any] = json.loads(sys.argv[1])
    flags: dict[str, Any] = script.pop("flags", {})
    from chat.terminal.session import run_session

    engine = Scripted(**script)
    return run_session(lambda options: engine, layer({"model": sys.executable, **flags}, {}, None))


if __name__ == "__main__":
    from chat.ground.errors import ChatError

    try:
        sys.exit(main())
    except ChatError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(error.exit_code)
