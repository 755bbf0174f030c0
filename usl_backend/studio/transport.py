"""HTTP requests to one Label Studio, with credentials, retries and translated errors.

The SDK's client is not used for requests: bulk listing needs raw paging, media needs the access token itself, and
every failure has to be translated in one place. The SDK is used to validate predictions (`preannotations.py`).
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import random
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase
from urllib3.exceptions import NewConnectionError

from usl_backend.errors import (
    SettingsError,
    StudioAuthError,
    StudioError,
    StudioNotFoundError,
    StudioTroubleError,
    StudioUnreachableError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

TokenKind = Literal["legacy", "personal"]

# Seconds before expiry at which an access token (valid for 300 s) is renewed, so that it outlives a request.
REFRESH_MARGIN = 90.0
ATTEMPTS = 4
"""For interactive requests: they fail after about three seconds."""
PATIENT_ATTEMPTS = 9
"""For requests of a run, which waits out a restart of Label Studio: they fail after about a minute."""
_DEFECT_ATTEMPTS = 3
"""After a 500, a broken body or, in a run, a time-out: these may be temporary, but are usually permanent."""
BACK_OFF = 0.5
LONGEST_WAIT = 20.0
_CONNECT_SECONDS = 15.0
_BUSY = frozenset({429, 502, 503, 504})
_TOO_LONG = b"Expression tree is too large"
"""What Label Studio on SQLite says with a 500 where a page has 1,000 uploads; asked again, it says the same."""
_IDEMPOTENT = frozenset({"GET", "HEAD", "PATCH", "PUT", "DELETE"})
_CONNECTION_FAILURES = (
    requests.exceptions.ConnectionError,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.Timeout,
)
"""Failures of the connection to Label Studio, before or during its answer."""


def token_claims(token: str) -> dict[str, Any] | None:
    """Read the claims of a JSON Web Token without verifying it.

    Returns
    -------
    dict or None
        Payload, such as `{"token_type": "refresh", "exp": 1893456000}`; None if `token` is not a JSON Web Token.
    """
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        payload = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return None
    return payload if isinstance(payload, dict) else None


class _Authorization(AuthBase):
    """Authorization header as a requests auth object, so that no .netrc entry of the host replaces it."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = self.value
        return request


class Observer(Protocol):
    """Callback for every request, including retries."""

    def __call__(self, *, method: str, status: int, seconds: float, attempt: int) -> None:
        """Record a request: `status` is 0 without an answer, `seconds` its duration, `attempt` counts from 0."""


