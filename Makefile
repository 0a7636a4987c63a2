# Thin front over the CMake presets. `make run` and `make test` install what is missing, build and run.
SHELL := /bin/bash
PREFIX ?= /usr/local
packages = @cmake/install_packages.sh
ctest = OMP_WAIT_POLICY=passive ctest --output-on-failure --no-tests=error --no-label-summary --parallel $$(nproc) --test-dir
fuzz_seconds ?= 60
since ?= HEAD~1

.DEFAULT_GOAL := build
.PHONY: demo-smollm2 run test build bench asan tsan fuzz coverage format schema lint tidy hooks install package clean help

run:  ## build, run the demo experiment, print its table and the run directory
	$(packages)
	@cmake/build.sh release build eep
	@build/eep run experiments/demo/demo.yaml

demo-smollm2:  ## fetch a real language model (93 MB), make experts of it, search on a task made from WordNet
	$(packages) build smollm2
	@cmake/build.sh release build eep
	@experiments/smollm2/run.sh build/eep

test:  ## build and run all tests
	$(packages)
	@cmake/build.sh release build
	@$(ctest) build

build:  ## build the program: build/eep
	$(packages)
	@cmake/build.sh release build eep

bench:  ## build and run the microbenchmarks of every op and the population benchmark
	$(packages)
	@cmake/build.sh release build bench
	@bench/run.sh build

asan:  ## tests under AddressSanitizer and UndefinedBehaviorSanitizer (clang++, OpenMP off)
	$(packages) build check
	@cmake/build.sh asan build-asan
	@$(ctest) build-asan

tsan:  ## tests under ThreadSanitizer (clang++, OpenMP off)
	$(packages) build check
	@cmake/build.sh tsan build-tsan tests_kernels tests_engine tests_loaders
	@$(ctest) build-tsan -R '^(kernels|engine|loaders)$$'

fuzz:  ## fuzz every parser for fuzz_seconds=60 each (clang++)
	$(packages) build check
	@cmake/build.sh asan build-asan fuzzers
	@tests/fuzz/run.sh build-asan $(fuzz_seconds)

format:  ## rewrite the sources with clang-format
	$(packages) check
	@tests/scripts/format.sh --fix

schema:  ## write share/experiment.schema.json from the fields of the experiment file
	@cmake/build.sh release build eep
	@build/eep list schema >share/experiment.schema.json

lint:  ## format, layering, file sizes, wording, scripts
	$(packages) check
	@tests/scripts/lint.sh

tidy:  ## clang-tidy on the files that differ from since=HEAD~1
	$(packages) check
	@tests/scripts/tidy.sh build $(since)

hooks:  ## run `make lint` before each commit of this clone
	@printf '#!/bin/sh\nexec make --no-print-directory lint\n' >"$$(git rev-parse --git-path hooks)/pre-commit"
	@chmod +x "$$(git rev-parse --git-path hooks)/pre-commit"
	@echo "git commit runs make lint first (git commit --no-verify does not)"

coverage:  ## lines that the tests of the rooms reach (g++, gcov)
	$(packages)
	@rm -rf build-coverage/*/CMakeFiles/*/*.gcda
	@cmake/build.sh coverage build-coverage
	@$(ctest) build-coverage -R '^(kernels|engine|es|loaders|experiments)$$'
	@tests/scripts/coverage.sh build-coverage

install:  ## install program, headers, libraries, CMake package, man page under PREFIX=/usr/local (DESTDIR is honoured)
	$(packages)
	@cmake/build.sh release build
	@cmake --install build --prefix $(PREFIX)

package:  ## Debian packages and a tarball that needs no other package, in build/packages
	$(packages) build package
	@cmake/build.sh release build eep
	@cd build && cpack -G 'DEB;TGZ' -B packages >package.log || { cat package.log; exit 1; }
	@ls build/packages/*.deb build/packages/*.tar.gz

clean:  ## remove every build directory
	rm -rf build build-*

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile
