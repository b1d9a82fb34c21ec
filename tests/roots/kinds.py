"""Scenarios that are about no package manager, on a host of either family."""

from __future__ import annotations

from typing import Union

import pytest

from roots.debian import BOOKWORM, Release
from roots.rpm_states import EL9_VENDOR, RpmKind

Kind = Union[Release, RpmKind]
on_both = pytest.mark.parametrize("kind", [BOOKWORM, EL9_VENDOR], ids=lambda kind: kind.suite)
