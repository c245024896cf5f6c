"""The little HTTP client that APIMixin uses where httpx is not installed."""

from __future__ import annotations

import json as _json
import socket
import urllib.error
import urllib.parse
import urllib.request
from typing import IO, Any, Dict, Mapping, Optional, Tuple, Union

__all__ = ["HttpReply", "UrllibClient"]


class HttpReply:
    """An answer: ``status_code``, ``headers`` with keys in lower case, ``content``, ``text``, ``json()``."""

    def __init__(self, status_code: int, headers: Mapping[str, str], content: bytes, url: str) -> None:
        self.status_code = status_code
        self.headers = {k.lower(): v for k, v in headers.items()}
        self.content = content
        self.url = url

    @property
    def text(self) -> str:
        """The body as text."""
        kind = self.headers.get("content-type", "")
        _, found, charset = kind.partition("charset=")
        try:
            return self.content.decode(charset.split(";")[0].strip("\"' ") if found else "utf-8", "replace")
        except LookupError:
            return self.content.decode("utf-8", "replace")

    def json(self) -> Any:
        """The body parsed as JSON."""
        return _json.loads(self.content)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Redirects are answers, as with httpx."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


class UrllibClient:
    """Requests by urllib: each on a connection of its own. Raises TimeoutError and ConnectionError."""

    def __init__(self, base_url: str, timeout: float, headers: Mapping[str, str]) -> None:
        self.base_url = base_url
        self.timeout = timeout
        self.headers = dict(headers)
        self._opener = urllib.request.build_opener(_NoRedirect)

    def request(
        self,
        method: str,
        path: str,
        *,
        params: Optional[Mapping[str, Any]] = None,
        headers: Optional[Mapping[str, str]] = None,
        json: Any = None,
        data: Any = None,
        content: Optional[Union[str, bytes]] = None,
        timeout: Optional[float] = None,
        **unknown: Any,
    ) -> HttpReply:
        """One request."""
        if unknown:
            raise TypeError(f"without httpx there is no argument {', '.join(sorted(unknown))}; pip install httpx")
        url = self._url(path, params)
        body, kind = _body(json, data, content)
        sent: Dict[str, str] = {"accept": "*/*", **kind, **_lower(self.headers), **_lower(headers or {})}
        request = urllib.request.Request(url, data=body, headers=sent, method=method.upper())
        try:
            with self._open(request, self.timeout if timeout is None else timeout) as reply:
                return HttpReply(getattr(reply, "status"), dict(getattr(reply, "headers")), reply.read(), url)
        except urllib.error.HTTPError as exc:
            with exc:
                return HttpReply(exc.code, dict(exc.headers), exc.read(), url)

    def _open(self, request: urllib.request.Request, timeout: float) -> IO[bytes]:
        try:
            opened: IO[bytes] = self._opener.open(request, timeout=timeout)
            return opened
        except urllib.error.HTTPError:
            raise
        except urllib.error.URLError as exc:
            if isinstance(exc.reason, socket.timeout):
                raise TimeoutError(f"no answer from {request.host} within {timeout} s") from exc
            raise ConnectionError(f"cannot reach {request.host}: {exc.reason}") from exc
        except socket.timeout as exc:
            raise TimeoutError(f"no answer from {request.host} within {timeout} s") from exc

    def _url(self, path: str, params: Optional[Mapping[str, Any]]) -> str:
        url = path
        if "://" not in path and self.base_url:
            url = self.base_url.rstrip("/") + "/" + path.lstrip("/")
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"{url!r} is no http or https URL")
        if params:
            given = [(k, v) for k, v in params.items() if v is not None]
            url += ("&" if "?" in url else "?") + urllib.parse.urlencode(given, doseq=True)
        return url

    def close(self) -> None:
        """Nothing is kept open."""


def _lower(headers: Mapping[str, str]) -> Dict[str, str]:
    return {k.lower(): str(v) for k, v in headers.items()}


def _body(
    json: Any, data: Any, content: Optional[Union[str, bytes]]
) -> Tuple[Optional[bytes], Dict[str, str]]:
    if json is not None:
        return _json.dumps(json).encode(), {"content-type": "application/json"}
    if isinstance(data, Mapping):
        form = urllib.parse.urlencode(data, doseq=True).encode()
        return form, {"content-type": "application/x-www-form-urlencoded"}
    raw = data if data is not None else content
    if raw is None:
        return None, {}
    return raw.encode() if isinstance(raw, str) else bytes(raw), {}
