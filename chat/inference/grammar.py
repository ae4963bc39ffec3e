"""Keep an answer within a grammar: which ids may come next. Knows bytes of pieces, not what they mean."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chat.errors import EngineError
from chat.inference.grammar_sandbox import checked_grammar

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chat.core.request import Constraint
    from chat.llama.tokenizer.tokenizer import Tokenizer


class GrammarCompiler:
    """Compiles constraints for one vocabulary; the table of its pieces is made once."""

    def __init__(self, vocabulary: Tokenizer) -> None:
        self._vocabulary = vocabulary
        self._checked = functools.lru_cache(maxsize=32)(checked_grammar)

    def guide(self, constraint: Constraint, *, continues: bool = False) -> GrammarMask:
        """Something that guides one answer.

        Args:
            continues: the answer goes on with a text, so no space stands before it.

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

        class Table:
            """The pieces as llguidance wants them; control pieces begin with a byte that no text has."""

            eos_token_id = min(vocabulary.ends)
            bos_token_id = vocabulary.bos
            tokens = tuple(vocabulary.piece_bytes(at) or b"\xff[%d]" % at for at in range(vocabulary.size))
            special_token_ids = tuple(at for at in range(vocabulary.size) if not vocabulary.piece_bytes(at))

            def __call__(self, text: bytes) -> list[int]:
                return []  # nothing is forced, so nothing is encoded

        return LLTokenizer(TokenizerWrapper(Table()), n_vocab=vocabulary.size, eos_token=sorted(vocabulary.ends))

    @functools.cached_property
    def _textual(self) -> NDArray[np.bool_]:
        """Ids that a constrained answer may hold: those with a text, and the ends; (vocabulary,)."""
        import numpy as np

        vocabulary = self._vocabulary
        ids = range(vocabulary.size)
        return np.array([bool(vocabulary.piece_bytes(at)) or vocabulary.is_end(at) for at in ids])


class GrammarMask:
    """The state of one constrained answer."""

    def __init__(self, matcher: Any, textual: NDArray[np.bool_]) -> None:
        self._matcher = matcher
        self._textual = textual

    def mask(self, logits: NDArray[np.float32]) -> None:
        """Make every id that may not come next impossible, in place.

        Raises:
            EngineError: nothing may come next, or finding out takes more than the library's limits.
        """
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        allowed = np.unpackbits(bits, count=len(logits), bitorder="little").view(np.bool_) & self._textual
        if self._matcher.is_error() or not allowed.any():
            raise EngineError(f"the constraint came to a dead end: {self._reason()}")
        logits[~allowed] = -np.inf

    def consume(self, token: int) -> None:
        """Note what came."""
        if not self._matcher.consume_token(token):
            raise EngineError(f"the constraint refused what it had allowed: {self._reason()}")

    def is_complete(self) -> bool:
        """Whether nothing more can come."""
        return bool(self._matcher.is_stopped())

    def _reason(self) -> str:
        return " ".join(str(self._matcher.get_error()).split("<state>")[0].split())[:200] or "no token fits"
