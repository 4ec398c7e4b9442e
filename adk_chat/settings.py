"""All settings, in one typed object. Each is also a variable `ADK_CHAT_<NAME>`, in the environment or in `.env`."""

import difflib
import ipaddress
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

ServerName = Literal["hypercorn", "granian"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_PREFIX = "ADK_CHAT_"
_OTHERS = ("TOKEN", "WORKER")
"""Our variables that are not settings of the service: the terminal's, and that of one of several processes."""
Port = Annotated[int, Field(ge=0, le=65535)]


def url(value: str) -> str:
    """Returns a URL without a slash at its end.

    Raises:
        ValueError: if it is no URL.
    """
    if not re.match(r"https?://[^/]", value):
        raise ValueError(f"{value!r} is not a URL. It should look like http://localhost:8080")
    return value.rstrip("/")


def urls(value: str) -> str:
    """Returns one or more URLs, separated by commas.

    Raises:
        ValueError: if one of them is no URL.
    """
    return ",".join(url(one.strip()) for one in value.split(","))


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def absolute(path: Path) -> Path:
    """Returns the absolute path, or the path itself if the current directory is gone."""
    try:
        return path.absolute()
    except OSError:
        return path


def local(uri: str) -> str:
    """Returns a service URI as ADK writes it, with file paths that do not depend on the current directory."""
    scheme, colon, path = uri.partition(":")
    slashes = "///" if scheme == "sqlite" else ""  # three slashes begin a relative path
    file = path.removeprefix(slashes)
    if not colon or scheme not in ("file", "sqlite") or not path.startswith(slashes) or file.startswith(("/", ":")):
        return uri
    return f"{scheme}:{slashes}{absolute(Path(file))}"


def check_names(names: Iterable[str]) -> None:
    """Checks that every variable with the prefix of the settings is one of them.

    Raises:
        ValueError: if one is not. The message suggests the closest name.
    """
    known = [_PREFIX + name.upper() for name in (*Settings.model_fields, *_OTHERS)]
    for name in names:
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            near = difflib.get_close_matches(name.upper(), known, n=1)
            meant = f" Did you mean {near[0]}?" if near else ""
            raise ValueError(f"{name} is not a setting of adk_chat.{meant} All settings are in .env.example.")


Url = Annotated[str, AfterValidator(url)]
Urls = Annotated[str, AfterValidator(urls)]
ServiceUri = Annotated[str, AfterValidator(local)]


class Settings(BaseSettings):
    """Settings of the service, its endpoint and the development server.

    Relative paths are resolved here, since an agent that is loaded later may change the directory.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", populate_by_name=True)

    agent: str | None = Field(
        None, description="The agent: a directory of one agent or of several, or package.module:attribute."
    )
    model: str | None = Field(None, description="The default assistant's model: any name that ADK or LiteLLM knows.")

    ingress_port: Port = Field(8080, description="Port of the Restate ingress that `dev` starts.")
    admin_port: Port = Field(9070, description="Port of the Restate admin API and UI that `dev` starts.")
    endpoint_port: Port = Field(9080, description="Port on which Restate reaches the handlers.")
    server: ServerName = Field(
        "hypercorn", description="HTTP server of the handlers; granian uses less CPU and needs 'adk-chat[granian]'."
    )
    workers: int = Field(1, ge=1, description="Number of worker processes sharing the port.")
    endpoint_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    host: str = Field(
        "127.0.0.1", description="Address that `web` listens on. Any but loopback requires access control."
    )
    port: Port = Field(8000, description="Port of the gateway: ADK's API and dev UI.")
    metrics_port: Port | None = Field(
        None,
        description="Port of metrics for Prometheus, at /metrics, on the address of the process; by default none. The "
        "nth further worker uses this port plus n. Needs 'adk-chat[prometheus]'.",
    )
    ui: bool = Field(True, description="Whether the gateway serves ADK's dev UI besides ADK's API.")
    agui: bool = Field(True, description="Whether the gateway serves AG-UI, for CopilotKit and other frontends.")
    ingress_url: Urls = Field(
        "http://localhost:8080",
        description="Restate's ingress. May be several, separated by commas: the first that answers is used.",
    )
    admin_url: Url = Field(
        "http://localhost:9070",
        description="Restate's admin API; used to list turns and to end turns whose endpoint is unreachable.",
    )
    restate_token: SecretStr | None = Field(None, description="Bearer token for Restate, as Restate Cloud requires.")
    data_dir: Annotated[Path, AfterValidator(absolute)] = Field(
        Path(".adk-chat"), validate_default=True, description="Where `dev` stores restate-server's data."
    )
    replay_always: bool = Field(False, description="Make Restate replay handlers at every await, to test an agent.")

    redis_url: str | None = Field(
        None,
        description="Redis for live streams between processes, redis:// or rediss://; by default the process's memory.",
    )

    auth_jwks_url: str | None = Field(None, description="URL of the keys (JWKS) that sign users' tokens.")
    auth_key: SecretStr | None = Field(
        None, description="The key itself: a public key as PEM, or the secret of HS256 tokens, at least 32 bytes."
    )
    auth_audience: str | None = Field(None, description="Required audience of tokens.")
    auth_issuer: str | None = Field(None, description="Required issuer of tokens; by default any.")

    ticket_key: SecretStr | None = Field(
        None, description="Secret that signs stream tickets, at least 32 bytes; by default random per process."
    )
    credential_key: SecretStr | None = Field(
        None,
        description="Secret that encrypts users' credentials, at least 32 bytes; by default they stay in memory.",
    )
    allow_origins: Annotated[list[str], NoDecode] = Field(
        [],
        description="Origins whose pages may use the gateway, or regex:PATTERN; separated by commas in the variable.",
    )
    ping_seconds: float = Field(15, gt=0, description="Interval of keep-alive comments on idle streams, in seconds.")

    access_log: bool = Field(True, description="Whether `web` logs each request.")
    log_level: LogLevel = Field("INFO", description="Lowest level that is logged.")
    log_format: LogFormat = Field("text", description="Format of a log line.")

    identity_keys: Annotated[list[str], NoDecode] = Field(
        [], description="Public keys of the Restate whose requests are accepted, separated by commas."
    )
    drain_seconds: float = Field(30, ge=0, description="How many seconds running handlers may continue after SIGTERM.")
    step_timeout_seconds: float = Field(3600, gt=0, description="Timeout of one model or tool call, in seconds.")
    journal_retention_seconds: float = Field(
        3600, ge=0, description="How many seconds journals of ended turns are kept."
    )

    max_id_length: int = Field(256, ge=1, description="Maximum length of user, session and app ids, in characters.")
    max_message_bytes: int = Field(
        16 * 1024 * 1024, ge=1, le=16 * 1024 * 1024, description="Maximum size of a message, in bytes of JSON."
    )
    history_events: int | None = Field(
        None, ge=1, description="Show the model only this many of the newest events; by default all, as in ADK."
    )
    cached_events: int = Field(
        20_000, ge=0, description="How many session events each process caches. A large one counts as one per 4 KB."
    )
    app_state_max_age_seconds: float = Field(
        1, ge=0, description="How many seconds to cache that an app has no `app:` state; 0 never caches it."
    )
    tool_threads: int = Field(
        8, ge=0, description="Number of threads for tools that are plain functions; 0 runs them on the event loop."
    )

    artifact_service_uri: ServiceUri | None = Field(
        None,
        description="ADK's URI of an artifact service, such as gs://bucket; by default memory, or the data directory.",
    )
    memory_service_uri: ServiceUri | None = Field(
        None, description="ADK's URI of a memory service, such as sqlite:///path or rag://id; by default memory."
    )

    model_max_attempts: int = Field(6, ge=1, description="Maximum attempts at a model call, on transient errors.")
    model_max_seconds: float = Field(120, gt=0, description="How long to retry a model call, in seconds.")
    model_retry_seconds: float = Field(
        0.5, gt=0, description="Seconds before the second attempt; the wait doubles with each attempt, up to 10 s."
    )

    @property
    def restate_headers(self) -> dict[str, str]:
        """The headers of every request to a Restate that runs elsewhere."""
        return {"authorization": f"Bearer {self.restate_token.get_secret_value()}"} if self.restate_token else {}

    @field_validator("identity_keys", "allow_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [key.strip() for key in value.split(",") if key.strip()] if isinstance(value, str) else value
