"""Is it built and installed for this kernel, and is the installed file the one that was built?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional, Union

from kernward.core.diagnose.subject import Subject, conf_trouble, may_replace, version_key
from kernward.core.facts import (
    BuildLog,
    DkmsPair,
    DkmsState,
    MissingFile,
    ModuleFile,
    Unknown,
)
from kernward.core.findings import Evidence, Finding, Severity

_TAIL = 6


def rule(subject: Subject) -> Iterator[Finding]:
    """What dkms has, against what it ought to have."""
    yield from _source(subject)
    if subject.build is None:
        failed = _failed_here(subject)
        if failed is not None:
            yield _build_failed(subject, failed)
        else:
            yield subject.finding("not-built", _why_not_built(subject))
        return
    if subject.build.state is DkmsState.BUILT:
        yield subject.finding("not-installed")
    else:
        for pair in subject.build.pairs:
            yield from _pair(subject, pair)
        if not subject.build.pairs:
            yield subject.finding("file-missing", "dkms's folder holds no module file of it.")
    yield from _newer_version(subject)


def _source(subject: Subject) -> Iterator[Finding]:
    module = subject.module
    if module.source is None:
        yield subject.finding(
            "source-broken", f"/var/lib/dkms/{module.name}/{module.version}/source leads nowhere."
        )
    else:
        trouble = conf_trouble(module)
        if trouble is not None:
            yield subject.finding("source-broken", trouble)


def _failed_here(subject: Subject) -> Optional[BuildLog]:
    log = subject.module.failed_log
    if isinstance(log, BuildLog) and log.failed and log.kernel == subject.kernel.release.text:
        return log
    return None


def _build_failed(subject: Subject, log: BuildLog) -> Finding:
    tail = tuple(Evidence(line, log.path, log.began) for line in log.tail[-_TAIL:])
    code = f" (exit code {log.exit_code})" if log.exit_code else ""
    return subject.finding("build-failed", f"Its log{code}: {log.path}", *tail)


def _why_not_built(subject: Subject) -> str:
    if subject.module.builds:
        kernels = ", ".join(str(build.kernel) for build in subject.module.builds)
        return f"dkms has {subject.module.version} for: {kernels}."
    return f"dkms knows {subject.module.version} and has built it for no kernel."


def _pair(subject: Subject, pair: DkmsPair) -> Iterator[Finding]:
    built, installed = pair.built, pair.installed
    if isinstance(installed, MissingFile):
        gone = f"There is no {installed.path}."
        # A module of the build for which dkms's link names no place.
        detail = gone if installed.path.startswith("/") else f"dkms installed no {pair.name}."
        yield subject.finding("file-missing", detail)
    elif isinstance(installed, Unknown):
        if installed.garbled:
            detail = f"{installed.what} is damaged: {installed.reason}."
            yield subject.finding("file-differs", detail)
        else:
            detail = f"{installed.what}: {installed.reason}."
            yield subject.finding("could-not-look", detail, detail_what=installed.what)
    elif not isinstance(built, ModuleFile):
        # What is installed is judged by itself; dkms would refuse to install it anywhere again.
        detail = f"dkms's own copy {_what_is_wrong_with(built)}."
        yield subject.finding("file-missing", detail, severity=Severity.WARN)
    elif built.plain_sha256 != installed.plain_sha256:
        evidence = tuple(
            Evidence(f"sha256 {seen.plain_sha256}, {seen.times.size} bytes", seen.path)
            for seen in (built, installed)
        )
        yield subject.finding("file-differs", f"See {installed.path}.", *evidence)


def _what_is_wrong_with(built: Union[MissingFile, Unknown]) -> str:
    if isinstance(built, MissingFile):
        return f"is gone: {built.path}"
    is_damaged = "is damaged" if built.garbled else "cannot be read"
    return f"{is_damaged}: {built.what}: {built.reason}"


def _newer_version(subject: Subject) -> Iterator[Finding]:
    """A newer registered version waits while an older one is installed on this kernel."""
    modules = subject.inventory.modules
    here = version_key(subject.module.version)
    for other in modules if isinstance(modules, tuple) else ():
        if here < version_key(other.version) and may_replace(other, subject):
            detail = (
                f"Version {other.version} is registered; {subject.module.version} is installed "
                "there and stays in use until then."
            )
            yield subject.finding("not-built", detail, severity=Severity.WARN)
