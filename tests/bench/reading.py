"""How long a look takes beside ``dkms status``, and how that grows."""

from __future__ import annotations

from collections.abc import Iterator

from bench.crowd import KERNELS, MODULES, crowded, drop_images, releases
from bench.installed import Entry, Timed, first_check, install, second_check, timed
from bench.table import Row, faster, seconds
from roots.states import Host

_FIRST_AT_LEAST, _SECOND_AT_LEAST = 15, 60
_MOST_MIB = 80
# Twice the kernels or modules may take twice the time, and a little for what a busy machine adds.
_MOST_FOR_TWICE = 2.4
_SMALLER = ((5, 5), (5, 10))
_STATUS_RUNS, _CHECK_RUNS = 3, 7


def rows() -> Iterator[Row]:
    """The comparison on the whole root, then the smaller ones."""
    with crowded() as host:
        install(host)
        _see_that_all_is_sound(host)
        status, first, second = timed(
            host,
            (
                Entry(("dkms", "status"), _STATUS_RUNS),
                first_check(host, _CHECK_RUNS),
                second_check(host, _CHECK_RUNS),
            ),
        )
        drop_images(host)
        _see_that_all_is_sound(host)
        # What `dkms status` does, and every .ko read besides. The images are on top of that.
        (lean,) = timed(host, (first_check(host, _CHECK_RUNS),))
    size = f"{KERNELS} kernels, {len(MODULES)} modules"
    yield faster(
        f"`dkms status`; first `kernward check`, no initramfs images ({size})",
        status.seconds,
        lean.seconds,
        _FIRST_AT_LEAST,
    )
    yield faster(
        f"the same; first check, {KERNELS} images of `MODULES=most` opened as well",
        status.seconds,
        first.seconds,
        _FIRST_AT_LEAST,
    )
    yield faster(
        "the same; second check, with images, nothing changed",
        status.seconds,
        second.seconds,
        _SECOND_AT_LEAST,
    )
    for what, look in (("first", first), ("second", second)):
        yield Row(
            f"processor time of the same; of the {what} check",
            seconds(status.processor_s),
            seconds(look.processor_s),
            f"{status.processor_s / look.processor_s:.1f}",
            "",
        )
    yield Row(
        "largest resident set; of the first check",
        f"{status.peak_mib:.0f} MiB",
        f"{first.peak_mib:.0f} MiB",
        "",
        f"under {_MOST_MIB} MiB",
        first.peak_mib < _MOST_MIB,
    )
    yield from _growth(first, second)


def _see_that_all_is_sound(host: Host) -> None:
    """Both tools have to see the same: a hundred builds, and nothing wrong with any."""
    status = host.dkms_status()
    installed = [line for line in status if line.endswith(": installed")]
    assert len(installed) == len(status) == KERNELS * len(MODULES), status
    found = host.asked("check")
    assert found["verdict"]["state"] == "open", found["verdict"]
    assert found["findings"] == [], found["findings"]


def _growth(first: Timed, second: Timed) -> Iterator[Row]:
    before = None
    for kernels, modules in (*_SMALLER, (KERNELS, len(MODULES))):
        whole = (kernels, modules) == (KERNELS, len(MODULES))
        looks = (first, second) if whole else _looks(kernels, modules)
        # By processor time: the roots are measured one after the other, in other minutes.
        grown = looks[0].processor_s / before if before else 0.0
        yield Row(
            f"processor time of a first; second check ({kernels} kernels, {modules} modules)",
            seconds(looks[0].processor_s),
            seconds(looks[1].processor_s),
            f"{grown:.1f}" if before else "",
            f"at most {_MOST_FOR_TWICE:g} for twice as many" if before else "",
            grown <= _MOST_FOR_TWICE,
        )
        before = looks[0].processor_s


def _looks(kernels: int, modules: int) -> tuple[Timed, Timed]:
    with crowded(kernels, modules) as host:
        assert len(releases(host)) == kernels
        install(host)
        entries = (first_check(host, _CHECK_RUNS), second_check(host, _CHECK_RUNS))
        first, second = timed(host, entries)
    assert (first.code, second.code) == (0, 0), "not sound"
    return first, second
