"""A session as Chat returns it: ADK's Session, and the revision that it was read at."""

from google.adk.sessions.session import Session
from pydantic import PrivateAttr

from adk_chat.protocol.json import Json


class StoredSession(Session):
    """A session read from Chat. Its revision tells Chat whether the copy is outdated."""

    _revision: int | None = PrivateAttr(default=None)

    @property
    def revision(self) -> int | None:
        """The number of writes that this copy includes."""
        return self._revision

    @revision.setter
    def revision(self, revision: int) -> None:
        self._revision = revision

    @classmethod
    def parse(cls, answer: Json) -> "StoredSession":
        """Returns the session in an answer of `get_session` or `create_session`."""
        session = cls.model_validate({key: value for key, value in answer.items() if key != "revision"})
        session.revision = answer["revision"]
        return session
