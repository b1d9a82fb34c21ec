"""What is compiled into the finished module is compared with the kernel that it is for."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from builders import (
    OLD,
    K,
    a_build,
    a_dkms_module,
    a_kernel,
    a_map,
    a_module_file,
    a_null,
    a_pair,
    a_pointer,
    a_policy,
    a_profile,
    a_stub_map,
    an_index,
    an_inventory,
    by_code,
    found,
    some_headers,
    with_pointers,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    DkmsModule,
    Kernel,
    KernelConfig,
    KernelRelease,
    MissingFile,
    Pointer,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.policy import Policy

TWO_POINTERS = a_profile(pointers={"p_get": "hidden_get", "p_put": "hidden_put"})
RIGHT_PUT = a_pointer("p_put", addend=0x5000)


# ---- pointers


@pytest.mark.parametrize(
    ("pointers", "expected"),
    [
        ((a_pointer(), RIGHT_PUT), []),
        ((a_null(), RIGHT_PUT), ["hold map-pointers-missing"]),
        ((a_null(), a_null("p_put")), ["hold map-pointers-missing"]),
        ((a_pointer(addend=0x4010), RIGHT_PUT), ["hold map-pointers-wrong"]),
        (
            (a_null(), a_pointer("p_put", addend=0x5010)),
            ["hold map-pointers-missing", "hold map-pointers-wrong"],
        ),
        # Some versions of a module have fewer of them.
        ((a_pointer(),), []),
        # A bare address, as a build without KASLR has it.
        ((Pointer("p_get", ".data", None, 0, 0x5000),), []),
        ((Pointer("p_get", ".data", None, 0, 0x5010),), ["hold map-pointers-wrong"]),
        # Relative to a symbol whose address was not found: nothing to compare with.
        ((a_pointer(symbol="gone"),), []),
        # Below the reference: the addition wraps round at 64 bits.
        ((a_pointer(addend=0x4000 - (1 << 64)),), []),
    ],
)
def test_pointers_are_compared_with_the_real_map(
    pointers: tuple[Pointer, ...], expected: list[str]
) -> None:
    inventory = an_inventory(modules=(with_pointers(*pointers),))
    assert found(inventory, a_policy(TWO_POINTERS)) == expected


def test_a_zero_for_a_symbol_that_this_kernel_lacks_is_right() -> None:
    """Dattobd on 6.1: four of its twelve."""
    kernel = a_kernel(maps=(a_map(addresses={"kfree": 0x1000, "hidden_get": 0x5000}),))
    inventory = an_inventory(kernel, modules=(with_pointers(a_pointer(), a_null("p_put")),))
    assert found(inventory, a_policy(TWO_POINTERS)) == []


@pytest.mark.parametrize("maps", [(), (a_stub_map(),)], ids=["no map", "a stub map"])
@pytest.mark.parametrize(
    ("pointers", "more"),
    [
        ((a_null(), a_null("p_put")), ["hold map-pointers-missing"]),
        ((a_pointer(), a_null("p_put")), []),
        ((), []),
    ],
    ids=["all zero", "one zero", "no such variable"],
)
def test_without_a_real_map_only_all_zeros_are_told(
    maps: Any, pointers: tuple[Pointer, ...], more: list[str]
) -> None:
    inventory = an_inventory(a_kernel(maps=maps), modules=(with_pointers(*pointers),))
    assert found(inventory, a_policy(TWO_POINTERS)) == [*more, "warn map-unusable"]


def test_the_first_real_map_counts_behind_a_stub() -> None:
    real = a_map(path=f"/lib/modules/{K}/build/System.map")
    inventory = an_inventory(
        a_kernel(maps=(a_stub_map(), real)), modules=(with_pointers(a_pointer()),)
    )
    assert found(inventory, a_policy(a_profile())) == []


def test_another_module_of_the_same_package_has_no_pointers_to_compare() -> None:
    helper = a_pair("helper", pointers={"p_get": a_null()})
    pairs = (a_pair(pointers={"p_get": a_pointer()}), helper)
    module = a_dkms_module(builds=(a_build(pairs=pairs),))
    inventory = an_inventory(
        a_kernel(index=an_index("tracker", "helper")),
        modules=(module,),
    )
    assert found(inventory, a_policy(a_profile())) == []


def test_the_built_file_is_judged_where_none_is_installed() -> None:
    pair = a_pair(pointers={"p_get": a_null()}, installed=MissingFile("/lib/modules/gone.ko"))
    module = a_dkms_module(builds=(a_build(pairs=(pair,)),))
    assert found(an_inventory(modules=(module,)), a_policy(a_profile())) == [
        "hold file-missing",
        "hold map-pointers-missing",
    ]


@pytest.mark.parametrize(
    ("pointer", "kernel", "shown"),
    [
        (a_null(), a_kernel(), "p_get is zero; hidden_get is at 0x5000 in /boot/System.map-"),
        (a_pointer(addend=0x4010), a_kernel(), "p_get is kfree+0x4010; hidden_get is at 0x5000"),
        (a_pointer(addend=-0x10), a_kernel(), "p_get is kfree-0x10"),
        (Pointer("p_get", ".data", None, 0, 0x77), a_kernel(), "p_get is 0x77; hidden_get"),
        (a_null(), a_kernel(maps=()), "p_get is zero"),
    ],
)
def test_the_evidence_shows_what_a_pointer_holds_and_ought_to(
    pointer: Pointer, kernel: Kernel, shown: str
) -> None:
    inventory = an_inventory(kernel, modules=(with_pointers(pointer),))
    findings = by_code(diagnose(inventory, a_policy(a_profile())))
    told = next(each for code, each in findings.items() if code.startswith("map-pointers"))
    assert told.evidence[0].what.startswith(shown)


# ---- what it imports


def importing(imports: dict[str, Optional[int]], **changes: Any) -> DkmsModule:
    pairs = (a_pair(imports=imports, **changes),)
    return a_dkms_module(builds=(a_build(pairs=pairs),))


def exporting(name: str, exports: dict[str, Optional[int]], release: Any = K) -> DkmsModule:
    build = a_build(release, name=name, pairs=(a_pair(name, release, exports=exports),))
    return a_dkms_module(name, builds=(build,))


GOOD = {"module_layout": 0xA1, "kfree": 0xB2}
OTHER_KFREE = {"module_layout": 0xA1, "kfree": 0xFF}
NO_MODVERSIONS = KernelConfig("/boot/config", {"MODVERSIONS": "n"})


@pytest.mark.parametrize(
    ("kernel", "imports", "expected"),
    [
        (a_kernel(), GOOD, []),
        (a_kernel(), OTHER_KFREE, ["hold symbol-crc-mismatch"]),
        (a_kernel(), {"module_layout": 1, "kfree": 2}, ["hold symbol-crc-mismatch"]),
        # Headers of another revision: the image's own modules know better, either way.
        (a_kernel(headers=some_headers(crcs=OTHER_KFREE), witness_crcs=GOOD), GOOD, []),
        (
            a_kernel(headers=some_headers(crcs=OTHER_KFREE), witness_crcs=GOOD),
            OTHER_KFREE,
            # With these headers it would only be built wrong again.
            ["hold symbol-crc-mismatch", "hold headers-missing"],
        ),
        (a_kernel(headers=None), OTHER_KFREE, ["warn headers-missing"]),
        (
            a_kernel(headers=None, witness_crcs=GOOD),
            OTHER_KFREE,
            ["hold symbol-crc-mismatch", "hold headers-missing"],
        ),
        (a_kernel(config=NO_MODVERSIONS), OTHER_KFREE, []),
        (a_kernel(config=None), OTHER_KFREE, ["hold symbol-crc-mismatch"]),
        (a_kernel(), {**GOOD, "kfree": None}, []),
        (a_kernel(), {**GOOD, "gone": 3}, ["hold symbol-unknown"]),
        (a_kernel(), {**GOOD, "gone": None}, ["hold symbol-unknown"]),
        # A symbol that only a witness knows exists.
        (a_kernel(witness_crcs={**GOOD, "late": 3}), {**GOOD, "late": 3}, []),
        # No list of all symbols: none can be called unknown.
        (a_kernel(headers=some_headers(symvers_path=None, crcs={})), {**GOOD, "gone": 3}, []),
    ],
)
def test_imports_are_compared_with_the_kernels_own_crcs(
    kernel: Kernel, imports: dict[str, Optional[int]], expected: list[str]
) -> None:
    assert found(an_inventory(kernel, modules=(importing(imports),))) == expected


def test_a_symvers_that_cannot_be_read_is_a_blind_spot_and_proves_nothing_wrong() -> None:
    headers = some_headers(crcs=Unknown("Module.symvers", "line 3 is damaged", garbled=True))
    module = importing({**GOOD, "gone": 3})
    inventory = an_inventory(a_kernel(headers=headers), modules=(module,))
    assert found(inventory) == ["hold could-not-look"]


@pytest.mark.parametrize(
    ("other", "imports", "expected"),
    [
        (exporting("spl", {"spl_get": 7}), {**GOOD, "spl_get": 7}, []),
        (exporting("spl", {"spl_get": None}), {**GOOD, "spl_get": 7}, []),
        (exporting("spl", {"spl_get": 7}, OLD), {**GOOD, "spl_get": 7}, ["hold symbol-unknown"]),
        # A package that brings its own cfg80211 has its own CRCs for it.
        (exporting("backport", {"kfree": 0xFF}), OTHER_KFREE, []),
        (exporting("backport", {"kfree": None}), OTHER_KFREE, []),
        (exporting("backport", {"kfree": 0x77}), OTHER_KFREE, ["hold symbol-crc-mismatch"]),
    ],
    ids=[
        "another dkms module exports it",
        "without a CRC",
        "on another kernel only",
        "in place of the kernel's",
        "in place of the kernel's, without a CRC",
        "but another version of it",
    ],
)
def test_exports_of_other_dkms_modules_count(
    other: DkmsModule, imports: dict[str, Optional[int]], expected: list[str]
) -> None:
    """Other findings about the other module are not the point here."""
    kernel = a_kernel(index=an_index("tracker", other.name))
    inventory = an_inventory(kernel, modules=(importing(imports), other))
    findings = diagnose(inventory, Policy())
    told = [f"{each.severity.value} {each.code}" for each in findings if each.module == "tracker"]
    assert told == expected


def test_many_wrong_symbols_are_listed_short() -> None:
    crcs = {f"symbol_{number}": number for number in range(9)}
    kernel = a_kernel(headers=some_headers(crcs=crcs), witness_crcs={})
    module = importing({name: crc + 100 for name, crc in crcs.items()})
    told = by_code(diagnose(an_inventory(kernel, modules=(module,)), Policy()))
    mismatch = told["symbol-crc-mismatch"]
    assert len(mismatch.evidence) == 4
    assert "symbol_3 and 5 more" in mismatch.explanation
    assert "module has 0x00000064, kernel 0x00000000" in mismatch.evidence[0].what


# ---- vermagic

OTHER_MAGIC = f"{OLD} SMP preempt mod_unload modversions "
OTHER_MAGIC_NO_CRCS = f"{OLD} SMP preempt mod_unload "


@pytest.mark.parametrize(
    ("vermagic", "imports", "weak_from", "expected"),
    [
        (OTHER_MAGIC, GOOD, None, ["warn vermagic-mismatch"]),
        (OTHER_MAGIC, GOOD, str(OLD), ["info vermagic-mismatch"]),
        (OTHER_MAGIC, OTHER_KFREE, None, ["hold symbol-crc-mismatch", "hold vermagic-mismatch"]),
        (OTHER_MAGIC, {**GOOD, "kfree": None}, None, ["hold vermagic-mismatch"]),
        (OTHER_MAGIC, {}, None, ["hold vermagic-mismatch"]),
        (OTHER_MAGIC_NO_CRCS, GOOD, None, ["hold vermagic-mismatch"]),
        (OTHER_MAGIC_NO_CRCS, GOOD, str(OLD), ["hold vermagic-mismatch"]),
        ("", GOOD, None, []),
    ],
)
def test_vermagic_decides_only_where_crcs_do_not(
    vermagic: str,
    imports: dict[str, Optional[int]],
    weak_from: Optional[str],
    expected: list[str],
) -> None:
    pairs = (a_pair(vermagic=vermagic, imports=imports),)
    module = a_dkms_module(builds=(a_build(pairs=pairs, weak_from=weak_from),))
    assert found(an_inventory(modules=(module,))) == expected


def test_a_release_that_begins_like_another_is_another() -> None:
    release = KernelRelease("6.1.0-4")
    file = a_module_file(release=release, vermagic="6.1.0-48 SMP ")
    pair = replace(a_pair(release=release), installed=file, built=file)
    module = a_dkms_module(builds=(a_build(release, pairs=(pair,)),))
    inventory = an_inventory(
        a_kernel(release), modules=(module,), running=release, next_boot=release
    )
    assert found(inventory) == ["hold vermagic-mismatch"]


def test_a_map_that_may_not_be_read_is_not_taken_for_a_stub() -> None:
    trouble = Unknown("/boot/System.map", "Permission denied")
    inventory = an_inventory(a_kernel(maps=(), map_trouble=trouble))
    assert found(inventory) == ["hold could-not-look"]


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("kernel/drivers/vendor.ko", ["hold symbol-unknown"]),
        ("updates/dkms/vendor.ko", ["hold symbol-unknown"]),
        ("extra/vendor.ko", []),
    ],
)
def test_a_symbol_may_come_from_a_module_that_nobody_here_knows(
    place: str, expected: list[str]
) -> None:
    index = an_index("tracker", "vendor")
    index = replace(index, paths={**index.paths, "vendor": place})
    pair = a_pair(imports={"kfree": 0xB2, "vendor_call": 0xC3}, depends=("vendor",))
    module = a_dkms_module(builds=(a_build(pairs=(pair,)),))
    assert found(an_inventory(a_kernel(index=index), modules=(module,))) == expected
