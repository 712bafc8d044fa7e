# Everything a contributor does. `make` alone lists it.
SHELL := /bin/bash
VENV ?= .venv
export VENV
BIN := $(VENV)/bin

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing; prints what, and is quick when nothing is
	@tools/setup

demo: setup ## boot a guest under QEMU and one under LXC, and show them
	@tools/demo

images: setup ## build the container images of components and launchers, and try one
	@$(BIN)/python tools/images.py

guest-images: ## make the demo's guest images only
	@/usr/bin/python3 tools/guest_images.py "$$(dirname "$$($(BIN)/polyvisor kubeconfig 2>/dev/null)")/images"

test: setup ## unit tests, and tests with the real drivers, on all processors
	@$(BIN)/pytest -q -n auto --no-loadscope-reorder $(or $(TESTS),-m 'not e2e')

e2e: setup ## the whole system, faults included; slow
	@$(BIN)/pytest -q $(or $(TESTS),-m e2e tests/e2e)

clients: setup ## clients that others wrote: kubectl (present and 1.28), leader election, Helm, an operator, Ansible, kcli, openshift-python-wrapper, virtctl; slow
	@$(BIN)/pytest -q $(or $(TESTS),-m e2e tests/e2e/clients tests/e2e/test_other_client.py tests/e2e/test_virtctl.py)

lint: setup ## style, types, layers, and the project's own rules
	@VENV=$(VENV) tools/lint

clean-room: setup ## try this tree on a minimal Debian; DEBIAN=13 for that release, WITHOUT=PACKAGE to see it fail
	@/usr/bin/python3 tools/clean_room.py --debian $(or $(DEBIAN),12) $(addprefix --without=,$(WITHOUT)) $(OPTIONS)

proof: setup ## what need not run for each change; resumes; LANES="..." for some
	@$(BIN)/python tools/lanes.py proof $(LANES) $(OPTIONS)

lab: setup ## real hypervisors in emulated machines (root); LANES="..." for some
	@$(BIN)/python -m tests.lab $(LANES) $(OPTIONS)

release: setup ## write wheel, sdist, chart, images and checksums into dist/
	@$(BIN)/python tools/release.py

bench: setup ## measure, and write docs/performance.md
	@$(BIN)/python -m bench

clean: ## stop the demo and remove what was built
	@tools/clean

.DEFAULT_GOAL := help
.PHONY: help setup demo images guest-images test e2e clients lint clean-room proof lab release bench clean
