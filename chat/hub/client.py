"""Send requests to the hub, and turn its answers and network errors into one sentence each.

Exit codes: 3 where the repository, revision or file is missing, gated or forbidden (asking again will not help);
7 where the network or the hub fails (it may); 6 where what arrives is not what was promised.
The token is read by the library, from HF_TOKEN or its own file, and goes into one header; nothing here keeps it.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from chat.errors import ChatError, FileError, ModelError, UsageError, reason_text
from chat.system.network import require_network

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

OFFICIAL = "https://huggingface.co"
_TRIES = 5
_MOST_INTERRUPTIONS = 500  # of one file, whatever arrived between them
_LONGEST_WAIT_SECONDS = 300
_BUSY = (408, 429, 500, 502, 503, 504)
_RESET = re.compile(r"r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})")  # of the header `ratelimit: "api";r=0;t=55`
_CHECK_NETWORK = "check the network and try again; `mistral-chat models list` shows what is already here"
_ADDRESS = re.compile(
    r"https?://(?:[^\s/?#@\[\]]*@)?(?:[\w.-]+|\[[0-9a-f:]+\])(?::\d{1,5})?(?:/[^\s?#]*)?", re.IGNORECASE
)
_Result = TypeVar("_Result")


class BrokenOffError(Exception):
    """The connection ended before the answer did; another try may help. Used inside this package only."""

    def __init__(self, reason: str, *, progressed: bool = False) -> None:
        super().__init__(reason)
        self.progressed = progressed  # whether new bytes had arrived, so that the count of tries restarts


class BusyError(Exception):
    """The hub asks to come back after `seconds`, or does not say when. Used inside this package only."""

    def __init__(self, seconds: int | None, final: ChatError) -> None:
        super().__init__(final.message)
        self.seconds = seconds
        self.final = final


def endpoint() -> str:
    """The hub's address: HF_ENDPOINT, else the official one.

    Raises:
        UsageError: it is no web address.
    """
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/") or OFFICIAL
    if not _ADDRESS.fullmatch(address):
        raise UsageError(f"HF_ENDPOINT is not a web address: {address.rpartition('@')[2]}", hint=f"such as {OFFICIAL}")
    return address


def pause(seconds: float) -> None:
    """Wait. Tests replace this function."""
    time.sleep(seconds)


@contextmanager
def answer(
    url: str, repository: str, revision: str | None = None, *, start: int = 0, stop: int | None = None
) -> Iterator[Any]:
    """Send a GET and yield the library's response when its head has arrived: success, or `start` is behind the end.

    Args:
        start: byte from which on the content is wanted.
        stop: byte before which it may end; a hub without ranges sends the whole content.

    Raises:
        ChatError: the hub refuses.
        BrokenOffError: there is no connection, or it broke, also while the block reads.
        BusyError: the hub asks to come back later.
    """
    require_network(f"asking the hub for {repository}")
    from huggingface_hub import constants

    session = _library().get_session()
    session.cookies.clear()  # a cookie that cannot be sent back would spoil all later requests
    last = "" if stop is None else stop - 1
    headers = _headers() | ({"Range": f"bytes={start}-{last}"} if start or stop is not None else {})
    with (
        _network_errors_converted(session, repository),
        session.stream("GET", url, headers=headers, timeout=constants.HF_HUB_DOWNLOAD_TIMEOUT) as response,
    ):
        if response.status_code not in (200, 206) and not (start and response.status_code == 416):
            raise _refusal(response, repository, revision)
        yield response


@contextmanager
def _network_errors_converted(session: Any, repository: str) -> Iterator[None]:
    """Turn errors of the network library into ours."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    network = import_module(type(session).__module__.partition(".")[0])  # httpx or httpx2, by the library's version
    try:
        yield
    except network.TooManyRedirects as error:
        hint = f"is {_host()} a hub? HF_ENDPOINT names the hub"
        raise FileError(f"the hub redirects requests for {repository} in a loop", hint=hint) from error
    except network.TimeoutException as error:
        raise BrokenOffError("it does not answer") from error
    except network.RequestError as error:
        raise BrokenOffError(reason_text(error)) from error
    except (UnicodeError, network.InvalidURL, network.CookieConflict) as error:  # a redirect that cannot be followed
        raise BrokenOffError("its answer makes no sense") from error
    except OfflineModeIsEnabled as error:
        hint = "`unset HF_HUB_OFFLINE` allows it"
        raise FileError(f"HF_HUB_OFFLINE forbids asking the hub for {repository}", hint=hint) from error


