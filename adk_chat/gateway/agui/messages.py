"""Messages of AG-UI: from stored events of ADK, and to parts of a message to an agent."""

import base64
import binascii
from collections.abc import Iterable
from itertools import groupby
from typing import Any

from ag_ui.core import ToolMessage, UserMessage
from google.genai import types
from pydantic_core import to_json

from adk_chat.gateway.agui.interrupts import parsed_content, question_of
from adk_chat.gateway.turns import RefusedError
from adk_chat.protocol.events import TURN_FAILED
from adk_chat.protocol.frontend import origin_of, split
from adk_chat.protocol.json import Json

_THOUGHT = ":thought"
_MEDIA = ("image", "audio", "video")


def text_of(event: Json, *, thought: bool = False) -> str:
    """Returns what an event says, or what its model thought."""
    return "".join(part["text"] for part in _parts(event) if part.get("text") and bool(part.get("thought")) is thought)


def calls_of(event: Json) -> list[Json]:
    """Returns the calls of tools in an event, without ADK's own questions. Each has an id."""
    calls = [part["functionCall"] for part in _parts(event) if "functionCall" in part]
    return [call for call in calls if call.get("id") and question_of(call, "") is None]


def results_of(event: Json) -> list[Json]:
    """Returns the responses of tools in an agent's event.

    A tool that waits for an approval or a credential gets a first response that says so, for the model. It is left out.
    """
    actions = event.get("actions", {})
    waiting = {*actions.get("requestedToolConfirmations", {}), *actions.get("requestedAuthConfigs", {})}
    responses = [part["functionResponse"] for part in _parts(event) if "functionResponse" in part]
    return [one for one in responses if one.get("id") and one["id"] not in waiting]


def is_of_user(event: Json) -> bool:
    """Returns whether an event is what the user said. A workflow's node may speak in the user's name."""
    return bool(event["author"] == "user" and not event.get("nodeInfo", {}).get("path"))


def reasoning_id(event_id: str, number: int = 0) -> str:
    """Returns the id of a reasoning message of an event."""
    return f"{event_id}{_THOUGHT}{number or ''}"


def result_id(event_id: str, call_id: str) -> str:
    """Returns the id of the message with the result of a tool call."""
    return f"{event_id}:{call_id}"


def result_content(response: Json) -> str:
    """Returns what a tool returned, as the content of a message."""
    return to_json(response.get("response") or {}, inf_nan_mode="null").decode()


def agent_messages(event: Json) -> list[Json]:
    """Returns the messages in a complete event of an agent."""
    made: list[Json] = []
    if thoughts := text_of(event, thought=True):
        made.append({"id": reasoning_id(event["id"]), "role": "reasoning", "content": thoughts})
    text, calls = text_of(event), calls_of(event)
    if text or calls:
        message: Json = {"id": event["id"], "role": "assistant", "name": event["author"]}
        if text:
            message["content"] = text
        if calls:
            message["toolCalls"] = [_tool_call(call) for call in calls]
        made.append(message)
    for response in results_of(event):
        content = result_content(response)
        made.append(_tool_message(result_id(event["id"], response["id"]), response["id"], content))
    return made


def user_messages(event: Json) -> list[Json]:
    """Returns the messages in an event of the user, with the ids that the frontend gave them."""
    origin = origin_of(event.get("customMetadata"))
    if origin is not None and origin.pending:
        return []
    parts = _parts(event)
    made: list[Json] = []
    for message_id, places in split(origin.messages if origin else [], len(parts)):
        here = [parts[place] for place in places]
        said = [part for part in here if "functionResponse" not in part]
        if said:
            made.append({"id": message_id or event["id"], "role": "user", "content": _content(said)})
        for response in (part["functionResponse"] for part in here if "functionResponse" in part):
            # The answer to a question of ADK's is no result of a tool: that comes later.
            if response.get("id") and question_of(response, "") is None:
                made_id = message_id or result_id(event["id"], response["id"])
                made.append(_tool_message(made_id, response["id"], _answer_content(response)))
    return made


