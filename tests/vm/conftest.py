"""Marks what lies here, and hands out hosts and the machines made of them. How to: README.md."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from booted import package
from booted.container import Container, container
from roots import kernels
from roots.debian import Release
from roots.states import Begin, Host, begun
from vm import outfit
from vm.guest import Guest

# Waiting for a turn among other guests counts. A guest of its own accord gives up far earlier.
_TEST_LIMIT_S = 3600

Machine = Callable[[Host], Guest]
Installed = Callable[[Release], Container]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.roots)
            item.add_marker(pytest.mark.timeout(_TEST_LIMIT_S, func_only=True), append=False)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Hands out hosts without kernward: ``begin(BOOKWORM, headers_first)``."""
    with ExitStack() as stack:
        yield lambda release, state: stack.enter_context(begun(release, state))


@pytest.fixture
def installed() -> Iterator[Installed]:
    """Hands out hosts with kernward's package installed, to be booted as containers first."""
    with ExitStack() as stack:
        yield lambda release: stack.enter_context(
            container(package.installed(release), kernels.archive(release))
        )


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Makes a virtual machine of a host that is off: ``machine(host)``. Gone after the test.

    Its console is shown when the test fails.
    """
    made: list[Guest] = []

    def make(host: Host) -> Guest:
        outfit.make_ready(host)
        folder = host.path.with_name("machine")
        folder.mkdir()
        made.append(Guest(host.path, folder))
        return made[-1]

    yield make
    for guest in made:
        guest.cut_power()
        sys.stdout.write(guest.console())