def with_retries(
    attempt: Callable[[], _Result], what: str, say: Callable[[str], None], *, tries: int = _TRIES
) -> _Result:
    """Try again after interruptions, with growing pauses or those that the hub asks for.

    Raises:
        ChatError: what the attempt raises, or a FileError after so many tries without progress, or 500 with some.
    """
    failed = interruptions = 0
    while True:
        failed += 1
        try:
            return attempt()
        except BusyError as busy:
            seconds = 2 ** (failed - 1) if busy.seconds is None else busy.seconds
            if failed == tries or seconds > _LONGEST_WAIT_SECONDS:
                raise busy.final from None
            say(f"{busy.final.message}: waiting {seconds} s for {what}")
        except BrokenOffError as broken:
            failed = 1 if broken.progressed else failed
            interruptions += 1
            if failed >= tries or interruptions >= _MOST_INTERRUPTIONS:
                raise FileError(f"no connection to {_host()} for {what}: {broken}", hint=_CHECK_NETWORK) from broken
            seconds = 2 ** (failed - 1)
            if seconds > 1:
                say(f"no connection for {what} ({broken}): trying again in {seconds} s")
        pause(seconds)


def lock_file(path: Path, *, timeout_seconds: float | None = None) -> AbstractContextManager[Any]:
    """A lock between programs, that of the hub library.

    Raises:
        TimeoutError: on entering, if another program holds it for `timeout_seconds`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock: AbstractContextManager[Any] = _library().WeakFileLock(path, timeout=timeout_seconds)
    return lock


def refuse_web_page(response: Any, name: str) -> None:
    """Raise where HTML comes instead of a file of that name.

    Raises:
        FileError: it does.
    """
    if response.headers.get("content-type", "").startswith("text/html") and not name.endswith((".html", ".htm")):
        raise web_page(name)


def web_page(what: str) -> FileError:
    """The error for HTML where something else was asked for."""
    hint = "a proxy or a login page of the network answers instead: open the address in a browser"
    return FileError(f"{_host()} sent a web page instead of {what}", hint=hint)


def _library() -> Any:
    """The library's tools, which its type hints do not export."""
    return import_module("huggingface_hub.utils")


def _headers() -> dict[str, str]:
    """The headers of every request, the token included.

    Raises:
        UsageError: the token cannot be one; raised here, because the network library would quote it.
    """
    from huggingface_hub import constants, get_token

    # not the library's own headers: making them asks the hub which programs it should tell itself it runs under
    headers = {"user-agent": "mistral-chat", "accept-encoding": "identity"}  # sizes and ranges are of the file itself
    token = None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()
    if token is None:
        return headers
    if not (token.isascii() and token.isprintable()):
        hint = "`hf auth login` stores a new one; HF_TOKEN takes precedence"
        raise UsageError("the hub token contains invalid characters", hint=hint)
    return {**headers, "authorization": f"Bearer {token}"}


def _refusal(response: Any, repository: str, revision: str | None) -> ChatError | BusyError:
    """What a status other than success means; the hub's own codes are in X-Error-Code."""
    status, code = response.status_code, response.headers.get("x-error-code", "")
    page = f"{endpoint()}/{repository}" if "@" not in endpoint() else f"{OFFICIAL}/{repository}"
    has_token = "authorization" in response.request.headers
    if status in _BUSY:
        return _busy(response)
    if code == "GatedRepo":
        login = "use the token of the account that did" if has_token else "log in: `hf auth login`"
        return ModelError(
            f"{repository} is gated: its authors want their terms accepted first",
            hint=f"accept them at {page}, then {login}",
        )
    if code == "RevisionNotFound":
        hint = "leave out `@` and what follows for the newest"
        return ModelError(f"{repository} has no revision {revision}", hint=hint)
    if code == "EntryNotFound":
        return ModelError(f"{repository} does not hold that file", hint=f"see {page}")
    if status == 401 and has_token and code != "RepoNotFound":
        hint = "`hf auth login` stores a new one; HF_TOKEN takes precedence"
        return ModelError("the hub does not accept the token", hint=hint)
    if status in (401, 404):
        login = "" if has_token else "; if it is private: `hf auth login`"
        return ModelError(f"the hub has no repository {repository}, or hides it", hint=f"look at {page}{login}")
    if status == 403:
        return ModelError(f"the hub forbids reading {repository}", hint="check the permissions of the token")
    hint = f"is {_host()} a hub? HF_ENDPOINT names the hub"
    return FileError(f"the hub answers {repository} with status {status}", hint=hint)


def _busy(response: Any) -> BusyError:
    limit = response.headers.get("retry-after", "").strip()
    reset = _RESET.search(response.headers.get("ratelimit", ""))
    seconds = int(limit) if re.fullmatch(r"\d{1,6}", limit) else int(reset[1]) if reset else None
    if response.status_code != 429:
        message = f"the hub is not working (status {response.status_code})"
        return BusyError(seconds, FileError(message, hint="try again later: what was downloaded is kept"))
    when = f"in {seconds} s" if seconds else "later"
    hint = f"try again {when}: what was downloaded is kept; with a token the limit is higher: `hf auth login`"
    return BusyError(seconds, FileError("the hub has had too many requests from here", hint=hint))


def _host() -> str:
    """The hub's name and port, without the user and password that an address may hold."""
    return urlsplit(endpoint()).netloc.rpartition("@")[2]
