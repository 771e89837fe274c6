# Builds, tries, checks and installs xfer. Needs GNU make, a POSIX shell, cargo and a C linker; `make help` lists the targets.

CARGO  ?= cargo
PREFIX ?= /usr/local
# The root of an image or a package; empty for the running system.
DESTDIR ?=

BINDIR      ?= $(PREFIX)/bin
MANDIR      ?= $(PREFIX)/share/man
UNITDIR     ?= $(PREFIX)/lib/systemd/system
SYSUSERSDIR ?= $(PREFIX)/lib/sysusers.d
# logrotate reads /etc only; an installation elsewhere (a home, /opt) keeps its copy to itself.
SYSCONFDIR  ?= $(if $(filter /usr /usr/local,$(PREFIX)),/etc,$(PREFIX)/etc)

BIN   = $(or $(CARGO_TARGET_DIR),target)/release/xfer
PAGES = xfer.1 xfer-get.1 xfer-serve.8 xfer-protocol.5

# Each target is one job for cargo or one script. They do not run in parallel.
.NOTPARALLEL:
.PHONY: build demo check samples bench fuzz torture dist install uninstall clean help
.DEFAULT_GOAL := build

build: ## build the release binary
	$(CARGO) build --release --locked
	@touch -c "$(BIN)" # cargo leaves it as it is if only tests have changed, and 'make install' compares times

demo: build ## show a server, a client, and a transfer that is interrupted and resumed
	@$(DEFAULT_SIGNALS) sh contrib/demo.sh "$(BIN)"

check: ## run all lints and tests, check manual pages, unit file, tarball and dependencies
	@CARGO="$(CARGO)" sh contrib/check.sh

samples: ## make five sample files in server_files; keep existing ones
	@sh contrib/samples.sh server_files

bench: ## compare with nginx, curl, rsync and others (ROWS=md5,many PAIRS=5 BENCH_QUICK=1)
	$(CARGO) bench --locked --bench side_by_side -- $(if $(ROWS),--rows "$(ROWS)") $(if $(PAIRS),--pairs "$(PAIRS)") $(BENCH_ARGS)

fuzz: ## fuzz the parsers of both ends (SECONDS=60 TARGETS="journal names"); needs cargo-fuzz
	@CARGO="$(CARGO)" SECONDS_IN_ALL="$(or $(SECONDS),60)" TARGETS="$(TARGETS)" sh contrib/fuzz.sh

# A signal that is ignored here, as after '&' in a script, is ignored by the programs that these targets start, too.
demo torture: DEFAULT_SIGNALS = $(shell env --default-signal=HUP,INT,TERM,USR1 true 2>/dev/null && echo env --default-signal=HUP,INT,TERM,USR1)
torture: ## inject faults, and count what is lost or wrong (SECONDS=60 ROWS=syscalls,power)
	$(DEFAULT_SIGNALS) $(CARGO) test --locked --profile torture --test torture -- $(if $(SECONDS),--seconds "$(SECONDS)") $(if $(ROWS),--rows "$(ROWS)") $(TORTURE_ARGS)

dist: ## make a reproducible xfer-VERSION.tar.gz of the last commit, and print its SHA-256
	@sh contrib/dist.sh "$(or $(CARGO_TARGET_DIR),target)/dist"

install: ## install what `make` has built, under PREFIX; does not build
	@test -x "$(BIN)" || { echo "make install: $(BIN) is missing: run 'make' first (as yourself; only 'make install' may need root)" >&2; exit 1; }
	@newer=$$(find src Cargo.toml Cargo.lock -type f -newer "$(BIN)" | head -n 1); \
	test -z "$$newer" || { echo "make install: $$newer is newer than $(BIN): run 'make' first (as yourself; only 'make install' may need root)" >&2; exit 1; }
	@case "$(PREFIX)" in /*) ;; *) echo "make install: PREFIX must begin with /: '$(PREFIX)'" >&2; exit 1 ;; esac
	install -d "$(DESTDIR)$(BINDIR)" "$(DESTDIR)$(UNITDIR)" "$(DESTDIR)$(SYSUSERSDIR)" "$(DESTDIR)$(SYSCONFDIR)/logrotate.d"
	install -m 0755 "$(BIN)" "$(DESTDIR)$(BINDIR)/xfer"
	@set -e; for page in $(PAGES); do \
		dir="$(DESTDIR)$(MANDIR)/man$${page##*.}"; \
		echo "install -m 0644 man/$$page $$dir/$$page"; \
		install -d "$$dir"; install -m 0644 "man/$$page" "$$dir/$$page"; \
	done
	sed 's|@BINDIR@|$(BINDIR)|g' contrib/xfer.service >"$(DESTDIR)$(UNITDIR)/xfer.service"
	chmod 0644 "$(DESTDIR)$(UNITDIR)/xfer.service"
	install -m 0644 contrib/xfer.sysusers "$(DESTDIR)$(SYSUSERSDIR)/xfer.conf"
	@conf="$(DESTDIR)$(SYSCONFDIR)/logrotate.d/xfer"; \
	if [ -e "$$conf" ] && ! cmp -s contrib/xfer.logrotate "$$conf"; then \
		echo "kept $$conf: it differs from contrib/xfer.logrotate"; \
	else \
		echo "install -m 0644 contrib/xfer.logrotate $$conf"; install -m 0644 contrib/xfer.logrotate "$$conf"; \
	fi

uninstall: ## remove what `make install` installed; keep an edited logrotate file, logs and shared files
	rm -f "$(DESTDIR)$(BINDIR)/xfer" "$(DESTDIR)$(UNITDIR)/xfer.service" "$(DESTDIR)$(SYSUSERSDIR)/xfer.conf"
	@set -e; for page in $(PAGES); do \
		echo "rm -f $(DESTDIR)$(MANDIR)/man$${page##*.}/$$page"; rm -f "$(DESTDIR)$(MANDIR)/man$${page##*.}/$$page"; \
	done
	@conf="$(DESTDIR)$(SYSCONFDIR)/logrotate.d/xfer"; \
	if [ -e "$$conf" ] && ! cmp -s contrib/xfer.logrotate "$$conf"; then \
		echo "kept $$conf: it differs from contrib/xfer.logrotate"; \
	else \
		echo "rm -f $$conf"; rm -f "$$conf"; \
	fi

clean: ## remove what cargo has built; keep samples, downloads and logs
	$(CARGO) clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "  PREFIX=$(PREFIX)  DESTDIR=$(DESTDIR)  CARGO=$(CARGO)"
	@echo "  also BINDIR, MANDIR, UNITDIR, SYSUSERSDIR, SYSCONFDIR, e.g. make install PREFIX=/usr DESTDIR=/tmp/image"
	@echo "  make bench BENCH_ARGS=--help lists its options, and so does make torture TORTURE_ARGS=--help"
