"""Leave the trial run of each written file out of hundreds of conversions."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def untried(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Write files without trying them out, but in tests marked `usefixtures("tried_out")`."""
    if "tried_out" not in request.fixturenames:
        monkeypatch.setattr("convert.pipeline.try_out", lambda _path: None)
        monkeypatch.setattr("convert.pipeline.try_out_encoder", lambda _path, _keys: None)


@pytest.fixture
def tried_out() -> None:
    """Have the engine decode a token of every file."""
