"""The lists of models that `/model` and its completion offer: those of a server, and those on this machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from chat.app.remotes import server_models
from chat.errors import ChatError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.app.remotes import RemoteOptions
    from chat.models.inventory import LocalModel

SERVER_SECONDS = 1.0  # for a server to list its models, while the user types
HEADER_SECONDS = 0.2  # for reading what models are, while the user types; what was read is known the next time
RETRY_SECONDS = 10.0  # until a server that did not list its models is asked again, while the user types
KEPT_SECONDS = 3.0  # that a list of this machine's models is used
_ALWAYS = float("-inf")


class ModelLists:
    """Lists of models. Those for completion are kept for a while, because every key asks for them."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Begin without any list.

        Args:
            now: gives the time in seconds.
        """
        self._now = now
        self._of_servers: dict[RemoteOptions, tuple[str, ...]] = {}
        self._retry_times: dict[RemoteOptions, float] = {}
        self._local: Sequence[LocalModel] = ()
        self._local_until = _ALWAYS

    def ask_server(self, options: RemoteOptions) -> tuple[str, ...]:
        """The models that a server lists now.

        Raises:
            ChatError: it cannot be reached, lists none, or takes too long.
        """
        names = self._of_servers[options] = server_models(options)
        return names

    def completed_of_server(self, options: RemoteOptions) -> tuple[str, ...]:
        """The models that a server listed last, for completion; empty if it does not list them at once."""
        known = self._of_servers.get(options)
        if known is None and self._now() >= self._retry_times.get(options, _ALWAYS):
            try:
                known = self._of_servers[options] = server_models(options, SERVER_SECONDS)
            except ChatError:
                self._retry_times[options] = self._now() + RETRY_SECONDS
        return known or ()

    def completed_here(self) -> Sequence[LocalModel]:
        """The models on this machine, for completion."""
        if self._now() >= self._local_until:
            from chat.models.inventory import usable_models  # with all of the hub: too slow for each start

            self._local = usable_models(HEADER_SECONDS)
            self._local_until = self._now() + KEPT_SECONDS
        return self._local
