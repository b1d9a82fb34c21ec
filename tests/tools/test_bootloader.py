"""Which kernel boots next: grub.cfg from grub-mkconfig 2.06, entries from kernel-install 252.

The recorded menus have 6.1.0-56, -55 and -47, in submenus (``default``, ``by-id``) or without.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernward.core.facts import KernelRelease, Unknown
from kernward.tools.bootloader import NextBoot, next_boot
from kernward.tools.grub import parse_menu
from kernward.tools.root import Root

RECORDED = Path(__file__).parent.parent / "recorded" / "bootloader"
K47, K55, K56 = (KernelRelease(f"6.1.0-{n}-cloud-amd64") for n in (47, 55, 56))
ALL = (K47, K55, K56)
UUID = "00000000-1111-2222-3333-444444444444"
ADVANCED = f"gnulinux-advanced-{UUID}"


def write(root: Path, path: str, content: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(content)


def grub(root: Path, name: str, **environment: str) -> Root:
    write(root, "boot/grub/grub.cfg", (RECORDED / "grub-2.06" / f"{name}.cfg").read_text())
    lines = "".join(f"{variable}={value}\n" for variable, value in environment.items())
    write(root, "boot/grub/grubenv", f"# GRUB Environment Block\n{lines}".ljust(1024, "#"))
    return Root(root)


def taken(root: Root, *bootable: KernelRelease) -> KernelRelease:
    found = next_boot(root, bootable or ALL)
    assert isinstance(found, NextBoot), found
    return found.release


def test_without_a_loader_the_newest_kernel_is_assumed_and_that_is_said(tmp_path: Path) -> None:
    releases = [KernelRelease("6.1.0-9"), KernelRelease("6.1.0-10")]
    found = next_boot(Root(tmp_path), releases)
    assert isinstance(found, NextBoot)
    assert found.release == releases[1]
    assert "assumed" in found.why


def test_nothing_bootable_boots_nothing(tmp_path: Path) -> None:
    assert next_boot(grub(tmp_path, "default"), ()) is None


def test_the_recorded_menu_has_its_submenu_and_recovery_entries() -> None:
    top = parse_menu((RECORDED / "grub-2.06/default.cfg").read_text())
    assert [(entry.title, entry.submenu is not None) for entry in top] == [
        ("Debian GNU/Linux", False),
        ("Advanced options for Debian GNU/Linux", True),
    ]
    assert top[1].submenu is not None
    assert [entry.image for entry in top[1].submenu] == [
        f"/boot/vmlinuz-{release}" for release in (K56, K56, K55, K55, K47, K47)
    ]


def test_grub_takes_the_first_entry_unless_told_otherwise(tmp_path: Path) -> None:
    assert taken(grub(tmp_path, "default")) == K56


def test_grub_takes_what_the_administrator_wrote_into_its_settings(tmp_path: Path) -> None:
    assert taken(grub(tmp_path, "by-id")) == K55


@pytest.mark.parametrize(
    ("saved", "release"),
    [
        ("", K56),
        ("0", K56),
        ("2", K55),
        ("Debian GNU/Linux, with Linux 6.1.0-47-cloud-amd64", K47),
        (f"gnulinux-{K55}-advanced-{UUID}", K55),
        ("no such entry", K56),
    ],
)
def test_grub_takes_the_saved_entry_by_number_title_or_id(
    tmp_path: Path, saved: str, release: KernelRelease
) -> None:
    assert taken(grub(tmp_path, "saved-flat", saved_entry=saved)) == release


@pytest.mark.parametrize(
    ("once", "release"),
    [
        ("1>4", K47),
        (f"{ADVANCED}>gnulinux-{K55}-advanced-{UUID}", K55),
        ("Advanced options for Debian GNU/Linux>2", K55),
    ],
)
def test_an_entry_for_one_boot_goes_before_all_others(
    tmp_path: Path, once: str, release: KernelRelease
) -> None:
    assert taken(grub(tmp_path, "by-id", next_entry=once, saved_entry="0")) == release


def test_what_was_saved_before_a_one_time_boot_is_saved_again(tmp_path: Path) -> None:
    root = grub(tmp_path, "saved-flat", saved_entry="0", prev_saved_entry="4")
    assert taken(root) == K47


def test_a_backslash_in_the_environment_quotes(tmp_path: Path) -> None:
    title = "Debian GNU/Linux, with Linux 6.1.0-55-cloud-amd64"
    assert taken(grub(tmp_path, "saved-flat", saved_entry=title.replace(",", "\\,"))) == K55


def test_a_default_whose_image_is_gone_is_unknown(tmp_path: Path) -> None:
    """The menu is older than the removal, and GRUB would fail to boot."""
    found = next_boot(grub(tmp_path, "default"), [K55, K47])
    assert isinstance(found, Unknown)
    assert "no kernel that is here" in found.reason


@pytest.mark.parametrize(
    "text",
    [
        "set default=1\nmenuentry 'A' {\n linux /vmlinuz-6.1.0-56-cloud-amd64\n}\nmenuentry 'Windows' {\n chainloader +1\n}\n",
        "set default=1\nmenuentry 'A' {\n linux /vmlinuz-6.1.0-56-cloud-amd64\n}\nsubmenu 'S' {\n}\n",
        "set default=0\n",
    ],
)
def test_a_default_that_is_no_linux_is_unknown(tmp_path: Path, text: str) -> None:
    write(tmp_path, "boot/grub/grub.cfg", text)
    assert isinstance(next_boot(Root(tmp_path), ALL), Unknown)


def test_boot_on_its_own_partition_and_double_quotes(tmp_path: Path) -> None:
    write(
        tmp_path,
        "boot/grub2/grub.cfg",
        'set default="a \\"b\\""\nmenuentry "x" { \n\tlinux16 /vmlinuz-6.1.0-47-cloud-amd64 ro\n}\n'
        'menuentry "a \\"b\\"" --id=x {\n\tlinuxefi ($root)/vmlinuz-6.1.0-55-cloud-amd64 ro\n}\n',
    )
    assert taken(Root(tmp_path)) == K55


# ------------------------------------------------------------------ boot loader entries


def entries(root: Path, folder: str = "boot/efi") -> Root:
    for source in (RECORDED / "kernel-install-252").iterdir():
        write(root, f"{folder}/loader/entries/{source.name}", source.read_text())
    return Root(root)


def test_systemd_boot_takes_the_newest_entry(tmp_path: Path) -> None:
    assert taken(entries(tmp_path)) == K56


@pytest.mark.parametrize(
    ("pattern", "release"),
    [("*-6.1.0-55-*", K55), ("*.conf", K56), ("no such*", K56), ("", K56)],
)
def test_systemd_boot_takes_the_first_entry_that_its_setting_matches(
    tmp_path: Path, pattern: str, release: KernelRelease
) -> None:
    write(tmp_path, "boot/efi/loader/loader.conf", f"# comment\ntimeout 3\ndefault {pattern}\n")
    assert taken(entries(tmp_path)) == release


def efi_variable(root: Path, name: str, value: str) -> None:
    path = root / "sys/firmware/efi/efivars" / f"{name}-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\6\0\0\0" + (value + "\0").encode("utf-16-le"))


@pytest.mark.parametrize("variable", ["LoaderEntryOneShot", "LoaderEntryDefault"])
def test_systemd_boot_s_variables_go_before_its_settings(tmp_path: Path, variable: str) -> None:
    write(tmp_path, "boot/efi/loader/loader.conf", "default *-56-*\n")
    efi_variable(tmp_path, variable, f"abcdefabcdefabcdefabcdefabcdefab-{K55}.conf")
    assert taken(entries(tmp_path)) == K55


def test_an_entry_that_has_used_up_its_tries_comes_last(tmp_path: Path) -> None:
    root = entries(tmp_path)
    folder = tmp_path / "boot/efi/loader/entries"
    for path in folder.glob("*-56-*"):
        path.rename(folder / path.name.replace(".conf", "+0-3.conf"))
    assert taken(root) == K55


def test_a_unified_image_that_is_not_chosen_by_name_makes_it_unknown(tmp_path: Path) -> None:
    root = entries(tmp_path)
    write(tmp_path, "boot/efi/EFI/Linux/debian.efi", "MZ")
    assert isinstance(next_boot(root, ALL), Unknown)


def test_two_loaders_that_differ_are_unknown_and_both_named(tmp_path: Path) -> None:
    grub(tmp_path, "by-id")
    write(tmp_path, "boot/efi/loader/loader.conf", "timeout 3\n")
    found = next_boot(entries(tmp_path), ALL)
    assert isinstance(found, Unknown)
    assert str(K55) in found.reason
    assert str(K56) in found.reason
    grub(tmp_path, "default")
    assert taken(Root(tmp_path)) == K56


def test_fedora_s_grub_takes_its_menu_from_the_entry_files(tmp_path: Path) -> None:
    write(tmp_path, "boot/grub2/grub.cfg", 'set default="${saved_entry}"\ninsmod blscfg\nblscfg\n')
    name = f"abcdefabcdefabcdefabcdefabcdefab-{K55}"
    write(tmp_path, "boot/grub2/grubenv", f"saved_entry={name}\n")
    assert taken(entries(tmp_path, "boot")) == K55


# The part of a grub.cfg of EL 8 and 9 and Fedora that decides (grub2-mkconfig, 00_header and 10_linux).
EL_MENU = (RECORDED / "grub2-el9/grub.cfg").read_text()
EL = tuple(
    KernelRelease(f"5.14.0-{each}.x86_64")
    for each in ("362.el9", "362.8.1.el9_3", "362.13.1.el9_3")
)
MACHINE = "abcdefabcdefabcdefabcdefabcdefab"


def el(root: Path, environment: str, folder: str = "boot/grub2") -> Root:
    write(root, f"{folder}/grub.cfg", EL_MENU)
    write(root, f"{folder}/grubenv", f"# GRUB Environment Block\n{environment}####\n")
    for release in (*map(str, EL), "0-rescue"):
        text = (
            f"title Some Linux ({release})\nversion {release}\nlinux /vmlinuz-{release}\n"
            f"initrd /initramfs-{release}.img $tuned_initrd\noptions $kernelopts\nid x-{release}\n"
        )
        write(root, f"boot/loader/entries/{MACHINE}-{release}.conf", text)
    return Root(root)


@pytest.mark.parametrize("folder", ["boot/grub2", "boot/efi/EFI/redhat"])
@pytest.mark.parametrize(
    ("environment", "which"),
    [
        (f"saved_entry={MACHINE}-{EL[0]}\nkernelopts=root=/dev/x\n", 0),
        (f"saved_entry={MACHINE}-{EL[0]}\nnext_entry={MACHINE}-{EL[1]}\n", 1),
        # grub2-editenv of a fresh host, a number (EL8), an entry that is no more: the newest.
        ("boot_success=1\n", 2),
        ("saved_entry=0\n", 2),
        ("saved_entry=2\n", 0),
        (f"saved_entry={MACHINE}-5.14.0-1.el9.x86_64\n", 2),
    ],
)
def test_el_boots_what_its_environment_says(
    tmp_path: Path, folder: str, environment: str, which: int
) -> None:
    """EL8 keeps all of it on the EFI partition where it boots from there."""
    assert taken(el(tmp_path, environment, folder), *EL) == EL[which]


# Of files in recorded/bootloader/public: what they are called on hosts.
IDS = {
    "el8": "6f9cc9cb7d7845d49698c9537337cedc-4.18.0-74.el8.x86_64",
    "el8-debug": "6f9cc9cb7d7845d49698c9537337cedc-4.18.0-80.el8.x86_64+debug",
    "el9-rt": "6f9cc9cb7d7845d49698c9537337cedc-5.14.0-427.13.1.el9_4.x86_64+rt",
    "el10-image": "ffffffffffffffffffffffffffffffff-6.12.0-211.53.1.el10_2.x86_64",
    "el10-newer": "ec2e861e25a5b84dae6abcdefabcdefa-6.12.0-211.61.1.el10_2.x86_64",
    "leap16-snapshot": "opensuse-leap-6.12.0-160000.35-default-1",
    "tumbleweed-snapshot": "opensuse-tumbleweed-6.15.0-1-default-12",
}
KERNELS = {
    name: KernelRelease(re.sub(r"^[0-9a-f]{32}-|^opensuse-[a-z]+-|-12?$", "", text))
    for name, text in IDS.items()
}


def public(root: Path, *names: str, folder: str = "boot") -> Root:
    for name in names:
        text = (RECORDED / "public" / f"{name}.conf").read_text()
        write(root, f"{folder}/loader/entries/{IDS[name]}.conf", text)
    return Root(root)


def test_every_published_entry_is_read() -> None:
    files = {each.name for each in (RECORDED / "public").iterdir()}
    assert files == {*(f"{name}.conf" for name in IDS), "README.md"}


@pytest.mark.parametrize(
    ("names", "saved", "expected"),
    [
        (("el8", "el8-debug"), "", "el8-debug"),
        (("el8", "el8-debug"), IDS["el8"], "el8"),
        (("el8", "el8-debug"), "1", "el8"),
        (("el8", "el9-rt"), IDS["el8"], "el8"),
        (("el9-rt",), IDS["el9-rt"], "el9-rt"),
        # The first kernel of an image stays first, for its name has an f for each machine.
        (("el10-image", "el10-newer"), "", "el10-image"),
        (("el10-image", "el10-newer"), IDS["el10-newer"], "el10-newer"),
    ],
)
def test_entries_as_red_hat_writes_them(
    tmp_path: Path, names: tuple[str, ...], saved: str, expected: str
) -> None:
    write(tmp_path, "boot/grub2/grub.cfg", EL_MENU)
    write(tmp_path, "boot/grub2/grubenv", f"saved_entry={saved}\n" if saved else "")
    root = public(tmp_path, *names)
    assert taken(root, *(KERNELS[name] for name in names)) == KERNELS[expected]


@pytest.mark.parametrize("chosen", ["leap16-snapshot", "tumbleweed-snapshot"])
def test_entries_of_snapshots_boot_the_kernel_of_their_folder(tmp_path: Path, chosen: str) -> None:
    """The version has the number of a snapshot before the release."""
    names = ("leap16-snapshot", "tumbleweed-snapshot")
    root = public(tmp_path, *names, folder="boot/efi")
    efi_variable(tmp_path, "LoaderEntryDefault", f"{IDS[chosen]}.conf")
    assert taken(root, *(KERNELS[name] for name in names)) == KERNELS[chosen]


def test_the_rescue_entry_boots_no_kernel_of_ours(tmp_path: Path) -> None:
    found = next_boot(el(tmp_path, f"saved_entry={MACHINE}-0-rescue\n"), EL)
    assert isinstance(found, Unknown)
    assert "0-rescue" in found.reason


def test_a_line_on_the_efi_partition_that_leads_to_the_menu_is_none(tmp_path: Path) -> None:
    """EL9, Fedora, and Debian."""
    line = "search --no-floppy --fs-uuid --set=dev X\nset prefix=($dev)/grub2\nconfigfile x\n"
    write(tmp_path, "boot/efi/EFI/fedora/grub.cfg", line)
    found = next_boot(Root(tmp_path), EL)
    assert isinstance(found, NextBoot)
    assert "the newest kernel is assumed" in found.why


# ------------------------------------------------------------------ any input


@given(st.text(alphabet="ab '\"{}>\\$\n=", max_size=200), st.integers(0, 8000))
@settings(max_examples=60, deadline=None)
def test_any_grub_cfg_and_environment_gives_an_answer(
    tmp_path_factory: pytest.TempPathFactory, junk: str, at: int
) -> None:
    root = tmp_path_factory.mktemp("root")
    text = (RECORDED / "grub-2.06/by-id.cfg").read_text()
    write(root, "boot/grub/grub.cfg", text[:at] + junk + text[at:])
    write(root, "boot/grub/grubenv", f"saved_entry={junk}\nnext_entry={junk}")
    assert isinstance(next_boot(Root(root), ALL), (NextBoot, Unknown))


@given(st.lists(st.sampled_from(["menuentry x {", "submenu x {", "}", "linux /vmlinuz-1", "f {"])))
@settings(max_examples=60, deadline=None)
def test_a_menu_of_any_nesting_ends(lines: list[str]) -> None:
    assert len(parse_menu("\n".join(lines))) <= len(lines)


@given(st.binary(max_size=120))
@settings(max_examples=40, deadline=None)
def test_any_entry_file_gives_an_answer(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    root = tmp_path_factory.mktemp("root")
    entries(root)
    (root / "boot/efi/loader/entries/a.conf").write_bytes(junk)
    (root / "boot/efi/loader/loader.conf").write_bytes(b"default " + junk)
    assert isinstance(next_boot(Root(root), ALL), (NextBoot, Unknown))
