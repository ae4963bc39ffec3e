"""What is stored with an answer besides its text: the model, the sampling, the counts and the times."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.core.events import Seconds, TokenCounts

if TYPE_CHECKING:
    from collections.abc import Mapping

    from chat.core.backend import ModelInfo
    from chat.core.events import Completion


@dataclass(frozen=True)
class AnswerDetails:
    """How an answer came about. A value that is not known is empty or 0.

    Attributes:
        model: the stem of the model's file, or the name that a server reports.
        server: the host of a server, with its port unless that is the usual one; empty for a model on this machine.
        type: the type of most tensors, e.g. Q4_K_M.
        sampling: every sampling value in force, the seed included.
        tokens: numbers of tokens.
        seconds: wall times.
        finished: when the answer ended, in seconds since 1970.
    """

    model: str = ""
    server: str = ""
    type: str = ""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    tokens: TokenCounts = field(default_factory=TokenCounts)
    seconds: Seconds = field(default_factory=Seconds)
    finished: float = 0.0

    @property
    def source(self) -> str:
        """The model with its server, as exports name it; empty if it is not known."""
        return f"{self.model} on {self.server}" if self.model and self.server else self.model or self.server

    def continued(self, earlier: AnswerDetails | None) -> AnswerDetails:
        """The details of an answer of which `earlier` generated the first part: what was generated is added up."""
        if earlier is None:
            return self
        tokens = {name: getattr(earlier.tokens, name) + value for name, value in asdict(self.tokens).items()}
        prompt = self.tokens if self.tokens.are_known else earlier.tokens  # that of the last part
        seconds = {name: getattr(earlier.seconds, name) + value for name, value in asdict(self.seconds).items()}
        return replace(
            self,
            sampling=self.sampling or earlier.sampling,
            tokens=TokenCounts(**{**tokens, "prompt": prompt.prompt, "cached": prompt.cached}),
            seconds=Seconds(**seconds),
        )

    def to_json(self) -> dict[str, Any]:
        """The details as a JSON object without empty fields."""
        plain = {
            "model": self.model,
            "server": self.server,
            "type": self.type,
            "sampling": dict(self.sampling),
            "tokens": asdict(self.tokens) if self.tokens.are_known or self.tokens.generated else {},
            "seconds": asdict(self.seconds) if self.seconds != Seconds() else {},
            "finished": self.finished,
        }
        return {name: value for name, value in plain.items() if value}

    @classmethod
    def from_json(cls, plain: object) -> AnswerDetails:
        """The inverse of `to_json`; fields of a newer version are left out.

        Raises:
            ValueError: a field has a value of another kind; the text names it.
        """
        if not isinstance(plain, dict):
            raise ValueError("not an object")
        for name, kinds, words in (
            ("model", str, "a text"),
            ("server", str, "a text"),
            ("type", str, "a text"),
            ("sampling", dict, "an object"),
            ("tokens", dict, "an object"),
            ("seconds", dict, "an object"),
        ):
            if not isinstance(plain.get(name, kinds()), kinds):
                raise ValueError(f"{name} is not {words}")
        return cls(
            **{name: plain[name] for name in ("model", "server", "type", "sampling") if name in plain},
            tokens=TokenCounts(**_numbers(plain.get("tokens", {}), TokenCounts, int)),
            seconds=Seconds(**_numbers(plain.get("seconds", {}), Seconds, float)),
            finished=_number("finished", plain.get("finished", 0.0), float),
        )


def details_of(info: ModelInfo | None, completion: Completion | None, finished: float) -> AnswerDetails:
    """The details of an answer.

    Args:
        info: the model; None if it is not known.
        completion: the last event of the answer; None if it was cut off before.
        finished: when it ended, in seconds since 1970.
    """
    path, server = (info.path, info.server) if info else ("", "")
    name = (completion.model if completion else "") or (info.name if info else "")
    if name.startswith("/"):  # some servers report a file of theirs
        name = Path(name).name
    details = AnswerDetails(
        model=name if server or not path else Path(path).stem,
        server=server,
        type=info.type if info else "",
        finished=finished,
    )
    if completion is None:
        return details
    return replace(details, sampling=completion.sampling, tokens=completion.tokens, seconds=completion.seconds)


def _numbers(plain: Mapping[str, object], kind: type, number: type) -> dict[str, Any]:
    known = {each.name for each in fields(kind)}
    return {name: _number(name, value, number) for name, value in plain.items() if name in known}


def _number(name: str, value: object, kind: type) -> Any:
    """A number that is finite and not negative."""
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not 0 <= value < 2**63:
        raise ValueError(f"{name} is not a number from 0 on")
    return kind(value)
