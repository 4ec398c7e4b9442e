"""All settings, in one typed object. Each is also a variable `ADK_CHAT_<NAME>` of the environment or of `.env`."""

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
"""Variables of ours that are not settings of the service: of the terminal, and of one process of several."""
Port = Annotated[int, Field(ge=0, le=65535)]


def url(value: str) -> str:
    """A URL without a slash at its end.

    Raises:
        ValueError: it is none.
    """
    if not re.match(r"https?://[^/]", value):
        raise ValueError(f"{value!r} is not a URL; it should look like http://localhost:8080")
    return value.rstrip("/")


def urls(value: str) -> str:
    """One or more URLs, separated by commas.

    Raises:
        ValueError: one of them is none.
    """
    return ",".join(url(one.strip()) for one in value.split(","))


def is_loopback(host: str) -> bool:
    """Returns whether only this machine can reach what listens on `host`."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def absolute(path: Path) -> Path:
    """The path from the root; as it is, where the current directory is gone."""
    try:
        return path.absolute()
    except OSError:
        return path


def local(uri: str) -> str:
    """A URI as ADK writes those of services; what it says of a file does not depend on the current directory."""
    scheme, colon, path = uri.partition(":")
    slashes = "///" if scheme == "sqlite" else ""  # of which three begin a relative path
    file = path.removeprefix(slashes)
    if not colon or scheme not in ("file", "sqlite") or not path.startswith(slashes) or file.startswith(("/", ":")):
        return uri
    return f"{scheme}:{slashes}{absolute(Path(file))}"


def check_names(names: Iterable[str]) -> None:
    """See that variables which begin as those of settings do are some.

    Raises:
        ValueError: one is not; the message has the name that is most like it.
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

    Paths are those of the directory that was the current one here: agents that are loaded later may go elsewhere.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="ignore", populate_by_name=True)

    agent: str | None = Field(
        None,
        description="The agent: a directory by ADK's convention, of one or of several, or package.module:attribute.",
    )
    model: str | None = Field(None, description="The default assistant's model: any name that ADK or LiteLLM knows.")

    ingress_port: Port = Field(8080, description="Port of the Restate ingress that `dev` starts.")
    admin_port: Port = Field(9070, description="Port of the Restate admin API and UI that `dev` starts.")
    endpoint_port: Port = Field(9080, description="Port on which Restate reaches the handlers.")
    server: ServerName = Field(
        "hypercorn",
        description="What serves the handlers, hypercorn or granian; granian takes 'adk-chat[granian]', and takes less "
        "of the processor.",
    )
    workers: int = Field(1, ge=1, description="How many processes `serve`, or `web`, is, on one port.")
    endpoint_host: str = Field("127.0.0.1", description="Address that `serve` listens on.")
    host: str = Field(
        "127.0.0.1", description="Address that `web` listens on; anything but loopback needs access control."
    )
    port: Port = Field(8000, description="Port of the gateway: ADK's API and dev UI.")
    ui: bool = Field(True, description="Whether the gateway serves ADK's dev UI, or ADK's API alone.")
    ingress_url: Urls = Field(
        "http://localhost:8080",
        description="The Restate ingress that `web` stands on, and by which tools reach other sessions; several, "
        "separated by commas, where any will do: the first one that answers is used.",
    )
    admin_url: Url = Field(
        "http://localhost:9070",
        description="The Restate admin API: it tells which turns wait, and ends those that hear nothing.",
    )
    restate_token: SecretStr | None = Field(
        None, description="Sent to that Restate as a bearer token, as Restate Cloud wants it."
    )
    data_dir: Annotated[Path, AfterValidator(absolute)] = Field(
        Path(".adk-chat"), validate_default=True, description="Where `dev` keeps the data of restate-server."
    )
    replay_always: bool = Field(False, description="Let Restate replay handlers at every await, to test an agent.")

    redis_url: str | None = Field(
        None,
        description="A Redis for live streams between processes, redis:// or rediss://; by default this one's memory.",
    )

    auth_jwks_url: str | None = Field(None, description="Where the keys are that users' tokens are signed with.")
    auth_key: SecretStr | None = Field(
        None, description="Or the key: a public one as PEM, or the secret of HS256 tokens, 32 bytes at least."
    )
    auth_audience: str | None = Field(None, description="The audience that tokens must have.")
    auth_issuer: str | None = Field(None, description="The issuer that tokens must have; by default any.")

    ticket_key: SecretStr | None = Field(
        None, description="The secret of tickets for streams, 32 bytes at least; by default one of each process."
    )
    credential_key: SecretStr | None = Field(
        None,
        description="The secret that what users have consented to is encrypted with, 32 bytes at least; without one it "
        "is in the memory of each process, and not kept.",
    )
    allow_origins: Annotated[list[str], NoDecode] = Field(
        [], description="Origins whose pages may use the gateway, or regex:PATTERN; comma-separated in the variable."
    )
    ping_seconds: float = Field(
        15, gt=0, description="How often a stream that has nothing to say says that it is alive."
    )

    access_log: bool = Field(True, description="Whether `web` logs a line for each request.")
    log_level: LogLevel = Field("INFO", description="What is logged.")
    log_format: LogFormat = Field("text", description="How a line of the log looks.")

    identity_keys: Annotated[list[str], NoDecode] = Field(
        [], description="Public keys of the Restate whose requests are accepted, comma-separated."
    )
    drain_seconds: float = Field(30, ge=0, description="How long running handlers may go on after SIGTERM.")
    step_timeout_seconds: float = Field(3600, gt=0, description="Longest time one model or tool call may take.")
    journal_retention_seconds: float = Field(3600, ge=0, description="How long journals of finished turns are kept.")

    max_id_length: int = Field(256, ge=1, description="Longest user, session or app id, in characters.")
    max_message_bytes: int = Field(
        16 * 1024 * 1024, ge=1, le=16 * 1024 * 1024, description="Largest message with its parts, as JSON."
    )
    history_events: int | None = Field(
        None, ge=1, description="Show the model only so many of the newest events; by default all, as ADK does."
    )
    cached_events: int = Field(
        20_000,
        ge=0,
        description="How many events of sessions a process keeps at hand, of 4 KB, or as many as a larger one takes; "
        "what it has not, a turn reads.",
    )
    app_state_max_age_seconds: float = Field(
        1, ge=0, description="How long an app that had no app: state is taken to have none still; 0 asks each time."
    )
    tool_threads: int = Field(
        8, ge=0, description="Threads for tools that are plain functions; 0 runs them on the event loop."
    )

    artifact_service_uri: ServiceUri | None = Field(
        None,
        description="Where artifacts are kept, as ADK writes it: file:///path, gs://bucket; else in memory, "
        "and by `dev` in its data directory.",
    )
    memory_service_uri: ServiceUri | None = Field(
        None, description="The memory service, as ADK writes it: sqlite:///path, rag://id, ...; else in memory."
    )

    model_max_attempts: int = Field(6, ge=1, description="How often a model call is tried on errors that may pass.")
    model_max_seconds: float = Field(120, gt=0, description="How long a model call is tried on errors that may pass.")
    model_retry_seconds: float = Field(
        0.5, gt=0, description="Wait before the second try; it doubles with each, up to 10 s."
    )

    @property
    def restate_headers(self) -> dict[str, str]:
        """What is sent with every request to a Restate that runs elsewhere."""
        return {"authorization": f"Bearer {self.restate_token.get_secret_value()}"} if self.restate_token else {}

    @field_validator("identity_keys", "allow_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return [key.strip() for key in value.split(",") if key.strip()] if isinstance(value, str) else value
