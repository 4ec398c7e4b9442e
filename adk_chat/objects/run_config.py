"""ADK's RunConfig in a request: what a caller may ask for, in either of JSON's spellings."""

from typing import Annotated

from google.adk.agents.run_config import RunConfig
from pydantic import AfterValidator, ValidationError, WithJsonSchema
from pydantic.alias_generators import to_snake

from adk_chat.sessions.contract import Json

_MAY_BE_ASKED = {
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
"""A caller could send the service's keys elsewhere with the first, and use up its threads with the last."""


def _asked(value: Json | None) -> Json | None:
    if value is None:
        return None
    config = {to_snake(name): given for name, given in value.items()}
    for name in config:
        if name not in RunConfig.model_fields:
            raise ValueError(f"{name} is not a field of ADK's RunConfig")
        if name in _OF_THE_SERVICE:
            raise ValueError(f"{name} is for the service to set, in ChatService(run_config=...)")
        if name not in _MAY_BE_ASKED:
            raise ValueError(f"{name} is for live audio and video, which are not offered here")
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
        raise ValueError("streaming_mode bidi is for live audio and video, which are not offered here")
    return config


RunConfigJson = Annotated[Json | None, AfterValidator(_asked), WithJsonSchema({"type": "object"})]
"""A RunConfig in JSON, in camelCase or snake_case; what was parsed is in snake_case and holds only what was given."""


def streams(config: Json | None) -> bool:
    """Whether a request asks for partial responses."""
    return str(RunConfig.model_validate(config or {}).streaming_mode.value) == "sse"


def window(config: Json | None, most: int | None) -> tuple[int | None, float | None]:
    """How many of a session's newest events a turn is to see, at most `most`, and from which time on."""
    wanted = RunConfig.model_validate(config or {}).get_session_config
    if wanted is None:
        return most, None
    numbers = [number for number in (wanted.num_recent_events, most) if number is not None]
    return min(numbers, default=None), wanted.after_timestamp


def merged(default: RunConfig | None, asked: Json | None) -> RunConfig:
    """The service's RunConfig with what a request asked for over it."""
    config = RunConfig.model_validate(asked or {})
    given = {name: config.__dict__[name] for name in config.model_fields_set}
    return (default or RunConfig()).model_copy(update=given)