class Transport:
    """Authenticated requests to one Label Studio; safe to use from several threads.

    Parameters
    ----------
    url
        URL of Label Studio, including its path prefix if any.
    api_key
        Legacy token or personal access token of a Label Studio user.
    timeout
        Longest wait for an answer, in seconds.
    attempts
        Most times a request is sent if the failure may be temporary, with growing pauses in between.
    browser_url
        Address at which browsers reach Label Studio, for links in messages; by default `url`.

    Attributes
    ----------
    url, browser_url : str
        Without a trailing slash.
    token_expires : float or None
        Expiry of a personal access token, in unix seconds; None for legacy tokens.
    observer : Observer or None
        Called after every request.

    Raises
    ------
    SettingsError
        The URL or the token is malformed.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        timeout: float = 600.0,
        attempts: int = ATTEMPTS,
        browser_url: str = "",
    ) -> None:
        self.url = url.strip().rstrip("/")
        self.browser_url = browser_url or self.url
        if urlsplit(self.url).scheme not in {"http", "https"} or not urlsplit(self.url).hostname:
            raise SettingsError(f"LABEL_STUDIO_URL is {url!r}; give an address such as http://localhost:8080")
        self._api_key = api_key.strip()
        if not self._api_key:
            raise SettingsError(
                "LABEL_STUDIO_API_KEY is not set; create a personal access token in Label Studio"
                f" ({self.browser_url}/user/account) and set LABEL_STUDIO_API_KEY to it"
            )
        claims = token_claims(self._api_key)
        if claims is not None and claims.get("token_type") == "access":
            raise SettingsError(
                "LABEL_STUDIO_API_KEY is an access token, which expires after five minutes;"
                " set it to the personal access token instead"
            )
        self._personal = claims is not None
        expires = (claims or {}).get("exp")
        self.token_expires = float(expires) if isinstance(expires, int | float) else None
        self.timeout = timeout
        self.attempts = attempts
        self.observer: Observer | None = None
        self._session = requests.Session()
        adapter = requests.adapters.HTTPAdapter(pool_connections=4, pool_maxsize=64)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)
        self._lock = threading.Lock()
        self._access = ""
        self._expires = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r}, {self.token_kind} token)"

    @property
    def token_kind(self) -> TokenKind:
        """Kind of the configured token."""
        return "personal" if self._personal else "legacy"

    def close(self) -> None:
        """Close the pooled connections."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def authorization(self, *, renew: bool = False) -> str:
        """Return the Authorization header, `Token <legacy>` or `Bearer <access>`, valid for a minute or more.

        Parameters
        ----------
        renew
            Fetch a new access token even if the current one has not expired.

        Raises
        ------
        StudioAuthError
            The personal access token is refused.
        """
        if not self._personal:
            return f"Token {self._api_key}"
        with self._lock:
            if renew or time.time() > self._expires - REFRESH_MARGIN:
                answer = self._send(
                    "POST", "/api/token/refresh/", None, {"json": {"refresh": self._api_key}}, idempotent=True
                )
                if answer.status_code in {400, 401, 403}:
                    raise StudioAuthError(
                        f"{self.url} refuses the personal access token in LABEL_STUDIO_API_KEY"
                        f" ({_detail(answer)}); create a new one at {self.browser_url}/user/account"
                    )
                self._access = str(self._json(self._checked(answer))["access"])
                self._expires = float((token_claims(self._access) or {}).get("exp", time.time() + 120))
            return f"Bearer {self._access}"

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        body: Any = None,
        files: Any = None,
        idempotent: bool | None = None,
        stream: bool = False,
        timeout: float | None = None,
    ) -> requests.Response:
        """Send a request and return the response, which has a 2xx status.

        Parameters
        ----------
        path
            With a leading slash, relative to the URL of Label Studio.
        body
            Sent as JSON.
        idempotent
            True if the request may be retried because repeating it is harmless; by default all methods but POST.
        stream
            Leave the body unread; the caller closes the response.
        timeout
            Overrides the transport's time-out, in seconds.

        Raises
        ------
        StudioUnreachableError
            No answer after all attempts.
        StudioTroubleError
            429 or 5xx after all attempts.
        StudioAuthError
            The token is refused, or its user may not do this.
        StudioNotFoundError
            Answered with 404.
        StudioError
            Any other refusal or failure.
        """
        options: dict[str, Any] = {"params": params, "stream": stream, "timeout": timeout or self.timeout}
        if body is not None:
            options["json"] = body
        if files is not None:
            options["files"] = files
        if idempotent is None:
            idempotent = method in _IDEMPOTENT
        answer = self._send(method, path, self.authorization(), options, idempotent=idempotent)
        if answer.status_code == 401 and self._personal:
            answer.close()
            answer = self._send(method, path, self.authorization(renew=True), options, idempotent=idempotent)
        return self._checked(answer)

    def json(self, method: str, path: str, **options: Any) -> Any:
        """Send a request like `request` and return its decoded JSON body (None if empty).

        Idempotent requests are repeated if the body is broken.

        Raises
        ------
        StudioTroubleError
            The body is not JSON, also after the repetitions.
        """
        attempt = 0
        while True:
            try:
                return self._json(self.request(method, path, **options))
            except StudioTroubleError as error:
                attempt += 1
                repeatable = method in _IDEMPOTENT and error.status < 300
                if not repeatable or attempt >= min(_DEFECT_ATTEMPTS, self.attempts):
                    raise
                _pause(attempt - 1, f"{method} {path}: {error}")

    def _send(
        self,
        method: str,
        path: str,
        authorization: str | None,
        options: Mapping[str, Any],
        *,
        idempotent: bool,
    ) -> requests.Response:
        """Send a request with bounded retries; network failures become StudioUnreachableError."""
        settings = {"timeout": self.timeout} | dict(options)
        settings["timeout"] = (min(_CONNECT_SECONDS, settings["timeout"]), settings["timeout"])
        attempt = 0
        while True:
            attempt += 1
            wait: float | None = None
            try:
                answer = self._send_once(method, path, authorization, settings, attempt - 1)
            except requests.exceptions.RequestException as error:
                if attempt >= self._attempts_after(error, idempotent=idempotent):
                    raise self._unreachable(error, f"{method} {path}", settings["timeout"][1]) from error
                reason = str(_root_cause(error))
            else:
                if attempt >= self._attempts_after(answer, idempotent=idempotent):
                    return answer
                reason = f"status {answer.status_code}"
                wait = _retry_after(answer)
                answer.close()
            _pause(attempt - 1, f"{method} {path}: {reason}", at_least=wait)

    def _attempts_after(
        self, outcome: requests.Response | requests.exceptions.RequestException, *, idempotent: bool
    ) -> int:
        """Return how often a request with this outcome may be sent in total; 1 if it may have had an effect."""
        if isinstance(outcome, requests.Response):
            status = outcome.status_code
            if status == 429 or (
                status in _BUSY and idempotent
            ):  # 429: nothing was done, whatever the method
                return self.attempts
            passing = status == 500 and idempotent and _TOO_LONG not in outcome.content
            return min(_DEFECT_ATTEMPTS, self.attempts) if passing else 1
        if _was_never_sent(outcome):
            return self.attempts
        if not idempotent or not isinstance(outcome, _CONNECTION_FAILURES):
            return 1
        if isinstance(outcome, requests.exceptions.Timeout):  # people have waited long enough
            return min(_DEFECT_ATTEMPTS, self.attempts) if self.attempts > ATTEMPTS else 1
        return self.attempts

    def _unreachable(
        self, error: requests.exceptions.RequestException, asked: str, seconds: float
    ) -> StudioError:
        """Translate the failure of a request without an answer."""
        if isinstance(error, requests.exceptions.ReadTimeout):
            return StudioUnreachableError(
                f"Label Studio at {self.url} did not answer {asked} in time: usl-backend waits {seconds:g} s here;"
                " check whether Label Studio is overloaded"
            )
        if isinstance(error, _CONNECTION_FAILURES):
            return StudioUnreachableError(
                f"no answer from Label Studio at {self.url} ({_root_cause(error)});"
                " check that it is running and that LABEL_STUDIO_URL is its address as seen from this host"
            )
        return StudioError(f"request to Label Studio at {self.url} failed: {error}")

    def _send_once(
        self, method: str, path: str, authorization: str | None, settings: Mapping[str, Any], attempt: int
    ) -> requests.Response:
        """Send a request once and report it to the observer, whatever the outcome."""
        begun, status = time.monotonic(), 0
        try:
            answer = self._session.request(
                method,
                self.url + path,
                auth=_Authorization(authorization) if authorization else without_credentials,
                # A redirect would turn a POST into a GET and drop its body.
                allow_redirects=method == "GET",
                **settings,
            )
            status = answer.status_code
            return answer
        finally:
            if self.observer is not None:
                self.observer(method=method, status=status, seconds=time.monotonic() - begun, attempt=attempt)

    def _checked(self, answer: requests.Response) -> requests.Response:
        """Return a successful answer; raise the matching error for any other."""
        status = answer.status_code
        if 200 <= status < 300:
            return answer
        with answer:
            asked = f"{answer.request.method} {urlsplit(answer.url).path}"
            if 300 <= status < 400:
                raise StudioError(
                    f"Label Studio at {self.url} redirects {asked} to {answer.headers.get('Location')};"
                    " set LABEL_STUDIO_URL to its real address"
                )
            detail = _detail(answer)
            if status == 401:
                raise StudioAuthError(self._refused(detail))
            if status == 403:
                raise StudioAuthError(
                    f"Label Studio does not allow {asked} ({detail});"
                    " use a token of a user who may change the project"
                )
            if status == 404:
                raise StudioNotFoundError(f"Label Studio at {self.url} answers {asked} with 404: {detail}")
            message = f"Label Studio at {self.url} answers {asked} with {status}: {detail}"
            if status == 429 or status >= 500:
                raise StudioTroubleError(message, status=status)
            raise StudioError(message)

    def _refused(self, detail: str) -> str:
        """Explain a 401 and name the remedy."""
        if self._personal:
            return f"{self.url} refuses the access token ({detail}); create a new personal access token"
        return (
            f"{self.url} refuses the token in LABEL_STUDIO_API_KEY ({detail}). Legacy tokens are off by default:"
            f" create a personal access token at {self.browser_url}/user/account, or let an administrator"
            " turn legacy tokens on (Organization > API Tokens Settings)"
        )

    def _json(self, answer: requests.Response) -> Any:
        """Decode the body; None if empty."""
        with answer:
            if not answer.content:
                return None
            try:
                return answer.json()
            except ValueError as error:
                raise StudioTroubleError(
                    f"{urlsplit(answer.url).path} was answered with incomplete JSON or something else; check that"
                    f" {self.url} is Label Studio, and any proxy in front of it",
                    status=answer.status_code,
                ) from error


