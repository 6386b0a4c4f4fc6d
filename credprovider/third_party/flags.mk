# How everything that is loaded into LogonUI is compiled and linked: one compiler,
# clang with lld, for both architectures. A Makefile that includes this sets
#
#	ARCH     amd64 or arm64
#	SYSROOT  what sysroot.sh prints for it
#
# and gets CC, CXX, AR and RC, and the flags for each step.
#
# Not here: ARM64's pointer authentication, which Windows 10 cannot unwind.

target.amd64 := x86_64-w64-mingw32
target.arm64 := aarch64-w64-mingw32
target       := $(or $(target.$(ARCH)),$(error ARCH is "$(ARCH)", and must be amd64 or arm64))
$(if $(wildcard $(SYSROOT)/include/windows.h),,$(error SYSROOT is "$(SYSROOT)", and must be what sysroot.sh prints))

comma := ,

# Debian has clang, but not all of LLVM's tools, without a version in its name.
llvm  := $(dir $(realpath $(shell command -v clang)))
CC    := $(llvm)clang --target=$(target) --sysroot=$(SYSROOT)
CXX   := $(llvm)clang++ --target=$(target) --sysroot=$(SYSROOT)
AR    := $(llvm)llvm-ar
RC    := $(llvm)llvm-windres --target=$(target) -I$(SYSROOT)/include

# What nghttp2's own configure would find, and what else third_party makes.
NGHTTP2_HAVE := -DHAVE_WINDOWS_H -DHAVE_GETTICKCOUNT64
MORE_LIBS    := libchkstk.a

# nghttp2 is linked statically, which its header must know.
CPPFLAGS := -DNGHTTP2_STATICLIB -D_FORTIFY_SOURCE=2

# Control Flow Guard, stack cookies, no use of what was never set.
harden := -O2 -mguard=cf -fstack-protector-strong -ftrivial-auto-var-init=zero \
	-ffunction-sections -fdata-sections
CFLAGS := $(harden) -std=c11
# Nothing of C++'s library is there, so nothing can pull it in.
CXXFLAGS := $(harden) -std=c++17 -nostdinc++ -fno-exceptions -fno-rtti -fno-threadsafe-statics

# dynamicbase, high-entropy-va: ASLR with all of the address space. nxcompat: DEP.
# s: no symbols. no-insert-timestamp: the same source gives the same file.
# runtime-pseudo-reloc: would make code writable while the DLL is loaded.
# dependentloadflag 0x800: the DLLs that we need come from System32 and never
# from beside the program that asks for credentials
# (LOAD_LIBRARY_SEARCH_SYSTEM32, "Load Configuration Structure").
# cetcompat: the processor's shadow stack, if the process has one, is kept for us
# too; it is x64's.
LDFLAGS := -fuse-ld=lld -nostdlib -s -L$(SYSROOT)/lib -mguard=cf \
	-Wl,--dynamicbase,--high-entropy-va,--nxcompat,--no-insert-timestamp,--gc-sections \
	-Wl,--disable-auto-import,--disable-runtime-pseudo-reloc,-Xlink=-dependentloadflag:0x800 \
	$(if $(filter amd64,$(ARCH)),-Wl$(comma)-Xlink=-cetcompat)

# What a DLL, a program and one with wmain are linked with first, and each last.
DLL_START   := -shared $(SYSROOT)/lib/dllcrt2.o
EXE_START   := $(SYSROOT)/lib/crt2.o
EXE_START_W := -municode $(SYSROOT)/lib/crt2u.o
LIBS := -lprotobuf-nanopb -lnghttp2 -lmingw32 -lmingwex -lchkstk -lmoldname -lucrt \
	-ladvapi32 -lgdi32 -lnetapi32 -lole32 -lsecur32 -luser32 -luuid -lwtsapi32 -lkernel32
