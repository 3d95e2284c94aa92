# Each target sets up all that it needs on a fresh Debian 12 (as root) and says what it does.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
APT := gcc libc6-dev python3-dev python3-venv iproute2 iputils-ping netbase ca-certificates \
	systemd mandoc zsh
TEST_APT := socat bind9-dnsutils dnsmasq-base iperf3 netcat-openbsd tftp-hpa valgrind pkg-config
SOURCES := pyproject.toml meson.build $(wildcard docs/man/*) \
	$(shell find mhostd clients/python clients/c -name __pycache__ -prune -o -print)
INSTALL := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pip install -q --disable-pip-version-check \
	--no-build-isolation --no-deps
ASAN := build/asan
FUZZ := build/fuzz
FUZZ_S ?= 5  # seconds for each target
FUZZ_APT := clang libclang-rt-14-dev
FUZZ_C := $(addprefix mhostd/native/,csum.c frame.c packed.c ring.c shim.c siphash.c udp.c) \
	$(addprefix clients/c/,app_lane.c msgpack.c zmtp.c)

SIM := 10000
TWO := -q -n 2 --dist loadfile  # most tests wait for something: two files at a time

.PHONY: all demo demo-failover test test-all test-walk programs bench bench-failover matplotlib \
	sim asan fuzz check format setup clean
all: check test

demo: setup
	$(BIN)/python demo

demo-failover: setup matplotlib  # the picture is build/failover.png
	$(BIN)/python demo/failover.py

test: check programs asan fuzz  # the gate
	$(BIN)/pytest $(TWO) -m "not slow"

test-all: check programs asan fuzz sim test-walk
	$(BIN)/pytest -q --hypothesis-profile=long

test-walk: setup programs  # what the walk does without the native core
	MHOSTD_NATIVE=py $(BIN)/pytest $(TWO) -m "not slow" --ignore=tests/install

programs:  # of Debian, which the tests run on our sockets
	@$(call apt,$(TEST_APT))
	@$(call apt_stopped,etcd-server,etcd)

bench: setup programs matplotlib  # with the picture of the README
	$(BIN)/python benchmarks

bench-failover: setup  # what a stream loses when a link does; RUNS=5 EVENTS=silent KINDS=mhost
	$(BIN)/python benchmarks/failover

matplotlib: setup
	@$(BIN)/python -c "import matplotlib" 2>/dev/null \
		|| $(BIN)/pip install -q --disable-pip-version-check '.[bench]'

sim: setup  # random scenarios of hosts on the move, on a virtual clock; SIM=100000 for more
	$(BIN)/python tests/sim/hosts $(SIM)

asan: setup  # the C extension under AddressSanitizer and UBSan
	@echo "native: AddressSanitizer and UBSan"
	@rm -rf $(ASAN)
	@PATH="$(CURDIR)/$(BIN):$$PATH" meson setup $(ASAN)/build -Db_sanitize=address,undefined \
		-Db_lundef=false -Dbuildtype=debug -Dprefix=$(CURDIR)/$(ASAN) \
		-Dpython.purelibdir=$(CURDIR)/$(ASAN)/lib -Dpython.platlibdir=$(CURDIR)/$(ASAN)/lib >/dev/null
	@PATH="$(CURDIR)/$(BIN):$$PATH" meson install --quiet -C $(ASAN)/build
	PYTHONPATH=$(ASAN)/lib PYTHONMALLOC=malloc ASAN_OPTIONS=detect_leaks=0:verify_asan_link_order=0 \
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
		$(BIN)/pytest $(TWO) -p no:cacheprovider tests/unit/native tests/lane tests/props/test_native.py \
		tests/props/test_native_shim.py tests/clients/libmhost tests/netns/test_preload.py \
		-k "not valgrind" -m "not slow"

fuzz: setup  # what parses octets of strangers, under libFuzzer; FUZZ_S=600 looks longer
	@$(call apt,$(FUZZ_APT))
	@mkdir -p $(FUZZ)
	@set -e; for t in frame packed ring shim zmtp; do \
		echo "fuzz: $$t, $(strip $(FUZZ_S)) s"; \
		clang -g -O1 -std=c11 -D_GNU_SOURCE -fsanitize=fuzzer,address,undefined \
			-fno-sanitize-recover=all -DOCTET_MS=0 -Imhostd/native -Iclients/c \
			-o $(FUZZ)/$$t tests/fuzz/fuzz_$$t.c $(FUZZ_C); \
		mkdir -p $(FUZZ)/corpus-$$t; \
		$(FUZZ)/$$t -max_total_time=$(FUZZ_S) -max_len=4096 -artifact_prefix=$(FUZZ)/ \
			$(FUZZ)/corpus-$$t 2>$(FUZZ)/$$t.log \
			|| { tail -40 $(FUZZ)/$$t.log; exit 1; }; \
		tail -1 $(FUZZ)/$$t.log; \
	done

check: setup
	$(BIN)/ruff format --check -q .
	$(BIN)/ruff check -q .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format -q .
	$(BIN)/ruff check --fix -q .

setup: $(VENV)/.done

# $(call apt,PACKAGES): install those that are missing
apt = for p in $(1); do dpkg-query -W -f='$${Status}\n' $$p 2>/dev/null \
		| grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "apt:$$missing"; \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq install -y --no-install-recommends $$missing >/dev/null; fi

# $(call apt_stopped,PACKAGE,UNIT): the same for a service, which is neither started nor enabled
apt_stopped = test -x /usr/bin/$(2) || { systemctl -q mask $(2); $(call apt,$(1)); e=$$?; \
	systemctl -q unmask $(2); systemctl -q disable $(2) 2>/dev/null; exit $$e; }

$(VENV)/.tools: pyproject.toml
	@$(call apt,$(APT))
	@echo "python: a virtual environment with what mhostd needs"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check meson-python meson ninja \
		argparse-manpage shtab '.[test]'
	@touch $@

$(VENV)/.done: $(VENV)/.tools $(SOURCES)
	@echo "mhostd: building"
	@$(INSTALL) --force-reinstall .
	@touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis
