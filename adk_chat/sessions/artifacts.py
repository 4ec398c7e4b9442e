"""The artifacts of a deleted session. ADK leaves them, and anyone who knows the id could read them."""

import asyncio
import logging

from google.adk.artifacts.base_artifact_service import BaseArtifactService

logger = logging.getLogger(__name__)

_SECONDS = 10.0
_OF_USER = "user:"


async def delete_artifacts(service: BaseArtifactService, app_name: str, user_id: str, session_id: str) -> None:
    """Deletes a session's artifacts, all versions of each. Those of the user, `user:...`, stay.

    Takes at most 10 s and raises nothing. What cannot be deleted is logged.
    """
    session = {"app_name": app_name, "user_id": user_id, "session_id": session_id}
    try:
        async with asyncio.timeout(_SECONDS):
            for name in await service.list_artifact_keys(**session):
                if not name.startswith(_OF_USER):
                    await service.delete_artifact(**session, filename=name)
    except ValueError as error:  # an id that no artifact can have
        logger.debug("Session %s of %s has no artifacts: %s", session_id, user_id, error)
    except Exception as error:
        logger.warning("Artifacts of the deleted session %s of %s could not be deleted: %r", session_id, user_id, error)
