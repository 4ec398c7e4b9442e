"""Checks each row of the table of patches against the installed versions."""

import inspect

import pytest

from adk_chat.durable.patches import PATCHES, Patch, install

install()


@pytest.mark.parametrize("patch", PATCHES, ids=str)
def test_what_is_replaced_is_where_it_was(patch: Patch) -> None:
    assert hasattr(patch.owner, patch.attribute), f"{patch} is gone. adk_chat replaces it: {patch.why}"
    if patch.takes is not None:
        found = tuple(inspect.signature(getattr(patch.owner, patch.attribute)).parameters)
        assert found == patch.takes, f"{patch} takes {found} now, not {patch.takes}. adk_chat replaces it: {patch.why}"


def test_patches_are_installed_once() -> None:
    before = [getattr(patch.owner, patch.attribute) for patch in PATCHES]
    install()
    assert [getattr(patch.owner, patch.attribute) for patch in PATCHES] == before
