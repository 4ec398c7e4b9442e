"""The errors that a caller can get, each with its HTTP status."""

from google.adk.errors import StaleSessionError
from google.adk.errors.already_exists_error import AlreadyExistsError
from google.adk.errors.session_not_found_error import SessionNotFoundError
from pydantic import ValidationError


class BadRequestError(ValueError):
    """The request is invalid."""


class TooLargeError(ValueError):
    """A value exceeds a size limit."""


STATUS: dict[type[Exception], int] = {
    SessionNotFoundError: 404,
    AlreadyExistsError: 409,
    StaleSessionError: 412,
    TooLargeError: 413,
    BadRequestError: 400,
}
"""The status with which Chat answers each exception of the session contract. Any other exception is a bug."""

RETRY_AFTER = {"retry-after": "2"}
"""The headers of every 503, in seconds."""


class AnswerError(RuntimeError):
    """Chat, or Restate in its place, answered with a status that the session contract does not define."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


_UNREACHABLE = "The service does not answer. Try again soon."
_TIMED_OUT = (
    "The service has not answered in time; it may be overloaded. The request may still be carried out. To send it "
    "again safely, use the same idempotency-key."
)


class NoAnswerError(ConnectionError):
    """Restate is unreachable or did not answer in time.

    Args:
        message: the details, for the operator.
        timed_out: whether the request probably arrived.

    Attributes:
        public: the sentence for the user, without URLs.
    """

    def __init__(self, message: str, *, timed_out: bool = False) -> None:
        super().__init__(message)
        self.public = _TIMED_OUT if timed_out else _UNREACHABLE


def error_of(status: int, message: str) -> Exception:
    """Returns the exception that Chat reported with `status`."""
    kind = next((kind for kind, code in STATUS.items() if code == status), None)
    return AnswerError(status, message) if kind is None else kind(message)


def status_of(error: BaseException) -> int | None:
    """Returns the HTTP status of an exception of this module or of ADK's session contract, else None."""
    if isinstance(error, AnswerError):
        return error.status
    if isinstance(error, NoAnswerError):
        return 503
    return next((code for kind, code in STATUS.items() if isinstance(error, kind)), None)


def sentence(error: ValidationError) -> str:
    """Returns the first problem of a request as one sentence."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        return f"The body is not JSON: {first['msg'].removeprefix('Invalid JSON: ')}."
    where = ".".join(str(part) for part in first["loc"])
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}." if where else f"{said}."
