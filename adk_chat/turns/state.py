"""What Turn keeps about its session between turns. The conversation itself is in Chat."""

from pydantic import BaseModel, Field

from adk_chat.objects.kv import ObjectState

_KEY = "turn"


class TurnState(BaseModel):
    """Which turn is running, and what the next turn has to know."""

    running: str | None = Field(None, description="The Restate invocation.")
    unsettled: list[str] = Field([], description="Earlier turns that were killed and whose end is not stored yet.")
    batches: int | None = Field(None, description="How many batches the session's turns have sent to Chat.")
    created: float | None = Field(None, description="When the session of the last turn was created.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted when it was accepted.")

    @classmethod
    async def read(cls, kv: ObjectState) -> "TurnState":
        """Reads it from the K/V."""
        (value,) = await kv.get(_KEY)
        return cls.model_validate(value or {})

    def write(self, kv: ObjectState) -> None:
        """Has it stored with the next `write` of the K/V."""
        kv.set(_KEY, self.model_dump(exclude_defaults=True))

    @property
    def killed(self) -> list[str]:
        """Returns the turns whose end is not stored, given that none is running."""
        return [*self.unsettled, *([self.running] if self.running else [])]

    def settle(self, ended: str) -> None:
        """Notes that the end of one of them is stored."""
        self.unsettled = [one for one in self.unsettled if one != ended]
        self.running = None if self.running == ended else self.running
