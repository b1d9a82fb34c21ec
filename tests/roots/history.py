"""What dpkg's log says happened: by this a scenario shows that it is what it claims to be."""

from __future__ import annotations

from roots.live import LiveRoot

_LOG = "/var/log/dpkg.log"


def unpacked(host: LiveRoot, package: str) -> int:
    """The line that tells that the files of a package came into place, the last time.

    dpkg writes the same words again before it configures the package.
    """
    begun = last_line(host, f"status half-installed {package}:")
    done = (number for number, line in _lines(host) if f" status unpacked {package}:" in line)
    return next(number for number in done if number > begun)


def configured(host: LiveRoot, package: str) -> int:
    """The line that tells that a package was configured, the last time."""
    return last_line(host, f"status installed {package}:")


def last_line(host: LiveRoot, words: str) -> int:
    """The number of the last line of dpkg.log with these words after the time."""
    numbers = [number for number, line in _lines(host) if f" {words}" in line]
    assert numbers, f"dpkg.log has no line with: {words}"
    return numbers[-1]


def _lines(host: LiveRoot) -> list[tuple[int, str]]:
    return list(enumerate((host / _LOG).read_text().splitlines()))
