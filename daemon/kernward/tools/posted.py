"""What became of the guards that settings and profiles ask for: one file under /var/lib.

Belongs here: the file. It tells a service that was never guarded from one whose guard an admin has
taken away. Not here: what follows from that (core/posting.py).
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from typing import Union

from kernward.core.facts import Unknown
from kernward.tools.atomic import put_copy
from kernward.tools.root import Root
from kernward.tools.trusted import read_trusted, trouble

POSTED = "/var/lib/kernward/posted.json"
_LARGEST = 1 << 20

# The modules of each service's guard.
Posted = Mapping[str, tuple[str, ...]]


def read_posted(root: Root) -> Union[Posted, Unknown]:
    """Every service that was dealt with. One that was not is guarded when it is asked for."""
    try:
        document = json.loads(read_trusted(root, POSTED, _LARGEST))
        return {str(name): tuple(map(str, names)) for name, names in document["posted"].items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        return Unknown("guards placed before", trouble(error, POSTED))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        said = f"{POSTED}: {type(error).__name__}: {error}"[:300]
        return Unknown("guards placed before", said, garbled=True)


def write_posted(root: Root, posted: Posted) -> None:
    """Remember these. Raises OSError."""
    path = root.outside(POSTED)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    document = {"schema": 1, "posted": {name: list(names) for name, names in posted.items()}}
    put_copy(io.BytesIO(json.dumps(document, indent=2, sort_keys=True).encode()), path)
