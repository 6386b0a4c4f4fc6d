# What macOS loads into a login, on Linux as on a Mac: the bundle of the plug-in, and
# the module of OpenPAM, each for both processors. And the agent for both out of one
# for each, which Go builds. build.sh calls:
#
#	make -f authplugin/darwin.mk OUT=DIR VERSION=v1.2.3 AGENTS="arm64/sallyport amd64/sallyport"
#		DIR/Sallyport.bundle, DIR/pam_sallyport.so.2, DIR/sallyport
#
# Every C file in authplugin/ and pam/ is part of it.

here    := $(patsubst %/,%,$(dir $(abspath $(lastword $(MAKEFILE_LIST)))))
top     := $(patsubst %/,%,$(dir $(here)))
client  := $(top)/internal/hookclient
pb      := $(client)/pb
VERSION ?= 0.0.0

$(if $(OUT),,$(error OUT is empty, and must be a directory))

plugin := $(sort $(wildcard $(here)/*.c)) $(here)/view.m
pam    := $(sort $(wildcard $(top)/pam/*.c))
hook   := $(client)/hookclient.c $(client)/text.c $(client)/transport_unix.c $(pb)/sallyport/login/v1/login.pb.c
inputs := $(plugin) $(pam) $(hook) $(here)/darwin.mk $(wildcard $(here)/sdk/*.mk $(here)/sdk/*.sh \
	$(here)/*.h $(here)/shim/*/*.h $(top)/pam/*.h $(client)/*.h $(pb)/sallyport/login/v1/*.h)

work := $(OUT)/.darwin

.PHONY: all
ifeq ($(ARCH),)

# --- for both processors ---

# Ad hoc. Who releases it signs all of it with a certificate.
ifeq ($(shell uname -s),Darwin)
LIPO := xcrun lipo
sign  = codesign --force --sign - $(1)
else
LIPO := llvm-lipo-19
sign  = llvm-objcopy-19 $(1)
endif

archs := arm64 x86_64
slice  = $(archs:%=$(work)/%/$(1))

all: $(OUT)/Sallyport.bundle $(OUT)/pam_sallyport.so.2 $(OUT)/sallyport

.PHONY: $(archs)
$(archs):
	@libs=$$($(here)/sdk/libs.sh $@) && \
		$(MAKE) --no-print-directory -f $(here)/darwin.mk ARCH=$@ LIBS="$$libs" OUT=$(OUT)

# Bundles name their version by three numbers ("CFBundleShortVersionString").
numbers := $(shell echo '$(VERSION)' | sed -E 's/^v?([0-9]+\.[0-9]+\.[0-9]+).*/\1/; t; s/.*/0.0.0/')

# What is loaded is never half of it.
.PHONY: $(OUT)/Sallyport.bundle
$(OUT)/Sallyport.bundle: $(archs)
	rm -rf $(work)/Sallyport.bundle
	mkdir -p $(work)/Sallyport.bundle/Contents/MacOS
	$(LIPO) -create -output $(work)/Sallyport.bundle/Contents/MacOS/Sallyport $(call slice,Sallyport)
	sed -e 's/@NUMBERS@/$(numbers)/' -e 's/@VERSION@/$(VERSION)/' $(here)/Info.plist.in >$(work)/Sallyport.bundle/Contents/Info.plist
	rm -rf $@
	mv $(work)/Sallyport.bundle $@

$(OUT)/pam_sallyport.so.2: $(archs)
	$(LIPO) -create -output $(work)/pam_sallyport.so.2 $(call slice,pam_sallyport.so.2)
	mv $(work)/pam_sallyport.so.2 $@

# Go changes what the linker has signed, and signs it anew for arm64 only.
.PHONY: $(OUT)/sallyport
$(OUT)/sallyport: $(AGENTS) $(archs)
	$(foreach agent,$(AGENTS),$(call sign,$(agent)) && )true
	$(LIPO) -create -output $(work)/sallyport $(AGENTS)
	mv $(work)/sallyport $@

else

# --- for one ---

include $(here)/sdk/flags.mk

CFLAGS   += -Wall -Wextra -Werror -Wconversion -Wshadow -ffile-prefix-map=$(top)=.
CPPFLAGS += -I$(client) -I$(pb) -I$(LIBS)/include
LDFLAGS  += -L$(LIBS)/lib -lprotobuf-nanopb -lnghttp2
export_of = $(addprefix -Wl$(comma)-exported_symbol$(comma)_,$(1))
comma    := ,

slice := $(work)/$(ARCH)
all: $(slice)/Sallyport $(slice)/pam_sallyport.so.2

$(slice):
	mkdir -p $@

# Each framework that something is taken from is named: what is found by way of
# another one would be bound to that one where a stub is wrong.
$(slice)/Sallyport: $(inputs) | $(slice)
	$(CC) $(CPPFLAGS) -I$(here) $(CFLAGS) -o $@ $(plugin) $(hook) $(LDFLAGS) \
		$(call export_of,AuthorizationPluginCreate) \
		-framework AppKit -framework Foundation -framework CoreFoundation -lobjc

$(slice)/pam_sallyport.so.2: $(inputs) | $(slice)
	$(CC) $(CPPFLAGS) -I$(top)/pam $(CFLAGS) -o $@ $(pam) $(hook) $(LDFLAGS) \
		$(call export_of,pam_sm_acct_mgmt pam_sm_authenticate pam_sm_setcred) -lpam

endif
