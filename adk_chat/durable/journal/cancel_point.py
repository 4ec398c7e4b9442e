"""The place of a cancellation among the results in a journal, so that no clock decides when code hears of it.

When code is told, the journal records which results it had received by then. A replay hands out exactly those first. If
the process dies before that is recorded, nothing that followed is stored, and the next attempt tells the code as soon
as it has reached what earlier attempts did.
"""

import secrets
from collections.abc import Callable, Iterable
from math import inf

from pydantic import BaseModel, Field

from adk_chat.durable.journal import keys
from adk_chat.durable.journal.keys import Key
from adk_chat.durable.journal.state_machine import RememberingVm

_TOLD = Key("cancelled", keys.ROOT)


class _Told(BaseModel):
    results: set[int]
    """The numbers of the results that code had received."""
    name: str = Field(default_factory=lambda: secrets.token_hex(4))


class CancelPoint:
    """When code of one attempt is told of a cancellation.

    Args:
        vm: the state machine of the attempt, after the recorded commands were issued again.
    """

    def __init__(self, vm: RememberingVm) -> None:
        self._vm = vm
        self._told: _Told | None = None
        """What an earlier attempt recorded when it told its code."""
        self.number = inf
        """The number of the command that recorded it. Later commands came after the cancellation."""
        recorded = vm.find(_TOLD)
        if recorded is not None and recorded.value is not None:
            self._told, self.number = _Told.model_validate_json(recorded.value), recorded.number
        self._given: set[int] = set()
        self.name = ""
        """Part of all ids that are made after the cancellation. An attempt that tells its code at another point has
        another name, so no id is made for two events."""
        self.expects: Callable[[], bool] = lambda: False
        """Returns whether code has yet to produce events that earlier attempts have sent."""

    @property
    def was_told(self) -> bool:
        """Whether an earlier attempt told its code."""
        return self._told is not None

    def is_before(self, handle: int) -> bool:
        """Returns whether the result behind a handle may be handed out before code is told."""
        number = self._vm.numbers.get(handle)
        return self._told is None or number is None or number in self._told.results

    def give(self, handles: Iterable[int]) -> None:
        """Notes that code receives these results."""
        self._given.update(self._vm.numbers[handle] for handle in handles if handle in self._vm.numbers)

    def is_ahead(self) -> bool:
        """Returns whether code has yet to do what earlier attempts did before they told it."""
        return self._vm.memory.has_left(self.number) or self.expects()

    def tell(self) -> None:
        """Records that code is told now.

        Invariant: what code had received by then is recorded before anything that follows from it.
        """
        told = self._told
        if told is None:
            told = _Told(results=self._given)
            self._vm.record(_TOLD, told.model_dump_json().encode)
        self.name = told.name
