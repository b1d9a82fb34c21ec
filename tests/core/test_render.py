"""Text for people: at most 100 columns, every particular in it."""

from __future__ import annotations

from typing import Any

import pytest

from builders import (
    IMAGE,
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_module_file,
    a_moment,
    a_pair,
    a_policy,
    a_stub_map,
    an_inventory,
    at,
    headers_only,
    removed,
)
from kernward.core.catalogue import KINDS
from kernward.core.diagnose import diagnose
from kernward.core.facts import MissingFile, Unknown
from kernward.core.outcomes import Outcome, Report, State, StepResult, Verdict
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.render import (
    explain_lines,
    finding_lines,
    inventory_lines,
    iso,
    nagios_exit,
    nagios_line,
    plan_lines,
    report_line,
    step_text,
    timeline_lines,
    verdict_line,
)
from kernward.core.steps import Plan, Step, StepKind
from kernward.core.timeline import Entry, story
from kernward.core.verdict import verdict

UNSOUND = an_inventory(modules=(a_dkms_module(builds=(a_build(began=50),)),))
BROKEN = an_inventory(a_kernel(headers=None), modules=(a_dkms_module(builds=(a_build(began=50),)),))


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (at(0), "2023-11-14T22:13:20Z"),
        (at(0) + 1, "2023-11-14T22:13:20.000000001Z"),
        (0, "1970-01-01T00:00:00Z"),
    ],
)
def test_times_are_utc_with_as_many_digits_as_there_are(ns: int, text: str) -> None:
    assert iso(ns) == text


def test_a_finding_tells_what_why_what_was_seen_and_what_next() -> None:
    (found,) = diagnose(UNSOUND, Policy())
    lines = list(finding_lines(found))
    text = " ".join(" ".join(lines).split())
    assert lines[0].startswith("hold  headers-before-image  tracker was built for")
    assert max(map(len, lines)) <= 100
    assert found.explanation in text
    assert f"2023-11-14 22:15:00~ {IMAGE} 6.1-1 unpacked [/var/log/dpkg.log]" in text
    assert "2023-11-14 22:14:10 build of tracker began" in text
    assert f"Next: {found.next_step}" in text


@pytest.mark.parametrize("code", KINDS)
def test_each_code_can_be_explained(code: str) -> None:
    lines = list(explain_lines(code))
    assert lines[0] == f"{code}  ({KINDS[code].severity.value})"
    assert len(lines) >= 4
    assert not set("{}") & set("".join(lines))
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("state", "reasons", "line"),
    [
        (State.OPEN, 0, "sound: 2 dkms modules on 1 bootable kernel, nothing holds"),
        (State.HELD, 1, "held: 2 dkms modules on 1 bootable kernel, 1 reason above"),
        (
            State.UNKNOWN,
            2,
            "unknown: 2 dkms modules on 1 bootable kernel, not everything could be looked at",
        ),
    ],
)
def test_the_last_line_of_a_check(state: State, reasons: int, line: str) -> None:
    assert verdict_line(Verdict(state, ("r",) * reasons), 1, 2) == line


def test_a_plan_is_numbered_with_reasons_and_commands() -> None:
    result = plan(diagnose(UNSOUND, Policy()), UNSOUND, Policy())
    depmod = result.steps[-1]
    lines = list(plan_lines(result, {depmod: ("depmod", str(K))}))
    assert lines == [
        f"  1. build tracker 1.0 for {K}, beside the tree of dkms  (headers-before-image)",
        f"  2. verify the new tracker 1.0 and put it in place on {K}  (headers-before-image)",
        f"  3. index the modules of {K}  (headers-before-image)",
        f"       $ depmod {K}",
    ]


def test_what_a_person_must_do_is_told_with_the_plan() -> None:
    lines = list(plan_lines(plan(diagnose(BROKEN, Policy()), BROKEN, Policy()), {}))
    assert lines[0] == "nothing to do"
    assert lines[1].startswith(f"  !  headers that fit {K} are not installed.")


@pytest.mark.parametrize("kind", StepKind)
def test_each_kind_of_step_has_words(kind: StepKind) -> None:
    about_kernel = {StepKind.DEPMOD, StepKind.INITRAMFS, StepKind.LOAD, StepKind.INITRAMFS_ENTRY}
    version = None if kind in about_kernel else "1.0"
    words = step_text(Step(kind, K, ("tracker",), version, (), ("track_mod",)))
    assert "None" not in words
    assert any(each in words for each in ("tracker", "track_mod", str(K)))


def test_a_story_fits_the_screen_and_names_the_kernel_once() -> None:
    kernel = a_kernel(events=(removed(IMAGE, "6.1-1" * 30, at=1),))
    inventory = an_inventory(kernel)
    lines = list(timeline_lines(kernel, story(inventory, kernel)))
    assert max(map(len, lines)) <= 100
    assert [line for line in lines if str(K) in line] == lines[:1]
    assert any(line.strip() == "[dpkg.log]" for line in lines)
    assert "22:13:21~ " in lines[1]


def test_an_empty_story_says_so() -> None:
    assert list(timeline_lines(a_kernel(), ()))[1:] == ["no record tells anything of it"]


def test_a_short_story_is_not_padded_wide() -> None:
    lines = list(timeline_lines(a_kernel(), [Entry(a_moment(0, 0, "there"), "it began")]))
    assert lines[1] == "2023-11-14 22:13:20      it began  there"


def test_the_inventory_has_a_line_for_each_thing() -> None:
    pairs = (
        a_pair(installed=MissingFile("/gone")),
        a_pair("dark", installed=Unknown("/dark", "no")),
        a_pair("other", installed=a_module_file(content="other")),
        a_pair("same"),
        a_pair("copyless", built=MissingFile("/gone")),
    )
    modules = (
        a_dkms_module(builds=(a_build(pairs=pairs, original_module=True), a_build(OLD))),
        a_dkms_module("forgotten", registered=False, builds=()),
    )
    inventory = an_inventory(
        headers_only(OLD, headers=None),
        a_kernel(maps=(a_stub_map(),), config=Unknown("config", "not allowed")),
        modules=modules,
        dkms=None,
    )
    assert list(inventory_lines(inventory)) == [
        "host: Debian GNU/Linux 12 (bookworm), no dkms, initramfs by initramfs-tools",
        f"{OLD}  no image, no headers, no map, no initramfs",
        f"{K}  image, headers, stub map, initramfs, running, next boot",
        "tracker 1.0",
        f"    {K}  installed (tracker missing, dark unreadable, other differs, original module",
        "        kept)",
        f"    {OLD}  installed",
        "forgotten 1.0  (not known to dkms)",
        "could not look: config: not allowed",
    ]


def test_an_inventory_without_a_look_at_modules() -> None:
    lines = list(inventory_lines(an_inventory(modules=Unknown("/var/lib/dkms", "not allowed"))))
    assert lines[-1] == "could not look: /var/lib/dkms: not allowed"
    assert "real map" in lines[1]


# ---- monitoring


@pytest.mark.parametrize(
    ("inventory", "code", "begins"),
    [
        (an_inventory(), 0, "KERNWARD OK - 1 module sound | hold=0 warn=0 info=0"),
        (an_inventory(a_kernel(headers=None)), 1, "KERNWARD WARNING - headers that fit"),
        (UNSOUND, 2, "KERNWARD CRITICAL - tracker was built for"),
        (
            an_inventory(unknowns=(Unknown("a|b", "not allowed"),)),
            3,
            "KERNWARD UNKNOWN - could not look at a/b | hold=1",
        ),
    ],
)
def test_one_line_for_nagios(inventory: Any, code: int, begins: str) -> None:
    findings = diagnose(inventory, a_policy())
    assert nagios_exit(findings, verdict(findings)) == code
    line = nagios_line(findings, verdict(findings), 1, 1)
    assert line.startswith(begins)
    assert line.count("|") == 1
    assert line.endswith("kernels=1 modules=1")


# ---- after a repair

STEP = Step(StepKind.DEPMOD, K, ("tracker",), None, ("depmod-stale",))


@pytest.mark.parametrize(
    ("steps", "outcomes", "state", "line"),
    [
        ((), (), State.OPEN, "sound: nothing to repair"),
        ((STEP,), (), State.HELD, "held: nothing was done"),
        ((STEP,), (Outcome.DONE,), State.OPEN, "sound: 1 of 1 step done, nothing holds any more"),
        (
            (STEP,),
            (Outcome.DONE, Outcome.FAILED),
            State.HELD,
            "held: 1 of 2 steps done, 1 reason above",
        ),
        (
            (STEP,),
            (Outcome.SKIPPED,),
            State.UNKNOWN,
            "unknown: 0 of 1 step done, not everything could be looked at",
        ),
    ],
)
def test_the_last_line_of_a_repair(
    steps: tuple[Step, ...], outcomes: tuple[Outcome, ...], state: State, line: str
) -> None:
    results = tuple(StepResult(STEP, outcome, "", 1.0) for outcome in outcomes)
    report = Report((), Plan(steps), results, (), Verdict(state, ("one",)))
    assert report_line(report) == line
