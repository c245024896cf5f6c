"""APIMixin: calls to HTTP services, and what their answers mean for the step."""

from __future__ import annotations

import datetime
from typing import Any, ClassVar, Dict, Mapping, Optional

from ..._codec import is_plain
from ...results import ErrorType, StepHandlerResult

__all__ = ["APIMixin", "ApiResponse"]

Data = Dict[str, Any]

_ERROR_TYPES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    409: "conflict",
    410: "gone",
    422: "unprocessable_entity",
    429: "rate_limited",
    500: "internal_server_error",
    502: "bad_gateway",
    503: "service_unavailable",
    504: "gateway_timeout",
}
_RETRYABLE = frozenset((408, 429, 500, 502, 503, 504))
_MESSAGE_KEYS = ("error", "message", "detail", "error_message", "msg")
#: Seconds to wait if a service says Retry-After in a way that cannot be read.
_ODD_RETRY_AFTER = 60.0


class ApiResponse:
    """An HTTP answer with its body read: parsed if it is JSON, else text."""

    def __init__(self, raw: Any) -> None:
        self.raw_response = raw
        self.status_code: int = raw.status_code
        self.headers: Dict[str, str] = {str(k).lower(): str(v) for k, v in dict(raw.headers).items()}
        self.body: Any = self._read(raw)

    def _read(self, raw: Any) -> Any:
        if "json" in self.headers.get("content-type", ""):
            try:
                return raw.json()
            except ValueError:
                pass
        return raw.text

    @property
    def ok(self) -> bool:
        """True for 2xx."""
        return 200 <= self.status_code < 300

    @property
    def is_client_error(self) -> bool:
        """True for 4xx."""
        return 400 <= self.status_code < 500

    @property
    def is_server_error(self) -> bool:
        """True for 5xx."""
        return 500 <= self.status_code < 600

    @property
    def is_retryable(self) -> bool:
        """True if the same request may succeed later."""
        return self.status_code in _RETRYABLE

    @property
    def retry_after(self) -> Optional[float]:
        """Seconds the service asks to wait, None if it does not say."""
        text = self.headers.get("retry-after")
        if text is None:
            return None
        try:
            return max(0, int(text))
        except ValueError:
            pass
        import email.utils

        try:
            when = email.utils.parsedate_to_datetime(text)
        except (TypeError, ValueError, IndexError):
            return _ODD_RETRY_AFTER
        if when.tzinfo is None:
            when = when.replace(tzinfo=datetime.timezone.utc)
        return max(0.0, (when - datetime.datetime.now(datetime.timezone.utc)).total_seconds())

    def to_dict(self) -> Data:
        """Status, headers and body as plain data."""
        return {"status_code": self.status_code, "headers": dict(self.headers), "body": self.body}

    def __repr__(self) -> str:
        return f"<ApiResponse {self.status_code}>"


