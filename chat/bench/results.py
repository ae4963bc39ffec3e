"""The results of a benchmark, as values that can be sent between processes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Subject:
    """What was measured, and how it was loaded."""

    path: str
    type: str
    architecture: str
    window: int | None
    build: str
    threads: int
    batch: int
    kv_type: str
    gpu_layers: int
    repack: bool
    load_seconds: float


@dataclass(frozen=True)
class Beside:
    """Our engine and a bare C loop on the same file, taken in turns; the best of each."""

    prompt_tokens: int
    tokens: int
    rounds: int
    read: float  # tokens a second, as all speeds here
    bare_read: float
    decode: float
    bare_decode: float
    python_ms: float  # a token, of everything that is not llama.cpp

    @property
    def read_ratio(self) -> float:
        """Our reading speed as a part of the bare loop's."""
        return self.read / self.bare_read

    @property
    def decode_ratio(self) -> float:
        """Our decoding speed as a part of the bare loop's."""
        return self.decode / self.bare_decode


@dataclass(frozen=True)
class Point:
    """Speed and memory where the cache holds this many tokens; bytes are None if the system does not report them."""

    context: int
    read: float
    decode: float
    resident_bytes: int | None
    private_bytes: int | None


@dataclass(frozen=True)
class Resume:
    """Seconds to load a saved state from the disk, and to read the same tokens again; both up to the first logits."""

    tokens: int
    state_bytes: int
    seconds: float
    reading_seconds: float


@dataclass(frozen=True)
class RowTimes:
    """One batch of several tokens."""

    rows: int
    seconds: float

    @property
    def speed(self) -> float:
        """Tokens a second."""
        return self.rows / self.seconds


@dataclass(frozen=True)
class DraftGain:
    """How many times as fast an answer is made with drafts as without; None if they are off."""

    reason: str
    repeating: float | None  # an answer that repeats earlier text
    unforeseen: float | None  # an answer that does not


@dataclass(frozen=True)
class BenchReport:
    """The whole report; `resume` is None if the contexts are too short for a saved state."""

    subject: Subject
    beside: Beside
    points: tuple[Point, ...]
    resume: Resume | None
    batches: tuple[RowTimes, ...]
    ahead: DraftGain
    busy_share: float | None = None  # of the processors' time that other programs took, before or after it

    @property
    def sweet_spot(self) -> int:
        """The batch that makes most tokens a second."""
        return max(self.batches, key=lambda each: each.speed).rows
