"""What Turn keeps about its session between turns. No conversation is here; that is Chat's."""

from pydantic import BaseModel, Field

from adk_chat.objects.kv import ObjectState

_KEY = "turn"


class TurnState(BaseModel):
    """Which turn runs, and what the turn after it has to know."""

    running: str | None = Field(None, description="The Restate invocation.")
    unsettled: list[str] = Field([], description="Turns before it that were killed, and whose end is not stored yet.")
    batches: int | None = Field(None, description="How often the session's turns have sent events to Chat.")
    created: float | None = Field(None, description="Of the session that the last turn was accepted for.")
    deletions: int | None = Field(None, description="How many sessions the user had deleted when it was accepted.")

    @classmethod
    async def read(cls, kv: ObjectState) -> "TurnState":
        """What is kept."""
        (value,) = await kv.get(_KEY)
        return cls.model_validate(value or {})

    def write(self, kv: ObjectState) -> None:
        """Have it stored with the next `write` of the K/V."""
        kv.set(_KEY, self.model_dump(exclude_defaults=True))

    @property
    def killed(self) -> list[str]:
        """The turns whose end is not stored, given that none runs."""
        return [*self.unsettled, *([self.running] if self.running else [])]

    def settle(self, ended: str) -> None:
        """The end of one of them is stored."""
        self.unsettled = [one for one in self.unsettled if one != ended]
        self.running = None if self.running == ended else self.running
