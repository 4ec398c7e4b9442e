"""Turn ids: one spelling each, and only a turn's own events under them."""

import uuid

import pytest

from adk_chat.protocol.turn_id import TurnId, TurnKey, event_id_prefix

KEY = TurnKey(user_id="a/b", app_name="app.x", session_id="ü s%")


def test_an_id_says_where_its_turn_is() -> None:
    turn_id = TurnId(invocation_id="inv_1abc", key=KEY)
    assert TurnId.parse(str(turn_id)) == turn_id
    assert str(turn_id).startswith("inv_1abc.")
    assert str(KEY) == "a%2Fb/app.x/%C3%BC%20s%25"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "inv_1abc",
        "inv_1abc.",
        "inv_1abc.YQ",  # one part only
        "inv_1abc.YS9iL2M=",  # padded
        "inv_1abc.YS9iL2N",  # bits left over
        "inv_1abc.YS9iL2M\n",
        "inv_1abc.YSUyL2Iv_w",  # not UTF-8
        "inv_1abc.YS9iLyU2Mw",  # a needless percent-encoding
        "inv_1'abc.YS9iL2M",
        "../x.YS9iL2M",
        ".YS9iL2M",
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a turn id"):
        TurnId.parse(text)


def test_events_are_known_by_their_ids_or_their_invocation() -> None:
    turn_id = TurnId(invocation_id="inv_1abc", key=KEY)
    mark = event_id_prefix("inv_1abc")
    assert turn_id.owns({"id": f"{mark}-5abc", "invocationId": "e-of-an-older-turn"})
    assert turn_id.owns({"id": "chosen-by-an-agent", "invocationId": f"e-{mark}-5abc"})
    assert turn_id.owns({"id": str(uuid.uuid4()), "invocationId": f"e-{mark}-5abc"})
    assert not turn_id.owns({"id": "other", "invocationId": "other"})
    assert not turn_id.owns({"id": event_id_prefix("inv_1abd"), "author": "user"})


def test_events_of_a_turn_that_goes_on_with_an_invocation_are_its_own() -> None:
    begun, resumed = (TurnId(invocation_id=name, key=KEY) for name in ("inv_1abc", "inv_1abd"))
    made = str(uuid.uuid5(uuid.NAMESPACE_URL, "x"))
    first, mark = (event_id_prefix(turn.invocation_id) for turn in (begun, resumed))
    event = {"id": mark + made[len(mark) :], "invocationId": f"e-{first}-5abc"}
    assert (begun.owns(event), resumed.owns(event)) == (False, True)
