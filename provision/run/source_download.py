"""One file from the network, taken up again where the connection broke, and believed only by its checksum."""

from __future__ import annotations

import threading
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from provision.errors import Interrupted, ProvisionError, StepFailed

if TYPE_CHECKING:
    import requests

TRIES = 4
CONNECT_S, SILENCE_S = 15.0, 30.0
POLL_S = 0.1
BLOCK = 1 << 16
"""What is lost at most when a connection breaks."""
WAIT_S = 0.5
"""Before the second try; it doubles from try to try."""
AGAIN = (408, 425, 429, 500, 502, 503, 504)
"""Answers of servers that may do better next time."""
NETWORK_HINT = "check the network and its proxy; without a network: fetch it elsewhere and give the file"

Said = Callable[[int, "int | None"], None]
"""Bytes that are there, and how many there will be."""


def download(address: str, wanted: str, out: Path, *, said: Said, cancel: threading.Event) -> None:
    """``address`` at ``out``, with the SHA-256 ``wanted``. Raises StepFailed, Interrupted, OSError (the disk's)."""
    fetching = _Fetching(address, out, said, cancel)
    # a thread, since a silent server holds a read for as long as SILENCE_S: Ctrl-C does not wait for that
    thread = threading.Thread(target=fetching.run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(POLL_S)
        if cancel.is_set():
            raise Interrupted(what="interrupted", why="the source was being downloaded; nothing was changed")
    if fetching.failure is not None:
        raise fetching.failure
    found = fetching.digest.hexdigest()
    if found != wanted:
        out.unlink()
        raise StepFailed(
            what=f"{address} is not the file that was asked for",
            why=f"its SHA-256 is {found}, wanted is {wanted}; what came was removed",
            hint="archives that a web page makes on demand change: take a release's own file, or correct #sha256=",
        )


class _Fetching:
    def __init__(self, address: str, out: Path, said: Said, cancel: threading.Event) -> None:
        self.address, self.out, self.said, self.cancel = address, out, said, cancel
        self.digest = sha256()
        self.failure: BaseException | None = None
        self.have = 0

    def run(self) -> None:
        try:
            self._with_tries()
        except BaseException as error:
            self.failure = error

    def _with_tries(self) -> None:
        import requests

        for number in range(1, TRIES + 1):
            try:
                if self._once():
                    return
                problem: Exception = ConnectionError("the connection ended before the file did")
            except requests.RequestException as error:
                problem = error
                if isinstance(error, (requests.URLRequired, requests.TooManyRedirects)) or _is_final(error):
                    break
            if number < TRIES and not self.cancel.wait(WAIT_S * 2 ** (number - 1)):
                continue
            break
        raise explained(self.address, problem)

    def _once(self) -> bool:
        """Whether the whole file is there now."""
        import requests

        asked = {"Accept-Encoding": "identity", **({"Range": f"bytes={self.have}-"} if self.have else {})}
        with requests.get(self.address, headers=asked, stream=True, timeout=(CONNECT_S, SILENCE_S)) as answer:
            if answer.status_code == 416:  # what is there is not a part of what the server has now
                self._from_the_start()
                return False
            answer.raise_for_status()
            if answer.status_code != 206:
                self._from_the_start()
            length = answer.headers.get("Content-Length", "")
            total = self.have + int(length) if length.isdigit() else None
            with self.out.open("ab") as file:
                for block in answer.iter_content(BLOCK):
                    if self.cancel.is_set():
                        return False
                    file.write(block)
                    self.digest.update(block)
                    self.have += len(block)
                    self.said(self.have, total)
        return total is None or self.have == total

    def _from_the_start(self) -> None:
        self.out.unlink(missing_ok=True)
        self.digest, self.have = sha256(), 0


def _is_final(error: requests.RequestException) -> bool:
    """Whether asking again gives the same answer."""
    import requests

    if error.response is not None:
        return error.response.status_code not in AGAIN
    return isinstance(error, requests.exceptions.SSLError) or "resolve" in str(error) or "Name or service" in str(error)


def explained(address: str, error: Exception) -> ProvisionError:
    """Why nothing came, in our three parts."""
    import requests

    host = urlsplit(address).hostname or address
    what = f"{address} cannot be downloaded"
    response = getattr(error, "response", None)
    if response is not None:
        status = f"{host} answers {response.status_code} {response.reason}"
        if response.status_code in (404, 410):
            return StepFailed(what=f"{what}: there is no such file", why=status, hint="check the address")
        if response.status_code in (401, 403, 407):
            return StepFailed(what=f"{what}: it was refused", why=status, hint="put credentials into ~/.netrc")
        return StepFailed(what=what, why=status, hint="try again later, or fetch it elsewhere and give the file")
    if "resolve" in str(error) or "Name or service" in str(error) or "nodename" in str(error):
        return StepFailed(
            what=f"{what}: its host is not known", why=f"no address was found for {host}", hint=NETWORK_HINT
        )
    if isinstance(error, requests.exceptions.SSLError):
        return StepFailed(
            what=f"{what}: its certificate is not believed",
            why=_plain(error),
            hint="a company's own authority: REQUESTS_CA_BUNDLE=FILE; otherwise fetch it elsewhere and give the file",
        )
    if isinstance(error, requests.Timeout):
        return StepFailed(what=f"{what}: no answer", why=f"{host} was silent for {SILENCE_S:.0f} s", hint=NETWORK_HINT)
    return StepFailed(what=f"{what}: the connection failed", why=_plain(error), hint=NETWORK_HINT)


def _plain(error: Exception) -> str:
    """The innermost reason: urllib3 wraps it three times."""
    reason: Any = error.args[0] if error.args else error
    while getattr(reason, "reason", None) is not None:
        reason = reason.reason
    return str(reason).rpartition(">: ")[2].rstrip("')") or type(error).__name__
