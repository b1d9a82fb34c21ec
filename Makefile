# `make test` and `make demo` work on a bare Debian 12, as root: they install what they need.
# First runs build Debian roots under ~/.cache/kernward, some minutes; later ones find them there.

IN_ENV := tests/run-in-env.sh

.PHONY: test lint demo bench deb rpm install install-program install-python install-files \
	install-hooks-deb install-hooks-rpm

# Booted hosts and guests wait as often as they work: more of them than a small machine has cores.
test:
	$(IN_ENV) pytest -n 4 --dist worksteal

lint:
	$(IN_ENV) pytest tests/test_linters.py

# One night of a booted host as a film, and its quiet neighbour. Any deviation is an error.
demo:
	$(IN_ENV) env PYTHONPATH=tests python -m booted.demo

# Ten kernels and ten modules, then repairs: some ten minutes at first, five later. Wants a quiet machine.
bench:
	$(IN_ENV) env PYTHONPATH=tests python -m bench

# One package for Debian 12 and 13, in dist/. Wants the Build-Depends of packaging/debian/control.
deb:
	packaging/build-deb.sh dist

# One package for RHEL, Fedora and SUSE, in dist/. Wants rpm, pip and what packaging/rpm/kernward.spec
# names as BuildRequires; on Debian apt-get install file make python3-pip rpm scdoc.
rpm:
	packaging/build-rpm.sh dist

# ---- `make install`: this checkout on this host, on the host's own Python and its libraries.
# DESTDIR and PREFIX as everywhere. The package installs its Python part in its own way.

PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3
UNITDIR ?= $(PREFIX)/lib/systemd/system
# Of the package managers: deb or rpm.
HOOKS ?= deb
program := $(DESTDIR)$(PREFIX)/lib/kernward/python
man := $(DESTDIR)$(PREFIX)/share/man
# Where the program and its hooks look, and where D-Bus, polkit and the kernel's packages do.
vendor := $(DESTDIR)/usr/lib/kernward
share := $(DESTDIR)/usr/share
etc := $(DESTDIR)/etc
# In units and bus files: who is started is the one that is installed here.
placed := sed 's|/usr/bin/kernward|$(PREFIX)/bin/kernward|g'

install: install-program install-files

install-python:
	install -d $(program)
	cd daemon && find kernward -name '*.py' -exec install -D -m 644 {} $(program)/{} \;
	install -D -m 644 -t $(program)/kernward/profiles daemon/kernward/profiles/*.toml

install-program: install-python
	install -d $(DESTDIR)$(PREFIX)/bin
	$(PYTHON) -m compileall -q -s '$(DESTDIR)' $(program)
	printf '%s\n' '#!$(PYTHON)' 'import sys' 'sys.path.insert(0, "$(PREFIX)/lib/kernward/python")' \
		'from kernward.cli import entry_point' 'sys.exit(entry_point())' \
		>$(DESTDIR)$(PREFIX)/bin/kernward
	chmod 755 $(DESTDIR)$(PREFIX)/bin/kernward

# Everything but Python: units, hooks, bus and polkit files, catalog, settings, completion, manual pages.
install-files: install-hooks-$(HOOKS)
	install -d $(DESTDIR)$(UNITDIR)
	for unit in kernward.service kernward-gate@.service kernward.slice; do \
		$(placed) units/$$unit >$(DESTDIR)$(UNITDIR)/$$unit || exit 1; done
	install -D -m 644 units/90-kernward.preset -t $(DESTDIR)$(PREFIX)/lib/systemd/system-preset
	install -D -m 644 units/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/kernward.conf
	install -D -m 644 packaging/catalog/kernward.catalog -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog
	install -D -m 644 packaging/completions/kernward.bash \
		$(share)/bash-completion/completions/kernward
	install -D -m 644 units/org.kernward.Kernward1.conf -t $(share)/dbus-1/system.d
	install -D -m 644 units/org.kernward.Kernward1.service -t $(share)/dbus-1/system-services
	install -D -m 644 units/org.kernward.policy -t $(share)/polkit-1/actions
	install -D -m 644 packaging/settings/kernward.toml -t $(vendor)
	if command -v scdoc >/dev/null; then for page in packaging/man/*.scd; do \
		name=$$(basename $$page .scd) && mkdir -p $(man)/man$${name##*.} && \
		scdoc <$$page >$(man)/man$${name##*.}/$$name || { echo "in $$page" >&2; exit 1; }; done; \
	else echo 'scdoc is not installed: no manual pages' >&2; fi

install-hooks-deb:
	install -D -m 755 packaging/hooks/apt/hook $(vendor)/apt-hook
	install -D -m 755 packaging/hooks/kernel/hook $(vendor)/kernel-hook
	install -D -m 755 packaging/hooks/spool.sh -t $(vendor)
	install -D -m 644 packaging/hooks/apt/kernward.conf $(etc)/apt/apt.conf.d/50kernward
	for folder in preinst postinst prerm postrm header_postinst; do for name in 00 zz; do \
		install -D -m 755 packaging/hooks/kernel/entry \
			$(etc)/kernel/$$folder.d/$$name-kernward || exit 1; done; done

# dnf 4 has its plugins beside its own Python: EL 8, 9, 10, then Fedora.
install-hooks-rpm:
	install -D -m 644 packaging/hooks/spool.sh -t $(vendor)
	install -D -m 644 packaging/hooks/rpm/hook $(vendor)/rpm-hook
	install -D -m 755 packaging/hooks/dnf5/hook $(vendor)/dnf5-hook
	install -D -m 644 packaging/hooks/dnf5/kernward.actions -t $(etc)/dnf/libdnf5-plugins/actions.d
	for number in 00 95; do install -D -m 755 packaging/hooks/kernel-install/plugin \
		$(DESTDIR)/usr/lib/kernel/install.d/$$number-kernward.install || exit 1; done
	for python in 3.6 3.9 3.12 3.13 3.14 3.15; do install -D -m 644 packaging/hooks/dnf4/kernward.py -t \
		$(DESTDIR)/usr/lib/python$$python/site-packages/dnf-plugins || exit 1; done
