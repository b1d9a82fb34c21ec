"""Which findings become incidents, and which earlier ones a look shows to be over."""

from __future__ import annotations

from builders import OLD, K, a_policy, at
from kernward.core.diagnose.subject import finding
from kernward.core.incidents import over, sightings
from kernward.core.nouns import replace
from kernward.core.policy import Policy
from kernward.core.records import Incident


def an_incident(code: str = "not-built", kernel: str = str(K), module: str = "tracker") -> Incident:
    return Incident(code, kernel, module, "1.0", "hold", "x", at(1), at(2))


def test_what_holds_or_warns_is_kept_once_for_each_key() -> None:
    broken = finding("not-built", kernel=K, module="tracker", version="1.0")
    again = replace(broken, explanation="another")
    noted = finding("leftover-tree", module="tracker", version="0.9")
    warned = finding("space-low", detail_path="/boot", detail_command="")
    kept = sightings([broken, again, noted, warned], at(5))
    assert [(each.key, each.severity) for each in kept] == [
        (("not-built", str(K), "tracker", "1.0"), "hold"),
        (("space-low", "", "", ""), "warn"),
    ]
    assert (kept[0].first_seen_ns, kept[0].last_seen_ns, kept[0].resolved_ns) == (
        at(5),
        at(5),
        None,
    )
    assert kept[0].summary == f"tracker is not built for {K}"


def test_what_is_not_seen_any_more_is_over() -> None:
    old, other = an_incident(), an_incident(module="other")
    assert over([old, other], [old], Policy()) == (other,)


def test_a_look_at_one_kernel_or_module_tells_nothing_of_the_rest() -> None:
    here, there = an_incident(), an_incident(kernel=str(OLD))
    assert over([here, there], [], a_policy(kernels=(K,))) == (here,)
    assert over([here, there], [], a_policy(modules=("other",))) == ()


def test_nothing_is_over_in_a_blind_spot() -> None:
    here, there = an_incident(), an_incident(kernel=str(OLD))
    blind = an_incident("could-not-look", module="")
    assert over([here, there], [blind], Policy()) == (there,)
    assert over([here, there], [replace(blind, kernel="")], Policy()) == ()
    assert over(
        [here, an_incident(module="other")], [replace(blind, module="other")], Policy()
    ) == (here,)
