"""The artifact service of the gateway: a name that cannot be used is an error of the request, not of the server."""

import errno
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from google.adk.artifacts.base_artifact_service import ArtifactVersion, BaseArtifactService
from google.adk.errors.input_validation_error import InputValidationError
from google.genai import types
from typing_extensions import override

_NAMES = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.EILSEQ}


class GatewayArtifacts(BaseArtifactService):
    """Wraps an artifact service. Every refusal of a name is an `InputValidationError`.

    Args:
        service: the artifact service.
        aliases: aliases of apps.
    """

    def __init__(self, service: BaseArtifactService, aliases: Mapping[str, str] | None = None) -> None:
        self._service = service
        self._aliases = aliases or {}

    @override
    async def save_artifact(self, *, app_name: str, **arguments: Any) -> int:
        with _refusing():
            return await self._service.save_artifact(app_name=self._name(app_name), **arguments)

    @override
    async def load_artifact(self, *, app_name: str, **arguments: Any) -> types.Part | None:
        with _refusing():
            return await self._service.load_artifact(app_name=self._name(app_name), **arguments)

    @override
    async def list_artifact_keys(self, *, app_name: str, **arguments: Any) -> list[str]:
        with _refusing():
            return await self._service.list_artifact_keys(app_name=self._name(app_name), **arguments)

    @override
    async def delete_artifact(self, *, app_name: str, **arguments: Any) -> None:
        with _refusing():
            await self._service.delete_artifact(app_name=self._name(app_name), **arguments)

    @override
    async def list_versions(self, *, app_name: str, **arguments: Any) -> list[int]:
        with _refusing():
            return await self._service.list_versions(app_name=self._name(app_name), **arguments)

    @override
    async def list_artifact_versions(self, *, app_name: str, **arguments: Any) -> list[ArtifactVersion]:
        with _refusing():
            return await self._service.list_artifact_versions(app_name=self._name(app_name), **arguments)

    @override
    async def get_artifact_version(self, *, app_name: str, **arguments: Any) -> ArtifactVersion | None:
        with _refusing():
            return await self._service.get_artifact_version(app_name=self._name(app_name), **arguments)

    def _name(self, app_name: str) -> str:
        return self._aliases.get(app_name, app_name)


@contextmanager
def _refusing() -> Generator[None, None, None]:
    try:
        yield
    except InputValidationError:
        raise
    except ValueError as error:
        raise InputValidationError(str(error)) from error
    except OSError as error:
        if error.errno not in _NAMES:
            raise
        raise InputValidationError(f"Invalid artifact name: {error.strerror}.") from error
