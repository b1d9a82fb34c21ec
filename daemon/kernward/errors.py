"""The few ways in which a stage can fail to do its own work.

An unsound machine is not an error (that is a finding), nor is a tool that could not do its step
(that is a step result). Every error carries a hint: what the reader can type or change.
"""

from __future__ import annotations


class KernwardError(Exception):
    """Something the current stage cannot express as a value; ``hint`` says what to do about it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ToolMissingError(KernwardError):
    """A program that the work needs is not installed."""


class ToolTimedOutError(KernwardError):
    """A program was stopped because it ran over its limit; its whole process group is gone."""


class ToolStoppedError(KernwardError):
    """A program was stopped because the work as a whole is; its whole process group is gone."""


class OutputNotUnderstoodError(KernwardError):
    """A program or file says something that we cannot read."""


class SettingsInvalidError(KernwardError):
    """A settings file, profile or option cannot be used as written."""


class LockHeldError(KernwardError):
    """Somebody else is at work; the message names the holder."""


class NotBegunError(KernwardError):
    """A pass did not come as far as to say a word: nothing was tried."""
