"""Reuse what a context, a snapshot in memory or a state file already holds of a prompt, and save it for later."""

from __future__ import annotations

import hashlib
from array import array
from typing import TYPE_CHECKING

from chat.core.token_ids import common_prefix
from chat.llama.kv_snapshots import Snapshot, Snapshots, reusable_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from chat.inference.kv_state_files import KvStateStore
    from chat.llama.context import LlamaContext

STATE_TOKENS = 128  # fewer are read faster than a state file is looked up
LONG_PROMPT_TOKENS = 1024  # without a session, a prompt worth a state file: a document that may be asked about again


class PromptCache:
    """The cached ids of one context and the saved states that it can continue from.

    Attributes:
        session: the id of the session whose turns the context holds; None outside of a session.
        prompt: the ids of the prompt that was read last.
        stable_length: how many of them the prompt of the session's next turn begins with.
        restored_from: the key of the state file that the cached ids come from.
    """

    def __init__(self, context: LlamaContext, snapshots: Snapshots, store: KvStateStore | None = None) -> None:
        self.context = context
        self.snapshots = snapshots
        self.store = store
        self.session: str | None = None
        self.prompt: tuple[int, ...] = ()
        self.stable_length = 0
        self.restored_from: str | None = None
        self._end = 0  # the position that this turn may reach

    def reuse(self, prompt: Sequence[int], limit: int = 0) -> int:
        """Let the context hold as much of the prompt as it or a saved state has, without the prompt's last id.

        Args:
            prompt: all ids of the prompt.
            limit: how many ids the answer may have.

        Returns:
            How many ids of the prompt need not be read.
        """
        context = self.context
        shared = min(common_prefix(context.ids, prompt), len(prompt) - 1)
        if context.ids and shared == 0:
            self.restored_from = None
        cached = shared if context.can_rewind(shared) else 0
        snapshot, in_memory = self.snapshots.best(prompt, context.window)
        if snapshot is not None and in_memory > cached and context.restore(snapshot):
            cached = in_memory
        if self.store is not None and len(prompt) - cached > STATE_TOKENS:
            cached = self._restore_from_file(self.store, prompt, cached)
        cached = context.rewind(cached)
        self._end = len(prompt) + limit
        self.keep_snapshot()
        return cached

    def start_turn(self, prompt: tuple[int, ...], limit: int, stable_length: int, session: str | None) -> int:
        """Note whose prompt is read now, for `save_current`, and reuse what is cached of it.

        Args:
            prompt: all ids of the prompt.
            limit: how many ids the answer may have.
            stable_length: how many ids of the prompt the session's next turn begins with.
            session: the session's id.

        Returns:
            How many ids of the prompt need not be read.
        """
        self.session, self.prompt, self.stable_length = session, prompt, stable_length
        return self.reuse(prompt, limit)

    def _restore_from_file(self, store: KvStateStore, prompt: Sequence[int], cached: int) -> int:
        header, on_disk = store.best(prompt, self.context.window)
        if header is None or on_disk <= cached + STATE_TOKENS:
            return cached
        saved = store.load(header)
        if saved is None or not self.context.restore(saved):
            return cached
        self.restored_from = header.key
        return on_disk

    def keep_snapshot(self, complete_tokens: int | None = None) -> None:
        """Keep a snapshot of the context if the window may drop its cells before the turn ends.

        Undo, edit and retry come back here: to the start of a turn, or of its answer.

        Args:
            complete_tokens: the length up to which no cell is dropped; by default that of the context itself.
        """
        context = self.context
        if context.position == 0 or self._end <= (context.held if complete_tokens is None else complete_tokens):
            return
        if self.snapshots.has_room(context.state_bytes) and not self.snapshots.holds(context.ids):
            self.snapshots.keep(context.snapshot())

    def save_current(self, advance: Callable[[], None] = lambda: None) -> None:
        """Write a state file for the session's next turn, or for other questions about the same long prompt.

        Args:
            advance: is called after each piece.
        """
        if self.session is not None:
            changes = self.stable_length < len(self.prompt)
            self.save(self.session, self.prompt[: self.stable_length + 1] if changes else (), advance)
        elif len(self.prompt) >= LONG_PROMPT_TOKENS:
            start = array("i", self.prompt[:LONG_PROMPT_TOKENS]).tobytes()
            shared = max(len(self.prompt) - self.context.settings.batch // 2, 1)  # see `chunk_bounds`
            key = self.restored_from or f"prompt {hashlib.sha256(start).hexdigest()}"
            self.save(key, self.prompt[: shared + 1], advance)

    def save(self, key: str, prefix: Sequence[int] = (), advance: Callable[[], None] = lambda: None) -> bool:
        """Write a state file, if there is a folder for it and the cache is worth saving.

        Args:
            key: the name of the state.
            prefix: the start of a prompt; a snapshot that holds more of it than the context is saved instead.
            advance: is called after each piece.

        Returns:
            Whether it was written.
        """
        context = self.context
        if self.store is None or context.position < STATE_TOKENS:
            return False
        kept: Snapshot | None = None
        if prefix and context.window is not None:
            kept, reusable = self.snapshots.best(prefix, context.window)
            if reusable <= reusable_prefix(context.ids, context.snapshot_start(), prefix, context.window):
                kept = None
        return self.store.save(key, kept or context.snapshot(), advance) is not None
