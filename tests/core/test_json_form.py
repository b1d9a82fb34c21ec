"""Everything that is printed as JSON is JSON, and has the documented fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from builders import (
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_module_file,
    a_pair,
    an_inventory,
    headers_only,
)
from kernward.core.catalogue import KINDS
from kernward.core.diagnose import diagnose
from kernward.core.doctor import examine
from kernward.core.facts import Inventory, MissingFile, Signature, Unknown
from kernward.core.json_form import (
    check_dict,
    doctor_dict,
    explain_dict,
    inventory_dict,
    plan_dict,
    report_dict,
    timeline_dict,
)
from kernward.core.outcomes import Outcome, Report, StepResult
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.timeline import story
from kernward.core.verdict import verdict

DARK = Unknown("/dark", "Permission denied")
UNSOUND = an_inventory(modules=(a_dkms_module(builds=(a_build(began=50),)),))
SIGNED = a_module_file(signature=Signature("the key", "sha256", "aa", b"\x30", b"\x02"))
DIM = an_inventory(
    a_kernel(headers=DARK, initramfs=DARK, index=DARK, config=DARK, packages=DARK, events=DARK),
    headers_only(image=None),
    modules=(
        a_dkms_module(
            conf=DARK,
            builds=(
                a_build(
                    log=DARK,
                    build_times=(),
                    pairs=(
                        a_pair(built=MissingFile("/gone"), installed=DARK),
                        a_pair("signed", installed=SIGNED),
                    ),
                ),
            ),
        ),
    ),
    dkms=DARK,
    loaded=DARK,
    trust=DARK,
    next_boot=DARK,
    running=None,
)
BLIND = an_inventory(modules=DARK)


def checked(inventory: Inventory) -> Any:
    findings = diagnose(inventory, Policy())
    return json.loads(json.dumps(check_dict(inventory, findings, verdict(findings))))


@pytest.mark.parametrize("inventory", [an_inventory(), UNSOUND, DIM, BLIND])
def test_a_check_has_the_documented_fields(inventory: Inventory) -> None:
    told = checked(inventory)
    assert {"schema", "host", "kernels", "modules", "findings", "verdict"} <= told.keys()
    assert told["schema"] == 1
    assert set(told["verdict"]) == {"state", "reasons"}
    assert told.keys() >= json.loads(json.dumps(inventory_dict(inventory))).keys()


def test_a_finding_has_the_documented_fields() -> None:
    (found,) = checked(UNSOUND)["findings"]
    assert {
        *("code", "severity", "kernel", "module", "version"),
        *("summary", "explanation", "next_step", "evidence"),
    } <= found.keys()
    assert (found["code"], found["severity"]) == ("headers-before-image", "hold")
    assert found["kernel"] == str(K)
    assert found["evidence"][1] == {
        "what": f"linux-image-{K} 6.1-1 unpacked",
        "when": "2023-11-14T22:15:00Z",
        "precision_s": 1.0,
        "source": "/var/log/dpkg.log",
    }
    assert found["evidence"][2]["when"] is None


def test_what_was_not_seen_is_null_or_unknown_and_listed() -> None:
    told = checked(DIM)
    kernel = told["kernels"][0]
    assert kernel["headers"] is kernel["config"] is kernel["initramfs"] is None
    assert told["host"]["running"] is told["host"]["next_boot"] is told["host"]["dkms"] is None
    assert {"what": "/dark", "reason": "Permission denied"} in told["unknown"]
    build = told["modules"][0]["builds"][0]
    assert build["began"] is build["log"] is None
    (pair, signed) = build["files"]
    assert (pair["built"]["state"], pair["installed"]["state"]) == ("missing", "unknown")
    assert signed["installed"]["signer"] == "the key"
    assert checked(BLIND)["modules"] == []


def test_what_was_seen_is_told() -> None:
    told = checked(an_inventory())
    (kernel,) = told["kernels"]
    assert kernel["running"] is kernel["next"] is kernel["bootable"] is True
    assert kernel["map"] == f"/boot/System.map-{K}"
    assert [each["roles"] for each in kernel["packages"]] == [
        ["image", "map", "modules"],
        ["headers"],
    ]
    assert told["host"]["loaded_modules"] == 1
    assert told["modules"][0]["builds"][0]["files"][0]["installed"]["state"] == "present"


def test_a_plan_has_the_documented_fields() -> None:
    inventory = an_inventory(
        a_kernel(headers=None, index=None), modules=(a_dkms_module(builds=()), a_dkms_module("b"))
    )
    result = plan(diagnose(inventory, Policy()), inventory, Policy())
    (step,) = result.steps
    told = json.loads(json.dumps(plan_dict(result, {step: ("depmod", str(K))})))
    assert told["schema"] == 1
    assert told["steps"] == [
        {
            "kind": "depmod",
            "kernel": str(K),
            "module": None,
            "version": None,
            "modules": ["b"],
            "because": ["depmod-stale"],
            "command": ["depmod", str(K)],
        }
    ]
    assert {"headers-missing"} <= {each["code"] for each in told["unfixable"]}
    assert all(each["reason"] for each in told["unfixable"])


def test_a_report_tells_before_each_step_and_after() -> None:
    findings = diagnose(UNSOUND, Policy())
    planned = plan(findings, UNSOUND, Policy())
    results = tuple(
        StepResult(step, Outcome.FAILED, "it failed", 0.12345, ("last line",), log)
        for step, log in zip(planned.steps, ("/log", "", ""), strict=True)
    )
    report = Report(findings, planned, results, (), verdict(()))
    told = json.loads(json.dumps(report_dict(report)))
    assert [each["code"] for each in told["before"]] == ["headers-before-image"]
    assert [each["log"] for each in told["results"]] == ["/log", None, None]
    assert told["results"][0]["seconds"] == 0.123
    assert (told["findings"], told["verdict"]["state"]) == ([], "open")


def test_a_story_has_times_and_sources() -> None:
    inventory = an_inventory()
    kernel = inventory.kernels[0]
    told = json.loads(json.dumps(timeline_dict(kernel, story(inventory, kernel))))
    assert told["kernel"] == str(K)
    assert all({"what", "when", "precision_s", "source"} <= each.keys() for each in told["events"])
    assert told["events"] == sorted(told["events"], key=lambda each: each["when"][:19])


@pytest.mark.parametrize("code", KINDS)
def test_each_code_explained(code: str) -> None:
    told = explain_dict(code)
    assert told["code"] == code
    assert all(told[key] for key in ("severity", "summary", "explanation", "next_step"))


def test_requirements_as_json() -> None:
    told = json.loads(
        json.dumps(doctor_dict(examine(an_inventory(), Policy(), is_root=True, unfinished=())))
    )
    assert {each["state"] for each in told["requirements"]} == {"ok"}
