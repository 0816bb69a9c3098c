# csp.h needs a C compiler, make and pthread. What uses another tool says so when it is missing;
# with CI=true or STRICT=1 a missing tool is a failure. `make CC=clang CFLAGS=-O3 test` works.
CC ?= cc
CXX ?= c++
CFLAGS ?= -O2 -g
CXXFLAGS ?= -O2 -g
PREFIX ?= /usr/local
B := build

WARN := -Wall -Wextra -Wshadow -Wconversion -Wundef -pedantic
C := $(CC) -std=c11 $(WARN) -I. $(CPPFLAGS) $(CFLAGS) -pthread $(LDFLAGS)
CPP11 := $(CXX) -std=c++11 $(WARN) -I. $(CPPFLAGS) $(CXXFLAGS) -pthread $(LDFLAGS)
HAVE_CXX := $(shell command -v $(firstword $(CXX)) 2>/dev/null)
FOLDERS := examples $(addprefix examples/,channels select goroutines sync context parallel net files embed debug)
EXAMPLES := $(patsubst %.c,$B/%,$(notdir $(wildcard $(FOLDERS:%=%/*.c)))) $B/library
ifneq ($(HAVE_CXX),)
EXAMPLES += $(patsubst %.cc,$B/%,$(notdir $(wildcard $(FOLDERS:%=%/*.cc))))
endif
vpath %.c $(FOLDERS)
vpath %.cc $(FOLDERS)
CHECKS := matrix strict cxx wrong asan ubsan tsan torture guards pages variants seccomp musl i686 arm64 \
	arm32 riscv64 firmware valgrind lint

all: examples $B/csp_test ## the examples and the tests, into build/

run: $B/showcase ## eight seconds of a hundred thousand goroutines
	@$B/showcase

test: $B/csp_test examples ## the tests, and the examples' output (make test T=chan: one suite)
	@sh .ci/test $B $T

t: $B/quick_test ## the quick loop, seconds from edit to result: -O0, few rounds (T=chan: a suite; T=fifo: by name)
	@sh .ci/quick $B/quick_test $T

check: ## everything: compilers, options, languages, sanitizers, emulators, lint
	@sh .ci/check

$(CHECKS): ## one part of make check
	@sh .ci/check $@

examples: $(EXAMPLES) ## the examples, into build/

bench: $B/bench ## the benchmarks' rows
	@$B/bench $(ROWS)

bench-peers: $B/bench $B/cores $B/latency ## the same beside Go
	@sh examples/bench/compare.sh $(ROWS)

bench-specialists: $(addprefix $B/,specialists bench httpd server csp.o) ## beside TBB, OpenMP, Tokio, libuv, nginx (ROUNDS=5)
	@ROUNDS=$(or $(ROUNDS),5) sh examples/bench/specialists.sh $(ROWS)

tail: $B/server ## a web server's slowest requests, beside nginx and Go
	@sh examples/bench/tail.sh $(ROWS)

files: $B/httpd $B/server ## what a small file costs a web server (httpd), beside nginx
	@sh examples/bench/files.sh $(ROWS)

latency: $B/latency ## how late timers, pipes and messages are, beside computing goroutines
	@$B/latency $(ROWS)

scale: $B/scale ## what many cores would wait for, counted for 1 to 64 processors
	@sh examples/bench/scale.sh $(ROWS)

soak: $B/soak ## everything at once for SECONDS (600): memory and descriptors stay flat
	@$B/soak $(or $(SECONDS),600)

format: ## clang-format, in place; the picture of the rooms; the interface on one page
	@mkdir -p $B
	@sh .ci/check --format

install: $B/csp.pc ## csp.h and csp.pc under DESTDIR/PREFIX
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/share/pkgconfig
	install -m 644 csp.h $(DESTDIR)$(PREFIX)/include/csp.h
	install -m 644 $B/csp.pc $(DESTDIR)$(PREFIX)/share/pkgconfig/csp.pc

clean: ## removes build/
	rm -rf $B

help: ## this list
	@sed -n 's/^\$$(CHECKS): ## \(.*\)/$(CHECKS):@\1/p; s/^\([a-z-]*\):.* ## \(.*\)/\1@\2/p' Makefile | \
		awk -F@ '{ if (length($$1) < 14) printf "  %-14s%s\n", $$1, $$2; else printf "  %s\n                %s\n", $$1, $$2 }'

$B/csp_test: csp_test.c csp.h $B/flags
	$C csp_test.c -o $@ $(LDLIBS)

$B/quick_test: csp_test.c csp.h $B/flags
	@$C -O0 -g1 csp_test.c -o $@ $(LDLIBS)

$B/bench $B/cores $B/fairness $B/growth $B/latency $B/scale $B/server $B/soak $B/specialists: $B/%: examples/bench/%.c csp.h $B/flags
	$C $< -o $@ $(LDLIBS)

# An example is a whole program, which `cc -I. examples/hello.c -pthread` compiles as it stands. Here
# CSP_IMPLEMENTED says that the implementation has been compiled already: once, in csp.o, for all.
$B/%: %.c $B/csp.o $B/flags
	@echo '$(CC) -DCSP_IMPLEMENTED $< $B/csp.o -o $@'
	@$C -DCSP_IMPLEMENTED $< $B/csp.o -o $@ $(LDLIBS)

$B/%: %.cc $B/csp.o $B/flags
	$(CPP11) $< $B/csp.o -o $@ $(LDLIBS)

$B/library: $(wildcard examples/embed/library/*) csp.h $B/flags
	$C $(filter %.c,$^) -o $@ $(LDLIBS)

$(patsubst examples/net/%.c,$B/%,$(wildcard examples/net/*.c)): $(wildcard examples/net/*.h)

$B/csp.o: csp.h $B/flags
	echo '#include "csp.h"' | $C -DCSP_IMPLEMENTATION -c -x c - -o $@

# Changes only when the compiler or the options do.
$B/flags: always
	@mkdir -p $B
	@echo '$C $(CPP11)' | cmp -s - $@ || echo '$C $(CPP11)' >$@

$B/csp.pc: csp.h $B/flags
	@{ echo 'prefix=$(PREFIX)'; \
	echo 'Name: csp.h'; \
	echo 'Description: goroutines, channels and select for C, in one header'; \
	echo "Version: $$(sed -n 's/^#define CSP_VERSION "\(.*\)"/\1/p' csp.h)"; \
	echo 'Cflags: -I$${prefix}/include -pthread -fstack-clash-protection'; \
	echo 'Libs: -pthread'; } >$@

.PHONY: all run test t check $(CHECKS) examples bench bench-peers bench-specialists tail files latency scale soak format install clean help always
