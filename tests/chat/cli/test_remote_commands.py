"""`models list --remote`, `doctor --remote` and the completion of servers and their models."""

from __future__ import annotations

import json
from typing import Any

import pytest

from chat.cli.main import run
from tests.chat.remote.stub_server import Reply, Script, serving, words
from tests.environments import FakeEnvironment, pipes


def called(arguments: list[str], code: int = 0) -> FakeEnvironment:
    environment = pipes()
    assert run(arguments, environment) == code, environment.err
    return environment


@pytest.fixture
def lab() -> Any:
    with serving(Script([Reply(chunks=words("Hel", "lo"))], models=["small", "large"])) as script:
        file = pipes().config_file
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'[remote.lab]\nurl = "{script.url}"\nmodel = "small"\n')
        yield script


def test_a_servers_models_are_listed(lab: Script) -> None:
    assert called(["models", "list", "--remote", "lab"]).out == "small\nlarge\n"
    assert called(["models", "list", "--remote"]).out == "small\nlarge\n"
    plain = json.loads(called(["models", "list", "--remote", lab.url, "--json"]).out)
    assert plain == [{"name": name, "server": f"{lab.url}/v1"} for name in ("small", "large")]
    assert "no server `lap` in the settings file" in called(["models", "list", "--remote", "lap"], 2).err
    assert "only with `--remote`" in called(["models", "list", "lab"], 2).err


def test_servers_and_their_models_complete(lab: Script) -> None:
    assert called(["completion", "remotes"]).out == "lab\n"
    for line in (["--remote", "lab"], ["--remote=lab"], ["--remote", "=", "lab"], []):
        typed = ["completion", "remote-models", "--", "mistral-chat", *line, "--remote-model", "s"]
        assert called(typed).out == "small\nlarge\n"


def test_completion_is_silent_about_a_server_that_is_not_there() -> None:
    environment = called(["completion", "remote-models", "--", "mistral-chat", "--remote", "http://127.0.0.1:9"])
    assert (environment.out, environment.err) == ("", "")


def test_doctor_tells_what_a_server_obeys(lab: Script) -> None:
    def whole(text: str, **more: Any) -> Reply:
        body = {"choices": [{"message": {"content": text}, **more}]}
        return Reply(body=json.dumps(body).encode(), is_whole=False)

    refused = Reply(400, body=b'{"error": {"message": "no grammar here"}}')
    lab.replies[:] = [
        Reply(chunks=words("Hel", "lo")), whole('{"zq7": 7}'), refused, whole("hello"),
        whole("a", logprobs={"content": [{"token": "a", "logprob": -1}]}), whole("hello"), whole("same"), whole("same"),
    ]  # fmt: skip
    plain = json.loads(called(["doctor", "--remote", "lab", "--json"]).out)
    found = {each["check"]: (each["state"], each["words"]) for each in plain["findings"]}
    assert found["models"] == ("ok", "small, large")
    assert found["model"] == ("ok", "small")
    assert found["streaming"][0] == "ok"
    assert found["schema"] == ("ok", "obeyed")
    assert found["grammar"][0] == "note"
    assert "no grammar here" in found["grammar"][1]
    assert found["regex"] == ("note", "accepted, but without effect")
    assert found["logprobs"] == ("ok", "obeyed")
    assert found["tools"] == ("note", "accepted, but without effect")
    assert found["seed"] == ("ok", "obeyed")
    assert plain["problems"] == 0


def test_doctor_says_that_a_server_is_not_there() -> None:
    environment = called(["doctor", "--remote", "http://127.0.0.1:9"], 1)
    assert environment.out.startswith("problem  server           ")