def messages_of(events: Iterable[Json]) -> list[Json]:
    """Returns the messages in stored events, oldest first."""
    made: list[Json] = []
    for _, of_invocation in groupby(events, lambda event: event.get("invocationId")):
        here = [event for event in of_invocation if TURN_FAILED not in event.get("customMetadata", {})]
        for event in here:
            made += user_messages(event) if is_of_user(event) else agent_messages(event)
        if (said := output_message(event for event in here if not is_of_user(event))) is not None:
            made.append(said)
    return made


def output_message(events: Iterable[Json]) -> Json | None:
    """Returns the output of a workflow as a message, if its agents said nothing in words."""
    last: Json | None = None
    for event in events:
        if text_of(event):
            return None
        last = event if event.get("output") is not None else last
    if last is None:
        return None
    output = last["output"]
    text = output if isinstance(output, str) else to_json(output, inf_nan_mode="null").decode()
    return {"id": last["id"], "role": "assistant", "name": last["author"], "content": text}


def parts_of(message: UserMessage) -> list[types.Part]:
    """Returns a user's message as parts.

    Raises:
        RefusedError: 400, if its content cannot be read.
    """
    if isinstance(message.content, str):
        return [types.Part(text=message.content)] if message.content else []
    return [_part(message.id, part) for part in message.content]


def response_of(message: ToolMessage) -> Json:
    """Returns a tool message as the response of a function."""
    if isinstance(message.content, str):
        value = parsed_content(message.content)
    else:
        value = [part.model_dump(mode="json", by_alias=True) for part in message.content]
    response: Json = value if isinstance(value, dict) else {"result": value}
    return response if message.error is None else {**response, "error": message.error}


def _part(message_id: str, part: Any) -> types.Part:
    if part.type == "text":
        return types.Part(text=part.text)
    source = part.source
    if source.type != "data":
        return types.Part(file_data=types.FileData(file_uri=source.value, mime_type=source.mime_type))
    try:
        data = base64.b64decode(source.value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedError(400, f"messages: the {part.type} in message {message_id} is not base64: {error}.") from error
    return types.Part(inline_data=types.Blob(data=data, mime_type=source.mime_type))


def _answer_content(response: Json) -> str:
    """Returns the content of the tool message that became a response; see `response_of`."""
    answer = response.get("response") or {}
    if answer.keys() == {"result"} and isinstance(answer["result"], str):
        return str(answer["result"])
    return result_content({"response": answer["result"]} if answer.keys() == {"result"} else response)


def _content(parts: list[Json]) -> str | list[Json]:
    if all("text" in part for part in parts):
        return "".join(part["text"] for part in parts)
    return [_content_part(part) for part in parts]


def _content_part(part: Json) -> Json:
    if "inlineData" in part:
        blob = part["inlineData"]
        value = str(blob.get("data", "")).replace("-", "+").replace("_", "/")
        return _media(str(blob.get("mimeType", "")), {"type": "data", "value": value})
    if "fileData" in part:
        file = part["fileData"]
        return _media(str(file.get("mimeType", "")), {"type": "url", "value": file.get("fileUri", "")})
    return {"type": "text", "text": part.get("text", "")}


def _media(mime_type: str, source: Json) -> Json:
    kind = mime_type.partition("/")[0]
    typed = {**source, "mimeType": mime_type} if mime_type else source
    return {"type": kind if kind in _MEDIA else "document", "source": typed}


def _tool_call(call: Json) -> Json:
    arguments = to_json(call.get("args") or {}, inf_nan_mode="null").decode()
    return {"id": call["id"], "type": "function", "function": {"name": call.get("name", ""), "arguments": arguments}}


def _tool_message(message_id: str, call_id: str, content: str) -> Json:
    return {"id": message_id, "role": "tool", "toolCallId": call_id, "content": content}


def _parts(event: Json) -> list[Json]:
    parts: list[Json] = event.get("content", {}).get("parts") or []
    return parts