def without_credentials(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send a request without credentials, including those of .netrc (a requests auth callable)."""
    return request


def _was_never_sent(error: requests.exceptions.RequestException) -> bool:
    """Return True if no connection was made, so that the request cannot have had an effect."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)


def _pause(attempt: int, reason: str, *, at_least: float | None = None) -> None:
    """Wait before the next attempt: twice as long each time, with jitter, or as long as the server requests."""
    if at_least is None:
        pause = min(LONGEST_WAIT, BACK_OFF * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
    else:
        pause = at_least + BACK_OFF * random.uniform(0.0, 1.0)  # noqa: S311 - jitter
    logger.info("%s; trying again in %.1f s", reason, pause)
    time.sleep(pause)


def _root_cause(error: BaseException) -> BaseException:
    """Return the innermost reason, such as `Connection refused` inside a chain of connection-pool errors."""
    for argument in (getattr(error, "reason", None), *error.args):
        if isinstance(argument, BaseException):
            return _root_cause(argument)
    return error


def _retry_after(answer: requests.Response) -> float | None:
    """Return the seconds in Retry-After (a number or a date), at most LONGEST_WAIT; None without the header."""
    value = answer.headers.get("Retry-After", "").strip()
    try:
        seconds = (
            float(value) if value.isdecimal() else parsedate_to_datetime(value).timestamp() - time.time()
        )
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, seconds), LONGEST_WAIT)


def _detail(answer: requests.Response) -> str:
    """Return Label Studio's message about a failure in one line."""
    try:
        body = answer.json()
    except ValueError:
        return f"{answer.reason or 'no reason given'}"
    if not isinstance(body, dict):
        text = json.dumps(body)
    elif errors := body.get("validation_errors"):
        text = json.dumps(errors, ensure_ascii=False)
    else:
        text = str(body.get("detail") or json.dumps(body, ensure_ascii=False))
    return text if len(text) <= 600 else text[:600] + " ..."