class APIMixin:
    """Mixin for handlers that call an HTTP service.

    httpx is used if it is installed, and ``client`` is then an ``httpx.Client``; without it requests
    are made by the standard library, which knows ``params``, ``headers``, ``json``, ``data``,
    ``content`` and ``timeout``. An answer of any status is returned; only a failing connection raises.
    """

    base_url: ClassVar[str] = ""
    default_timeout: ClassVar[float] = 30.0
    default_headers: ClassVar[Mapping[str, str]] = {}

    _client: Any = None

    @property
    def client(self) -> Any:
        """The HTTP client, made on first use."""
        if self._client is None:
            self._client = _new_client(self.base_url, self.default_timeout, self.default_headers or {})
        return self._client

    def close(self) -> None:
        """Close the HTTP client."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def __del__(self) -> None:
        if self._client is not None:
            self.close()

    # -- requests --------------------------------------------------------------------------------

    def request(self, method: str, path: str, **kwargs: Any) -> ApiResponse:
        """One request; ``path`` follows ``base_url`` unless it is a URL."""
        return ApiResponse(self.client.request(method, path, **kwargs))

    def get(
        self, path: str, params: Optional[Mapping[str, Any]] = None, headers: Optional[Mapping[str, str]] = None, **kw: Any
    ) -> ApiResponse:
        """GET."""
        return self.request("GET", path, params=params, headers=headers, **kw)

    def post(
        self, path: str, json: Any = None, data: Any = None, headers: Optional[Mapping[str, str]] = None, **kw: Any
    ) -> ApiResponse:
        """POST."""
        return self.request("POST", path, json=json, data=data, headers=headers, **kw)

    def put(
        self, path: str, json: Any = None, data: Any = None, headers: Optional[Mapping[str, str]] = None, **kw: Any
    ) -> ApiResponse:
        """PUT."""
        return self.request("PUT", path, json=json, data=data, headers=headers, **kw)

    def patch(
        self, path: str, json: Any = None, data: Any = None, headers: Optional[Mapping[str, str]] = None, **kw: Any
    ) -> ApiResponse:
        """PATCH."""
        return self.request("PATCH", path, json=json, data=data, headers=headers, **kw)

    def delete(self, path: str, headers: Optional[Mapping[str, str]] = None, **kw: Any) -> ApiResponse:
        """DELETE."""
        return self.request("DELETE", path, headers=headers, **kw)

    # -- results ---------------------------------------------------------------------------------

    def api_success(
        self,
        response: Any = None,
        result: Optional[Data] = None,
        include_response: bool = True,
    ) -> StepHandlerResult:
        """The step is done: ``result``, or the answer's body (``{"data": body}`` if that is no map).

        ``response`` may also be left out, or be the result itself.
        """
        if isinstance(response, Mapping):
            response, result = None, dict(response) if result is None else result
        elif response is not None and not isinstance(response, ApiResponse):
            response = ApiResponse(response)
        if result is None:
            body = response.body if response is not None else {}
            result = body if isinstance(body, dict) else {"data": body}
        metadata: Data = {}
        if response is not None and include_response:
            metadata = {"status_code": response.status_code, "headers": dict(response.headers)}
        return StepHandlerResult.success(result, metadata)

    def api_failure(self, response: ApiResponse, message: Optional[str] = None) -> StepHandlerResult:
        """The attempt failed; the status says how. A Retry-After of the answer delays the next attempt."""
        status = response.status_code
        metadata: Data = {"status_code": status, "headers": dict(response.headers)}
        wait = response.retry_after
        if wait is not None:
            metadata["retry_after_seconds"] = wait
        if response.body not in (None, "") and is_plain(response.body):
            metadata["response_body"] = response.body
        return StepHandlerResult.failure(
            message or f"HTTP {status}: {_said(response)}",
            _error_type(status),
            response.is_retryable,
            metadata,
            retry_after=wait if response.is_retryable else None,
        )

    def connection_error(self, error: BaseException, context: Optional[str] = None) -> StepHandlerResult:
        """The service could not be reached; try again."""
        return _transport_failure("connection_error", "Connection error", error, context)

    def timeout_error(self, error: BaseException, context: Optional[str] = None) -> StepHandlerResult:
        """The service did not answer in time; try again."""
        return _transport_failure(ErrorType.TIMEOUT.value, "Request timeout", error, context)


def _new_client(base_url: str, timeout: float, headers: Mapping[str, str]) -> Any:
    try:
        import httpx
    except ImportError:
        from ._http import UrllibClient  # only here: urllib takes long to import

        return UrllibClient(base_url, timeout, headers)
    return httpx.Client(base_url=base_url, timeout=timeout, headers=dict(headers))


def _transport_failure(
    kind: str, phrase: str, error: BaseException, context: Optional[str]
) -> StepHandlerResult:
    where = f" ({context})" if context else ""
    return StepHandlerResult.failure(
        f"{phrase}{where}: {error}", kind, True, {"exception_type": type(error).__name__}
    )


def _error_type(status: int) -> str:
    named = _ERROR_TYPES.get(status)
    if named is not None:
        return named
    return {4: "client_error", 5: "server_error"}.get(status // 100, "http_error")


def _said(response: ApiResponse) -> str:
    """What the body says went wrong."""
    if isinstance(response.body, Mapping):
        for key in _MESSAGE_KEYS:
            value = response.body.get(key)
            if isinstance(value, Mapping):
                value = value.get("message")
            if isinstance(value, str) and value:
                return value
    return _error_type(response.status_code).replace("_", " ")
