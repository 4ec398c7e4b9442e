"""Code blocks that a model wrote: each run by a code executor is a journaled step."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

from google.adk.code_executors.code_execution_utils import CodeExecutionInput, CodeExecutionResult, File

from adk_chat.durable.adk import values
from adk_chat.durable.adk.run_once import run_once
from adk_chat.durable.journal.keys import digest


def durable_code(_: Any) -> Any:
    """Replaces the module `asyncio` in ADK's module that runs code in threads, and runs nothing else there."""
    return _Asyncio()


class _Asyncio:
    def __getattr__(self, name: str) -> Any:
        return getattr(asyncio, name)

    async def to_thread(self, execute: Callable[..., CodeExecutionResult], *given: Any) -> CodeExecutionResult:
        return await _run(lambda: asyncio.to_thread(execute, *given), given[-1])


async def _run(run: Callable[[], Awaitable[CodeExecutionResult]], given: CodeExecutionInput) -> CodeExecutionResult:
    result: CodeExecutionResult = await run_once(
        "run code", digest(given.code, len(given.input_files)), run, _dump, _load
    )
    return result


def _dump(result: CodeExecutionResult) -> Any:
    # A file's content is bytes, or text that is taken for base64.
    made = {field.name: getattr(result, field.name) for field in fields(result)}
    return values.encode_leniently({**made, "output_files": [vars(file) for file in result.output_files]}, "")


def _load(kept: Any) -> CodeExecutionResult:
    made = values.decode(kept)
    return CodeExecutionResult(**{**made, "output_files": [File(**file) for file in made["output_files"]]})
