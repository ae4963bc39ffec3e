"""LiteLLM's proxy in front of a server, and vLLM on the processor."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import run
from tests.remote.servers import Server, litellm

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def key() -> str:
    return f"sk-{secrets.token_hex(32)}"


@pytest.fixture(scope="module")
def proxy(
    servers_folder: Path, python_server: Server, key: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if not (servers_folder / "litellm").is_dir():
        pytest.skip("needs LiteLLM in the folder of --servers: see servers.py")
    model = python_server.get("/v1/models")["data"][0]["id"]
    with litellm(servers_folder, python_server, model, tmp_path_factory.mktemp("litellm") / "log", key) as server:
        yield server


def test_a_proxy_with_a_key_answers_single_prompts_and_batches(
    proxy: Server, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("--remote", proxy.url, "--temperature", 0, "-n", 8)
    assert run(*asked, "hello").returncode != 0  # without the key
    monkeypatch.setenv("MISTRAL_CHAT_REMOTE_KEY", key)
    answer = json.loads(run(*asked, "--json", "hello").stdout)
    assert (answer["model"]["name"], answer["text"] != "") == ("proxied", True)
    batch = tmp_path / "batch.jsonl"
    batch.write_text('"hello"\n' * 9)
    done = run(*asked, "--parallel", 1, "--batch", batch)  # what is behind breaks an answer off for the next request
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each for each in results if "error" in each] == []
    assert (done.returncode, done.stderr, [each["id"] for each in results]) == (0, b"", list(range(1, 10)))
    assert {each["text"] for each in results} == {answer["text"]}
    assert key not in done.stdout.decode() + json.dumps(answer)
