"""Marks what lies here, and hands out hosts to do scenarios on. How to write one: README.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from roots.replay import Replay, ReplayOf, Scene
from roots.states import Begin, begun

# Of the scenario alone: the first one to need a root or a state waits for it to be made.
_SCENARIO_LIMIT_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.roots)
            item.add_marker(pytest.mark.timeout(_SCENARIO_LIMIT_S, func_only=True), append=False)


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Hands out hosts: ``begin(BOOKWORM, headers_first)``. They are gone after the test."""
    with ExitStack() as stack:
        yield lambda release, state: stack.enter_context(begun(release, state, in_memory=True))


@pytest.fixture(scope="session")
def replay_of(tmp_path_factory: pytest.TempPathFactory) -> ReplayOf:
    """Scenes that can be repaired again and again: ``replay_of(EXCHANGED)``. Each is made once."""
    made: dict[Scene, Replay] = {}

    def replay(scene: Scene) -> Replay:
        if scene not in made:
            made[scene] = Replay(scene, tmp_path_factory.mktemp(scene.name) / "kept")
        return made[scene]

    return replay
