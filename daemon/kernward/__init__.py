"""kernward keeps hosts with out-of-tree kernel modules sound across kernel updates.

The pipeline, one arrow per stage (``cycle.py`` tells it in order)::

    inventory ──▶ diagnose ──▶ plan ──▶ execute ──▶ inventory ──▶ diagnose ──▶ verdict

Stages read and act; ``core`` decides and touches nothing; ``tools`` know one outside thing each.
"""

__version__ = "0.1.0"
