# How everything that macOS loads into a login is compiled and linked, on Linux and
# on a Mac. A Makefile that includes this sets
#
#	ARCH  arm64 or x86_64
#
# and gets CC and AR, and the flags for each step. Apple's make is GNU make 3.81.

sdk := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
$(if $(filter arm64 x86_64,$(ARCH)),,$(error ARCH is "$(ARCH)", and must be arm64 or x86_64))

CC := $(sdk)/cc.sh -arch $(ARCH)
AR := $(if $(filter Darwin,$(shell uname -s)),xcrun ar,llvm-ar-19)

# What nghttp2's own configure would find.
NGHTTP2_HAVE := -DHAVE_ARPA_INET_H -DHAVE_NETINET_IN_H -DHAVE_CLOCK_GETTIME -DHAVE_DECL_CLOCK_MONOTONIC=1

# nghttp2 is linked statically, which its header must know.
CPPFLAGS := -DNGHTTP2_STATICLIB -D_FORTIFY_SOURCE=2

# Stack cookies, no use of what was never set.
CFLAGS := -O2 -std=c11 -fstack-protector-strong -ftrivial-auto-var-init=zero -fvisibility=hidden

# Position independent, as all of macOS's code is, and code is never writable. With
# chained fixups dyld binds every symbol as it loads (and not at the first call, in the
# midst of a login), so that a dry load finds what is missing.
LDFLAGS := -bundle -Wl,-dead_strip,-dead_strip_dylibs,-fixup_chains
