"""What differs between Linux, macOS and Windows: one function for each need, with an implementation for each system.

mypy checks the program for all three; `posix` is for Linux and macOS. `windows` was run under Wine, not yet on Windows.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    from chat.platform.windows import *  # noqa: F403
else:
    from chat.platform.posix import *  # noqa: F403
