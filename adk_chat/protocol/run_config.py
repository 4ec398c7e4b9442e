"""ADK's RunConfig in a request: which fields a caller may set, in camelCase or snake_case."""

from typing import Annotated, Any

from google.adk.agents.run_config import RunConfig
from pydantic import BeforeValidator, PlainSerializer, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_snake

_ALLOWED = {
    "custom_metadata",
    "get_session_config",
    "include_thoughts_from_other_agents",
    "labels",
    "max_llm_calls",
    "model_input_context",
    "save_input_blobs_as_artifacts",
    "service_tier",
    "streaming_mode",
}
_OF_THE_SERVICE = {"http_options", "telemetry", "tool_thread_pool_config"}
"""A caller could redirect the service's keys with the first and exhaust its threads with the last."""


def _parsed(value: object) -> object:
    if not isinstance(value, dict):
        return value
    config: dict[str, Any] = {to_snake(name): given for name, given in value.items()}
    for name in config:
        if name not in RunConfig.model_fields:
            raise ValueError(f"{name} is not a field of ADK's RunConfig")
        if name in _OF_THE_SERVICE:
            raise ValueError(f"{name} is set by the service, in ChatService(run_config=...)")
        if name not in _ALLOWED:
            raise ValueError(f"{name} is for live audio and video, which are not supported")
    window = config.get("get_session_config")
    if isinstance(window, dict):
        config["get_session_config"] = {to_snake(name): given for name, given in window.items()}
    try:
        parsed = RunConfig.model_validate(config)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        said = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{where}: {said}" if where else said) from None
    if parsed.streaming_mode.value == "bidi":
        raise ValueError("streaming_mode bidi is for live audio and video, which are not supported")
    return parsed


def _dumped(config: RunConfig) -> dict[str, Any]:
    return config.model_dump(mode="json", exclude_unset=True)


RequestedRunConfig = Annotated[
    RunConfig, BeforeValidator(_parsed), PlainSerializer(_dumped), WithJsonSchema({"type": "object"})
]
"""A RunConfig in a request. Its JSON holds only the fields that the caller set, in snake_case."""


def streams(config: RunConfig | None) -> bool:
    """Returns whether a request asks for partial responses."""
    return config is not None and config.streaming_mode.value == "sse"


def window(config: RunConfig | None, most: int | None) -> tuple[int | None, float | None]:
    """Returns how many of the newest events a turn sees, at most `most`, and from which time on; None for no limit."""
    wanted = None if config is None else config.get_session_config
    if wanted is None:
        return most, None
    numbers = [number for number in (wanted.num_recent_events, most) if number is not None]
    return min(numbers, default=None), wanted.after_timestamp


def merged(default: RunConfig | None, asked: RunConfig | None) -> RunConfig:
    """Returns the service's RunConfig with the fields that a request set."""
    given = {} if asked is None else {name: asked.__dict__[name] for name in asked.model_fields_set}
    return (default or RunConfig()).model_copy(update=given)
