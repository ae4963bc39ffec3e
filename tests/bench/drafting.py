"""What looking ahead wins where an answer repeats what was said, and loses where it cannot help, in one run.

    python tests/bench/drafting.py MODEL.gguf [--rounds 3] [--tokens 96] [--threads N] [--case NAME]...

One engine answers the same requests in turns with `--draft lookup` and with `--draft off` (of two processes on the same
file one may well be some hundredths slower than the other, for good); the ids are compared. Of each case the first
answer is told by itself: what a draft costs and how often guesses come is learned there, after the case before it.
`repeats` is bound to one line break after another, for random weights fall into loops late; `new` is drawn hot, so that
nothing comes twice; `misleads` are random zeros and ones: four of them were always said before, and nobody can tell
what follows.
"""

from __future__ import annotations

import argparse
from statistics import median

from chat.core.events import Completion
from chat.core.request import Constraint, EngineOptions, Prompt, Request, Sampling
from chat.inference.loaded_model import LoadedModel, load_model
from chat.inference.response import reply
from chat.inference.speculative import Drafter

PROMPT = Prompt(text="one two three " * 8)
HOT = Sampling(temperature=2.0, top_p=1.0, top_k=0, min_p=0.0, seed=5)
CASES = {
    "repeats": Request(PROMPT, Sampling(temperature=0), constraint=Constraint("regex", "\\n{400}")),
    "new": Request(PROMPT, HOT),
    "misleads": Request(PROMPT, HOT, constraint=Constraint("regex", "([01] ){400}")),
}


def answer(room: LoadedModel, request: Request, drafter: Drafter | None) -> Completion:
    """The end of one reply, which looks ahead if there is a drafter."""
    room.generator.drafter = drafter
    last = list(reply(room, request))[-1]
    assert isinstance(last, Completion)
    return last


def speed(done: Completion) -> float:
    """Tokens a second after the first one, which reading the prompt has made."""
    return (done.tokens.generated - 1) / done.seconds.generate


def main() -> None:
    """Print each case with its median ratio, the rounds' range, and whether the ids are equal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--case", action="append", choices=CASES)
    given = parser.parse_args()
    room = load_model(EngineOptions(given.model, draft="lookup", threads=given.threads))
    drafter = room.generator.drafter
    print(f"lookup is {room.info.details['draft']}; {room.info.details['threads']} threads")
    for name in given.case or CASES:
        case = CASES[name]
        request = Request(case.prompt, case.sampling, given.tokens, constraint=case.constraint)
        runs = [(answer(room, request, drafter), answer(room, request, None)) for _ in range(given.rounds + 1)]
        first, *ratios = (speed(one) / speed(other) for one, other in runs)
        drafts = runs[-1][0].tokens
        same = all(one.ids == other.ids for one, other in runs)
        print(
            f"{name:10} {median(speed(one) for one, _ in runs):8.2f} tokens/s, without drafts "
            f"{median(speed(other) for _, other in runs):8.2f}, ratio {median(ratios):.3f} "
            f"({min(ratios):.3f} to {max(ratios):.3f}), the first {first:.3f}; "
            f"{drafts.accepted} of {drafts.drafted} drafted ids came; "
            f"ids {'the same' if same else 'DIFFERENT'}",
            flush=True,
        )
    room.close()


if __name__ == "__main__":
    main()
