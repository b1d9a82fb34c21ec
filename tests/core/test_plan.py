"""Findings become the fewest steps in the right order; what is sound is not touched."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Optional

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import (
    OLD,
    K,
    a_build,
    a_conf,
    a_dkms_module,
    a_file,
    a_kernel,
    a_loaded,
    a_module_file,
    a_null,
    a_pair,
    a_pointer,
    a_policy,
    a_profile,
    a_stub_map,
    an_index,
    an_initramfs,
    an_inventory,
    with_fallback,
    with_pointers,
)
from kernward.core.diagnose import diagnose
from kernward.core.facts import (
    DepmodIndex,
    DkmsBuild,
    DkmsModule,
    DkmsState,
    Initramfs,
    InitramfsTool,
    Inventory,
    Kernel,
    KernelRelease,
    LoadedModule,
    MissingFile,
    ModuleFile,
    Toolchain,
    Unknown,
)
from kernward.core.nouns import replace
from kernward.core.plan import plan
from kernward.core.policy import Policy
from kernward.core.steps import Plan, Step, StepKind

NEXT = KernelRelease("6.1.0-49-amd64")
GONE = MissingFile(f"/lib/modules/{K}/updates/dkms/tracker.ko")
DAMAGED = Unknown("/lib/modules/tracker.ko", "truncated", garbled=True)
WANTED = a_policy(in_initramfs=("tracker",))
LOAD = a_policy(load=("tracker",))
REBUILD = ["build", "swap", "depmod"]


def planned(inventory: Inventory, policy: Optional[Policy] = None) -> Plan:
    policy = policy or Policy()
    return plan(diagnose(inventory, policy), inventory, policy)


def kinds(inventory: Inventory, policy: Optional[Policy] = None) -> list[str]:
    return [step.kind.value for step in planned(inventory, policy).steps]


def words(steps: Sequence[Step]) -> list[str]:
    return [f"{step.kind.value} {' '.join(step.modules)} {step.kernel or ''}" for step in steps]


def early(name: str = "tracker", **changes: Any) -> DkmsModule:
    """Built before the image."""
    return a_dkms_module(name, builds=(a_build(began=50, name=name),), **changes)


def with_pair(**changes: Any) -> DkmsModule:
    return a_dkms_module(builds=(a_build(pairs=(a_pair(**changes),)),))


# ---- what each state calls for


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (a_dkms_module(), []),
        (early(), REBUILD),
        (a_dkms_module(builds=()), ["build", "swap", "install", "depmod"]),
        (a_dkms_module(builds=(a_build(state=DkmsState.BUILT),)), ["install", "depmod"]),
        (
            a_dkms_module(
                builds=(
                    a_build(state=DkmsState.BUILT, pairs=(a_pair(built=GONE, installed=GONE),)),
                )
            ),
            ["build", "swap", "install", "depmod"],
        ),
        # Built, not installed, and built too early at that.
        (
            a_dkms_module(builds=(a_build(began=50, state=DkmsState.BUILT),)),
            ["build", "swap", "install", "depmod"],
        ),
        (with_pair(installed=GONE), ["restore", "depmod"]),
        (with_pair(installed=DAMAGED), ["restore", "depmod"]),
        (with_pair(installed=a_module_file(content="other")), ["restore", "depmod"]),
        # No good copy to put back: it is built again.
        (with_pair(built=GONE), REBUILD),
        (with_pair(built=DAMAGED, installed=GONE), REBUILD),
        # Its own copy was changed after it was installed: that is the damaged one.
        (with_pair(built=a_module_file(content="other", times=a_file("b", mtime=900))), REBUILD),
        (a_dkms_module(builds=(a_build(pairs=()),)), REBUILD),
        (
            with_pair(
                built=a_module_file(imports={"kfree": 0xFF}),
                installed=a_module_file(content="other"),
            ),
            REBUILD,
        ),
        (
            a_dkms_module(builds=(a_build(began=50, pairs=(a_pair(installed=GONE),)),)),
            REBUILD,
        ),
        (
            a_dkms_module(registered=False, builds=()),
            ["register", "build", "swap", "install", "depmod"],
        ),
        (a_dkms_module(conf=a_conf(autoinstall=False), builds=()), []),
    ],
)
def test_what_is_done_for_one_module(module: DkmsModule, expected: list[str]) -> None:
    assert kinds(an_inventory(modules=(module,))) == expected


def test_a_copy_with_zero_pointers_is_not_put_back() -> None:
    pair = a_pair(
        built=a_module_file(pointers={"p_get": a_null()}),
        installed=a_module_file(content="other", pointers={"p_get": a_pointer()}),
    )
    module = a_dkms_module(builds=(a_build(pairs=(pair,)),))
    assert kinds(an_inventory(modules=(module,)), a_policy(a_profile())) == REBUILD


def test_a_stale_index_needs_depmod_alone() -> None:
    assert kinds(an_inventory(a_kernel(index=None))) == ["depmod"]


def test_what_is_only_for_the_record_is_left_alone() -> None:
    """A weak module names another kernel on purpose."""
    pair = a_pair(vermagic=f"{OLD} SMP modversions ")
    module = a_dkms_module(builds=(a_build(pairs=(pair,), weak_from=str(OLD)),))
    result = planned(an_inventory(modules=(module,)))
    assert result == Plan()


def test_steps_say_why() -> None:
    inventory = an_inventory(a_kernel(index=None), modules=(with_pointers(a_null(), began=50),))
    build, swap, depmod = planned(inventory, a_policy(a_profile())).steps
    why = ("headers-before-image", "map-pointers-missing", "depmod-stale")
    assert build.because == swap.because == depmod.because == why
    assert (build.module, build.version, build.kernel) == ("tracker", "1.0", K)
    assert (depmod.module, depmod.version) == (None, None)


# ---- versions


@pytest.mark.parametrize(
    ("newer", "expected"),
    [
        (a_dkms_module(version="1.10", builds=()), "1.10"),
        (a_dkms_module(version="1.0-2", builds=()), "1.0-2"),
        (
            a_dkms_module(
                version="2.0", builds=(), conf=a_conf(build_exclusive_kernel="^7"), owner=None
            ),
            None,
        ),
    ],
)
def test_a_newer_registered_version_is_built_and_installed(
    newer: DkmsModule, expected: Optional[str]
) -> None:
    steps = planned(an_inventory(modules=(a_dkms_module(), newer))).steps
    told = [(step.kind.value, step.version) for step in steps]
    if expected is None:
        assert told == []
    else:
        assert told == [
            ("build", expected),
            ("swap", expected),
            ("install", expected),
            ("depmod", None),
        ]


def test_a_rebuild_for_another_reason_keeps_the_version() -> None:
    newer = a_dkms_module(version="2.0", builds=(), conf=a_conf(build_exclusive_kernel="^7"))
    steps = planned(an_inventory(modules=(early(), newer))).steps
    assert {step.version for step in steps} == {"1.0", None}


# ---- order

TRIO = ("alpha", "beta", "gamma")


def trio(**depends: tuple[str, ...]) -> Inventory:
    modules = tuple(
        early(name, conf=a_conf(name, build_depends=depends.get(name, ()))) for name in TRIO
    )
    return an_inventory(a_kernel(index=an_index(*TRIO)), modules=modules)


@pytest.mark.parametrize(
    ("depends", "order"),
    [
        ({}, ["alpha", "beta", "gamma"]),
        ({"alpha": ("gamma",)}, ["beta", "gamma", "alpha"]),
        ({"alpha": ("beta",), "beta": ("gamma",)}, ["gamma", "beta", "alpha"]),
        # What needs no building, or is no dkms module, is not waited for.
        ({"alpha": ("sound", "alpha")}, ["alpha", "beta", "gamma"]),
        ({"alpha": ("beta",), "beta": ("alpha",)}, ["gamma", "alpha", "beta"]),
    ],
)
def test_builds_follow_build_depends(depends: Any, order: list[str]) -> None:
    steps = planned(trio(**depends)).steps
    assert [step.module for step in steps if step.kind is StepKind.BUILD] == order


def test_a_conf_that_cannot_be_read_depends_on_nothing() -> None:
    restorable = a_dkms_module(
        conf=Unknown("dkms.conf", "not allowed"), builds=(a_build(pairs=(a_pair(installed=GONE),)),)
    )
    assert kinds(an_inventory(modules=(restorable,))) == ["restore", "depmod"]


def test_one_depmod_and_one_initramfs_after_the_last_module_of_each_kernel() -> None:
    builds = [(a_build(name=name, began=50), a_build(OLD, name=name, began=50)) for name in TRIO]
    modules = tuple(
        a_dkms_module(name, builds=each) for name, each in zip(TRIO, builds, strict=True)
    )
    kernels = [
        a_kernel(release, index=an_index(*TRIO), initramfs=an_initramfs(release, alpha="old"))
        for release in (OLD, K)
    ]
    policy = a_policy(in_initramfs=("alpha", "beta"))
    steps = planned(
        an_inventory(*kernels, modules=modules, initramfs_entries=frozenset({"alpha"})), policy
    ).steps
    per_kernel = [
        *(f"{kind} {name}" for name in TRIO for kind in ("build", "swap")),
        "depmod alpha beta gamma",
        "initramfs alpha beta",
    ]
    assert words(steps[:1]) == ["initramfs-entry beta "]
    assert words(steps[1:]) == [f"{step} {release}" for release in (K, OLD) for step in per_kernel]
    entry = next(step for step in steps if step.kind is StepKind.INITRAMFS_ENTRY)
    assert entry.names == ("beta",)


def test_the_running_kernel_comes_first_then_the_next_then_the_newest() -> None:
    releases = [KernelRelease(f"6.1.0-{number}-amd64") for number in (9, 10, 47, 48, 49)]
    running, next_boot = releases[2], releases[3]
    inventory = an_inventory(
        *(a_kernel(release) for release in releases),
        modules=(a_dkms_module(builds=()),),
        running=running,
        next_boot=next_boot,
    )
    builds = [step.kernel for step in planned(inventory).steps if step.kind is StepKind.BUILD]
    assert builds == [running, next_boot, releases[4], releases[1], releases[0]]


def test_dependencies_are_indexed_before_the_module_is_loaded() -> None:
    inventory = an_inventory(modules=(early(),), loaded={})
    assert kinds(inventory, LOAD) == [*REBUILD, "load"]


# ---- initramfs


@pytest.mark.parametrize(
    ("initramfs", "policy", "entries", "expected"),
    [
        (an_initramfs(), WANTED, (), ["initramfs-entry", "initramfs"]),
        (an_initramfs(), WANTED, ("tracker",), ["initramfs"]),
        (an_initramfs(tracker="old"), Policy(), (), ["initramfs"]),
        (an_initramfs(tracker="old"), WANTED, ("tracker",), ["initramfs"]),
        (None, WANTED, ("tracker",), ["initramfs"]),
        (an_initramfs(), Policy(), (), []),
    ],
)
def test_an_initramfs_is_made_again_for_what_is_wanted_or_stale_in_it(
    initramfs: Any, policy: Policy, entries: tuple[str, ...], expected: list[str]
) -> None:
    inventory = an_inventory(a_kernel(initramfs=initramfs), initramfs_entries=frozenset(entries))
    assert kinds(inventory, policy) == expected


def test_a_unified_image_is_left_to_its_maker_who_is_told_what_to_put_in() -> None:
    unified = replace(an_initramfs(), path="/efi/EFI/Linux/machine-6.1.efi")
    inventory = an_inventory(a_kernel(initramfs=unified))
    made = plan(diagnose(inventory, WANTED), inventory, WANTED)
    assert [step.kind for step in made.steps] == [StepKind.INITRAMFS_ENTRY]
    (left,) = made.unfixable
    assert left.finding.code == "unified-image-unsound"
    assert "kernel-install add" in left.reason


@pytest.mark.parametrize(
    ("initramfs", "policy", "expected"),
    [
        (an_initramfs(), Policy(), REBUILD),
        (an_initramfs(tracker="signed good"), Policy(), [*REBUILD, "initramfs"]),
        (an_initramfs(), WANTED, ["initramfs-entry", *REBUILD, "initramfs"]),
        (Unknown("/boot/initrd.img", "cut short"), Policy(), REBUILD),
    ],
)
def test_a_module_that_will_change_takes_the_initramfs_along(
    initramfs: Any, policy: Policy, expected: list[str]
) -> None:
    assert (
        kinds(an_inventory(a_kernel(initramfs=initramfs), modules=(early(),)), policy) == expected
    )


def test_a_module_that_is_built_for_the_first_time_takes_the_initramfs_along() -> None:
    inventory = an_inventory(modules=(a_dkms_module(builds=()),))
    taken = kinds(inventory, WANTED)
    assert (taken[0], taken[-1]) == ("initramfs-entry", "initramfs")


def test_without_names_in_a_conf_no_initramfs_is_concerned() -> None:
    module = a_dkms_module(builds=(), conf=Unknown("dkms.conf", "not allowed"))
    assert kinds(an_inventory(modules=(module,)), WANTED) == []


def test_a_host_that_makes_no_initramfs_is_not_made_to() -> None:
    inventory = an_inventory(
        a_kernel(initramfs=None), modules=(early(),), initramfs_tool=InitramfsTool.NONE
    )
    assert kinds(inventory, WANTED) == REBUILD


# ---- loading


@pytest.mark.parametrize(
    ("loaded", "policy", "expected"),
    [
        ({}, LOAD, ["load"]),
        (MappingProxyType({}), LOAD, ["load"]),
        ({"tracker": a_loaded()}, LOAD, []),
        ({}, Policy(), []),
        (None, LOAD, []),
        (Unknown("/proc/modules", "not mounted"), LOAD, []),
        # Never unloaded because the file is another one now.
        ({"tracker": a_loaded(srcversion="OTHER")}, LOAD, []),
    ],
)
def test_only_what_is_not_loaded_is_loaded(
    loaded: Any, policy: Policy, expected: list[str]
) -> None:
    assert kinds(an_inventory(loaded=loaded), policy) == expected


def test_a_repair_of_another_kernel_does_not_touch_what_runs() -> None:
    module = a_dkms_module(builds=(a_build(OLD), a_build(began=50)))
    inventory = an_inventory(a_kernel(OLD), a_kernel(), modules=(module,), running=OLD)
    assert words(planned(inventory, LOAD).steps) == [
        f"build tracker {K}",
        f"swap tracker {K}",
        f"depmod tracker {K}",
    ]


# ---- what cannot be done here


@pytest.mark.parametrize(
    ("changes", "codes"),
    [
        ({"kernel": a_kernel(headers=None)}, ["headers-missing"]),
        ({"toolchain": Toolchain({}, None)}, ["toolchain-missing"]),
        ({"modules": (early(source=None),)}, ["source-broken"]),
        ({"policy": a_policy(a_profile(pointers={}, kernel_max="5.15"))}, ["kernel-unsupported"]),
        ({"kernel": a_kernel(headers=Unknown("headers", "not allowed"))}, ["could-not-look"]),
    ],
)
@pytest.mark.parametrize("loaded", [{}, {"tracker": a_loaded()}], ids=["not loaded", "loaded"])
def test_a_build_that_would_fail_for_sure_is_left_to_a_person(
    changes: Any, codes: list[str], loaded: Any
) -> None:
    """Nor is the module that ought to be built again loaded."""
    changes = dict(changes)
    policy = replace(changes.pop("policy", Policy()), load=frozenset({"tracker"}))
    kernel = changes.pop("kernel", a_kernel())
    inventory = an_inventory(kernel, **{"modules": (early(),), "loaded": loaded, **changes})
    result = planned(inventory, policy)
    assert result.steps == ()
    assert [each.finding.code for each in result.unfixable] == codes
    assert all(each.reason == each.finding.next_step for each in result.unfixable)


def test_on_a_fallback_kernel_too_the_reason_is_told() -> None:
    result = planned(with_fallback(a_dkms_module(), a_kernel(OLD, headers=None)))
    assert result.steps == ()
    assert [each.finding.code for each in result.unfixable] == ["headers-missing"]


def test_missing_headers_do_not_keep_an_index_from_being_made() -> None:
    inventory = an_inventory(a_kernel(headers=None, index=None), modules=(early(),))
    assert kinds(inventory) == ["depmod"]


def test_missing_headers_do_not_keep_a_file_from_being_put_back() -> None:
    inventory = an_inventory(a_kernel(headers=None), modules=(with_pair(installed=GONE),))
    assert kinds(inventory) == ["restore", "depmod"]


def test_a_forgotten_module_is_not_built_where_headers_are_missing() -> None:
    inventory = an_inventory(
        a_kernel(OLD, headers=None),
        a_kernel(),
        modules=(a_dkms_module(registered=False, builds=()),),
    )
    steps = planned(inventory).steps
    assert [step.kernel for step in steps] == [None, K, K, K, K]


def test_one_modules_trouble_does_not_stop_the_others() -> None:
    broken = early("alpha", source=None)
    inventory = an_inventory(
        a_kernel(index=an_index("alpha", "tracker")), modules=(broken, early())
    )
    result = planned(inventory)
    assert words(result.steps) == [f"{kind} tracker {K}" for kind in REBUILD]
    assert [each.finding.module for each in result.unfixable] == ["alpha"]


def test_a_warning_for_a_person_is_no_unfixable() -> None:
    assert planned(an_inventory(a_kernel(headers=None))) == Plan()


def test_where_modules_could_not_be_seen_nothing_is_planned() -> None:
    forgotten = diagnose(
        an_inventory(modules=(a_dkms_module(registered=False, builds=()),)), Policy()
    )
    dark = an_inventory(modules=Unknown("/var/lib/dkms", "not allowed"))
    result = plan(forgotten, dark, Policy())
    assert [step.kind for step in result.steps] == [StepKind.REGISTER]


def test_a_sound_host_needs_nothing() -> None:
    assert planned(an_inventory(), a_policy(a_profile(), load=("tracker",))) == Plan()


# ---- properties: a perfect execution leaves nothing to do

POINTING = a_profile("tracker", dkms_names=("tracker",), load=True)
POLICIES = [Policy(), a_policy(POINTING), a_policy(POINTING, in_initramfs=("tracker", "helper"))]


def done(inventory: Inventory, result: Plan) -> Inventory:
    """The inventory that a perfect execution of the plan would leave."""
    for step in result.steps:
        inventory = _DEEDS[step.kind](inventory, step)
    return inventory


def _with_module(inventory: Inventory, step: Step, change: Any) -> Inventory:
    assert isinstance(inventory.modules, tuple)
    modules = tuple(
        change(module) if (module.name, module.version) == (step.module, step.version) else module
        for module in inventory.modules
    )
    return replace(inventory, modules=modules)


def _with_build(module: DkmsModule, build: DkmsBuild) -> DkmsModule:
    others = tuple(each for each in module.builds if each.kernel != build.kernel)
    return replace(module, builds=(*others, build))


def _register(inventory: Inventory, step: Step) -> Inventory:
    return _with_module(inventory, step, lambda module: replace(module, registered=True))


def _nothing_yet(inventory: Inventory, _step: Step) -> Inventory:
    return inventory


def _swap(inventory: Inventory, step: Step) -> Inventory:
    def change(module: DkmsModule) -> DkmsModule:
        assert step.kernel is not None
        before = module.build_for(step.kernel)
        pointers = {"p_get": a_pointer()} if module.name == "tracker" else {}
        pair = a_pair(module.name, step.kernel, content="rebuilt", pointers=pointers)
        state = before.state if before is not None else DkmsState.BUILT
        build = a_build(step.kernel, 9000, name=module.name, pairs=(pair,), state=state)
        return _with_build(module, build)

    return _with_module(inventory, step, change)


def _install(inventory: Inventory, step: Step) -> Inventory:
    def change(module: DkmsModule) -> DkmsModule:
        assert step.kernel is not None
        build = module.build_for(step.kernel)
        assert build is not None, "nothing was built that could be installed"
        pairs = tuple(
            replace(pair, installed=_where_installed(pair.built, pair.name, step.kernel))
            for pair in build.pairs
        )
        return _with_build(module, replace(build, pairs=pairs, state=DkmsState.INSTALLED))

    return _with_module(inventory, step, change)


def _where_installed(built: Any, name: str, release: KernelRelease) -> ModuleFile:
    assert isinstance(built, ModuleFile), "no copy to put in place"
    return replace(built, path=f"/lib/modules/{release}/updates/dkms/{name}.ko")


def _with_kernel(inventory: Inventory, step: Step, **changes: Any) -> Inventory:
    kernels = tuple(
        replace(kernel, **changes) if kernel.release == step.kernel else kernel
        for kernel in inventory.kernels
    )
    return replace(inventory, kernels=kernels)


def _installed(inventory: Inventory, release: Optional[KernelRelease]) -> dict[str, ModuleFile]:
    assert isinstance(inventory.modules, tuple)
    return {
        pair.name: pair.installed
        for module in inventory.modules
        for build in module.builds
        if build.kernel == release and build.state is DkmsState.INSTALLED
        for pair in build.pairs
        if isinstance(pair.installed, ModuleFile)
    }


def _depmod(inventory: Inventory, step: Step) -> Inventory:
    files = _installed(inventory, step.kernel)
    paths = {name: seen.path.split(f"{step.kernel}/")[1] for name, seen in files.items()}
    return _with_kernel(inventory, step, index=DepmodIndex(paths, {}, frozenset()))


def _entry(inventory: Inventory, step: Step) -> Inventory:
    entries = inventory.initramfs_entries | set(step.names)
    return replace(inventory, initramfs_entries=entries)


def _initramfs(inventory: Inventory, step: Step) -> Inventory:
    assert step.kernel is not None
    kernel = inventory.kernel(step.kernel)
    assert kernel is not None
    held = kernel.initramfs.modules if isinstance(kernel.initramfs, Initramfs) else {}
    inside = {
        name: seen.sha256
        for name, seen in _installed(inventory, step.kernel).items()
        if name in held or name in inventory.initramfs_entries
    }
    return _with_kernel(inventory, step, initramfs=an_initramfs(step.kernel, **inside))


def _load(inventory: Inventory, step: Step) -> Inventory:
    assert step.kernel == inventory.host.running
    assert isinstance(inventory.loaded, dict)
    files = _installed(inventory, step.kernel)
    fresh = {name: a_loaded(name, srcversion=files[name].srcversion) for name in step.names}
    assert not fresh.keys() & inventory.loaded.keys()
    return replace(inventory, loaded={**inventory.loaded, **fresh})


_DEEDS = {
    StepKind.REGISTER: _register,
    StepKind.BUILD: _nothing_yet,
    StepKind.SWAP: _swap,
    StepKind.INSTALL: _install,
    StepKind.RESTORE: _install,
    StepKind.DEPMOD: _depmod,
    StepKind.INITRAMFS_ENTRY: _entry,
    StepKind.INITRAMFS: _initramfs,
    StepKind.LOAD: _load,
}


@st.composite
def some_builds(draw: Any, name: str, release: KernelRelease) -> tuple[DkmsBuild, ...]:
    if not draw(st.booleans()):
        return ()
    good = a_module_file(name, release, pointers={"p_get": a_pointer()})
    files = [
        good,
        replace(good, sha256="signed other", plain_sha256="other"),
        replace(good, pointers={"p_get": a_null()}),
        replace(good, imports={"kfree": 0xFF}),
        replace(good, imports={"kfree": None, "gone": None}),
        replace(good, vermagic="5.10.0 SMP "),
        replace(good, path=f"/lib/modules/{release}/extra/{name}.ko"),
        replace(good, srcversion="ANOTHER"),
        GONE,
        DAMAGED,
    ]
    state = draw(st.sampled_from([DkmsState.BUILT, DkmsState.INSTALLED]))
    built = draw(st.sampled_from(files))
    installed = GONE if state is DkmsState.BUILT else draw(st.sampled_from(files))
    pair = a_pair(name, release, built=built, installed=installed)
    build = a_build(
        release,
        draw(st.sampled_from([50, 200])),
        name=name,
        pairs=draw(st.sampled_from([(), (pair,)])),
        state=state,
    )
    return (build,)


@st.composite
def some_kernel(draw: Any, release: KernelRelease) -> Kernel:
    index = draw(st.sampled_from([None, an_index("tracker", "helper"), an_index("tracker")]))
    held = draw(st.sampled_from([{}, {"tracker": "signed good"}, {"helper": "old"}]))
    kernel = a_kernel(release, index=index, initramfs=an_initramfs(release, **held))
    if draw(st.integers(0, 4)) == 0:
        kernel = replace(kernel, headers=None)
    return kernel


@st.composite
def some_inventory(draw: Any) -> Inventory:
    modules = []
    for name, depends in (("helper", ()), ("tracker", ("helper",))):
        builds = (*draw(some_builds(name, OLD)), *draw(some_builds(name, K)))
        registered = bool(builds) or draw(st.booleans())
        conf = a_conf(name, build_depends=depends)
        modules.append(a_dkms_module(name, builds=builds, registered=registered, conf=conf))
    if draw(st.booleans()):
        modules.append(a_dkms_module("tracker", "1.1", builds=()))
    loaded: dict[str, LoadedModule] = draw(st.sampled_from([{}, {"tracker": a_loaded()}]))
    return an_inventory(
        draw(some_kernel(OLD)),
        draw(some_kernel(K)),
        modules=tuple(modules),
        loaded=loaded,
        running=draw(st.sampled_from([OLD, K])),
        initramfs_entries=draw(st.sampled_from([frozenset(), frozenset({"helper"})])),
    )


@settings(max_examples=150, deadline=None)
@given(inventory=some_inventory(), policy=st.sampled_from(POLICIES))
def test_after_a_perfect_execution_nothing_is_left_to_do(
    inventory: Inventory, policy: Policy
) -> None:
    first = planned(inventory, policy).steps
    second = planned(done(inventory, planned(inventory, policy)), policy).steps
    assert words(second) == [], words(first)


@settings(max_examples=60, deadline=None)
@given(inventory=some_inventory(), policy=st.sampled_from(POLICIES))
def test_a_plan_is_the_same_each_time_and_says_nothing_twice(
    inventory: Inventory, policy: Policy
) -> None:
    result = planned(inventory, policy)
    assert result == planned(inventory, policy)
    assert len(set(result.steps)) == len(result.steps)
    assert all(step.because for step in result.steps)


def test_a_module_that_the_kernel_would_refuse_is_not_loaded() -> None:
    pair = a_pair(depends=("dm_bufio",))
    inventory = an_inventory(modules=(a_dkms_module(builds=(a_build(pairs=(pair,)),)),), loaded={})
    assert kinds(inventory, LOAD) == []


def test_a_build_that_would_be_refused_for_its_stub_map_is_not_begun() -> None:
    inventory = an_inventory(a_kernel(maps=(a_stub_map(),)), modules=(early(),))
    left = planned(inventory, a_policy(a_profile()))
    assert left.steps == ()
    assert [each.finding.code for each in left.unfixable] == ["map-unusable"]


def test_a_build_that_was_given_up_is_told_and_not_repeated() -> None:
    inventory = an_inventory(modules=(early(), early("second")))
    result = planned(inventory, a_policy(given_up=(("tracker", K),)))
    assert words(result.steps) == [f"build second {K}", f"swap second {K}", f"depmod second {K}"]
    (left,) = result.unfixable
    assert (left.finding.code, left.finding.module) == ("headers-before-image", "tracker")
    assert "kernward repair" in left.reason


def test_a_given_up_build_elsewhere_changes_nothing() -> None:
    policy = a_policy(given_up=(("tracker", OLD), ("other", K)))
    assert kinds(an_inventory(modules=(early(),)), policy) == REBUILD


def test_what_is_built_with_a_module_that_cannot_be_built_is_left_too() -> None:
    depends = {"alpha": ("beta",), "beta": ("gamma",)}
    policy = a_policy(given_up=(("gamma", K),))
    result = planned(trio(**depends), policy)
    assert result.steps == ()
    reasons = {
        each.reason.split(":")[0] for each in result.unfixable if " is built with" in each.reason
    }
    assert reasons == {"alpha is built with beta", "beta is built with gamma"}
