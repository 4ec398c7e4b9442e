"""The place of a cancellation among the results of a journal: no clock decides when code is told of it.

When code is told, it is journaled which results it had been given by then. A replay gives it exactly those first. If
the process died before that was journaled, nothing that came of it is stored, and the next attempt tells code where it
has got to all that earlier attempts had done.
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
    """The numbers of the results that code had been given."""
    name: str = Field(default_factory=lambda: secrets.token_hex(4))


class CancelPoint:
    """Where code of one attempt is told of a cancellation.

    Args:
        vm: the state machine of the attempt, after its journal was echoed.
    """

    def __init__(self, vm: RememberingVm) -> None:
        self._vm = vm
        self._told: _Told | None = None
        """What an earlier attempt has journaled when it told code."""
        self.number = inf
        """The number of the command with which it has. Later commands came after the cancellation."""
        recorded = vm.find(_TOLD)
        if recorded is not None and recorded.value is not None:
            self._told, self.number = _Told.model_validate_json(recorded.value), recorded.number
        self._given: set[int] = set()
        self.name = ""
        """Goes into all ids that are made once code is told. An attempt that tells it elsewhere has another name, so an
        id is never made for two events."""
        self.expects: Callable[[], bool] = lambda: False
        """Whether code has still to bring forth events that earlier attempts have sent."""

    @property
    def was_told(self) -> bool:
        """Whether an earlier attempt has told code."""
        return self._told is not None

    def is_before(self, handle: int) -> bool:
        """Whether the result behind a handle may be given to code that is still to be told."""
        number = self._vm.numbers.get(handle)
        return self._told is None or number is None or number in self._told.results

    def give(self, handles: Iterable[int]) -> None:
        """Code is given these results."""
        self._given.update(self._vm.numbers[handle] for handle in handles if handle in self._vm.numbers)

    def is_ahead(self) -> bool:
        """Whether code has still to do what it did in earlier attempts before it was told, if it was."""
        return self._vm.memory.has_left(self.number) or self.expects()

    def tell(self) -> None:
        """Code is told now.

        Invariant: what it had been given by then is journaled before anything that comes of it.
        """
        told = self._told
        if told is None:
            told = _Told(results=self._given)
            self._vm.record(_TOLD, told.model_dump_json().encode)
        self.name = told.name
