"""Marks what lies here, and hands out hosts to boot. How to write a test: README.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Optional, Protocol

import pytest

from booted import package
from booted.container import Container, container
from roots import kernels
from roots.debian import Release
from roots.states import State

# Of the test alone: the first one to need a root or the package waits for it to be made.
_TEST_LIMIT_S = 300


class Host(Protocol):
    """Hands out a host of a release; one with kernward may be in a state of states.py."""

    def __call__(self, release: Release, state: Optional[State] = None) -> Container: ...


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.roots)
            item.add_marker(pytest.mark.timeout(_TEST_LIMIT_S, func_only=True), append=False)


@pytest.fixture
def equipped() -> Iterator[Host]:
    """Hands out hosts without kernward: ``equipped(BOOKWORM)``. Switched off, gone after the test."""
    with ExitStack() as stack:

        def hand_out(release: Release, state: Optional[State] = None) -> Container:
            assert state is None, "that takes a host with kernward"
            layers = package.equipped(release)
            return stack.enter_context(container(layers, kernels.archive(release), in_memory=True))

        yield hand_out


@pytest.fixture
def installed() -> Iterator[Host]:
    """Hands out hosts with kernward's package installed, before their first boot."""
    with ExitStack() as stack:

        def hand_out(release: Release, state: Optional[State] = None) -> Container:
            layers = package.installed(release, state)
            return stack.enter_context(container(layers, kernels.archive(release), in_memory=True))

        yield hand_out
