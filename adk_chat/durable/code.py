"""Blocks of code that a model wrote, run by a code executor of ADK: each once, as a journaled step."""

from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult, File

from adk_chat.durable import seams, values
from adk_chat.durable.keys import digest
from adk_chat.durable.once import once


async def _run_once(run: Callable[[], Awaitable[CodeExecutionResult]], given: CodeExecutionInput) -> Any:
    return await once("run code", digest(given.code, len(given.input_files)), run, _dump, _load)


def _dump(result: CodeExecutionResult) -> Any:
    # A file's content is bytes, or text that is taken for base64.
    made = {field.name: getattr(result, field.name) for field in fields(result)}
    return values.encode_leniently({**made, "output_files": [vars(file) for file in result.output_files]}, "")


def _load(kept: Any) -> CodeExecutionResult:
    made = values.decode(kept)
    return CodeExecutionResult(**{**made, "output_files": [File(**file) for file in made["output_files"]]})


def install() -> None:
    """Let ADK run blocks of code by way of a journal."""
    seams.wrap_code(_run_once)
