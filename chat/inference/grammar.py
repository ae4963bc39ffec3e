"""Keep an answer within a grammar: mask the ids that may not come next, with llguidance."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError
from chat.inference.grammar_sandbox import TOO_COMPLEX, checked_grammar, reason

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Constraint
    from chat.llama.tokenizer.tokenizer import Tokenizer

CACHED_GRAMMARS = 32


class GrammarCompiler:
    """Compiles constraints for one vocabulary, whose pieces llguidance gets once."""

    def __init__(self, vocabulary: Tokenizer) -> None:
        self._vocabulary = vocabulary
        self._checked = functools.lru_cache(maxsize=CACHED_GRAMMARS)(checked_grammar)

    def mask(self, constraint: Constraint, *, continues: bool = False) -> GrammarMask:
        """A mask for one answer.

        Args:
            constraint: what the answer must match.
            continues: the answer continues a text, so no space comes before it.

        Raises:
            UsageError: the constraint does not compile within its limits.
        """
        from llguidance import LLMatcher

        grammar = self._checked(constraint, self._vocabulary.adds_space and not continues)
        matcher = LLMatcher(self._tokenizer, grammar, log_level=0)
        return GrammarMask(matcher, self._textual)

    @functools.cached_property
    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer, TokenizerWrapper

        vocabulary = self._vocabulary

        class Pieces:
            """The interface that llguidance expects; control pieces begin with a byte that no text has."""

            eos_token_id = min(vocabulary.ends)
            bos_token_id = vocabulary.bos
            tokens = tuple(vocabulary.piece_bytes(token) or b"\xff[%d]" % token for token in range(vocabulary.size))
            special_token_ids = tuple(token for token in range(vocabulary.size) if not vocabulary.piece_bytes(token))

            def __call__(self, text: bytes) -> list[int]:
                return []  # no text is forced, so none is encoded

        return LLTokenizer(TokenizerWrapper(Pieces()), n_vocab=vocabulary.size, eos_token=sorted(vocabulary.ends))

    @functools.cached_property
    def _textual(self) -> NDArray[np.bool_]:
        """(vocabulary,) bool: the ids that a constrained answer may hold, which are those with a text and the ends."""
        import numpy as np

        vocabulary = self._vocabulary
        ids = range(vocabulary.size)
        return np.array([bool(vocabulary.piece_bytes(token)) or vocabulary.is_end(token) for token in ids])


class GrammarMask:
    """The state of one constrained answer."""

    def __init__(self, matcher: Any, textual: NDArray[np.bool_]) -> None:
        """Start an answer.

        Args:
            matcher: llguidance's, of one grammar.
            textual: (vocabulary,) bool, the ids that an answer may hold at all.
        """
        self._matcher = matcher
        self._textual = textual

    def apply(self, logits: NDArray[np.float32]) -> None:
        """Make every id that may not come next impossible.

        Args:
            logits: (vocabulary,) float32, changed in place.

        Raises:
            EngineError: no id may come next, or finding them exceeds the library's limits.
        """
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)  # (vocabulary / 8,) rounded up
        allowed = np.unpackbits(bits, count=len(logits), bitorder="little").view(np.bool_) & self._textual
        if self._matcher.is_error() or not allowed.any():
            raise EngineError(f"the constraint reached a dead end: {self._reason()}")
        logits[~allowed] = -np.inf

    def consume(self, token: int) -> None:
        """Advance by the id that was drawn.

        Raises:
            EngineError: the library refuses an id that it had allowed.
        """
        if not self._matcher.consume_token(token):
            raise EngineError(f"the constraint refused what it had allowed: {self._reason()}")

    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        return bool(self._matcher.is_stopped())

    def _reason(self) -> str:
        words = reason(str(self._matcher.get_error() or ""))
        return "it is too complex" if words == TOO_COMPLEX else words or "no token fits"
