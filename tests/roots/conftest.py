"""Marks what lies here, and hands out hosts to do scenarios on. How to write one: README.md."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from roots import cache
from roots.replay import Replay, ReplayOf, Scene
from roots.states import Begin, begun

# Of the scenario alone: the first one to need a root or a state waits for it to be made.
_SCENARIO_LIMIT_S = 600


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
    """Scenes that can be repaired again and again: ``replay_of(EXCHANGED)``.

    Each is made once, by the first of pytest's workers that wants it; their folders lie side by side.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    loaded: dict[Scene, Replay] = {}

    def replay(scene: Scene) -> Replay:
        if scene not in loaded:
            with cache.locked(shared / f"{scene.name}.lock"):
                made = shared / f"{scene.name}.pickle"
                if not made.exists():
                    made.write_bytes(pickle.dumps(Replay(scene, shared / scene.name)))
                loaded[scene] = pickle.loads(made.read_bytes())  # noqa: S301 - our own of this run
        return loaded[scene]

    return replay
