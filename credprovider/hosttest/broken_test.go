package hosttest

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
)

const brokenProvider = "{D1B0C6F2-6B0E-4C0B-8B1D-0C5A9B9D1F27}"

// TestTheHostSeesFaults: a host that calls everything well shows nothing. It takes a
// provider with one fault through the same visit each time.
func TestTheHostSeesFaults(t *testing.T) {
	besideOthers(t)
	useBroken(t)
	for _, c := range []struct{ fault, want string }{
		{"", ""},
		{"provider held by itself", "1 reference to the provider is left; the DLL is still loaded"},
		{"events held", "ICredentialProviderCredentialEvents is still held: 1 references"},
		{"event after UnAdvise", "SetFieldString after UnAdvise"},
		{"event of a field that is not there", "SetFieldString of field 2, which there is not"},
		{"event from another thread", "SetFieldString from a thread that is not the screen's"},
		{"state without an event", "field 0 (Password) is not as its events had it"},
		{"string of another allocator", "is not from CoTaskMemAlloc"},
		{"every interface", "QueryInterface for an unknown interface gave 0x00000000"},
		{"fields without end", "GetFieldDescriptorAt(2) gives a field, of 2"},
		{"field without a label", "field 0 has no label for Narrator"},
		{"default that is not there", "GetCredentialCount: the default is 1, of 1"},
		{"finished without a credential", "GetSerialization gives 0x00000000, response 2, and no buffer"},
		{"password kept", ""}, // wiped with the credential, and found before
		{"password in a lost string", "the password is still there"},
	} {
		t.Run(cmp.Or(c.fault, "none"), func(t *testing.T) {
			s := turnOn(t, "FAULT="+c.fault)
			var seen []string
			do := func(command string, words ...any) answer {
				s.start(command, words...)
				a := s.listen(command)
				if a.Error != "" {
					t.Fatalf("%s: %s", command, a.Error)
				}
				seen = append(seen, a.Breaches...)
				return a
			}
			found := func() bool {
				a := do("scan", hex.EncodeToString([]byte(password)))
				if a.Searched < 1<<20 {
					t.Errorf("only %d bytes were searched", a.Searched)
				}
				return len(a.Found) > 0
			}
			do("scenario", "logon")
			do("show")
			do("select", 0)
			if c.fault != "state without an event" {
				do("type", 0, password)
				if !found() {
					t.Error("the password that was just typed is not found")
				}
			}
			do("submit")
			do("deselect")
			if found() != (c.fault == "password kept" || c.fault == "password in a lost string") {
				t.Error("after deselection the password is found, or is not")
			}
			end := do("close")
			if end.ProviderReferences != 0 {
				seen = append(seen, fmt.Sprintf("%d reference to the provider is left; the DLL is still loaded", end.ProviderReferences))
			}
			if end.Unloaded != end.CanUnload || end.Unloaded != (end.ProviderReferences == 0) {
				t.Errorf("the DLL may be unloaded: %v; is unloaded: %v", end.CanUnload, end.Unloaded)
			}
			if found() {
				seen = append(seen, "the password is still there")
			}
			if c.want == "" && len(seen) > 0 || c.want != "" && !slices.ContainsFunc(seen, func(b string) bool { return strings.Contains(b, c.want) }) {
				t.Errorf("the host says %q, want %q", seen, c.want)
			}
		})
	}
}

// TestTheHostReportsACrash of a provider, which takes LogonUI with it.
func TestTheHostReportsACrash(t *testing.T) {
	useBroken(t)
	s := turnOn(t, "FAULT=crash")
	s.do("scenario", "logon")
	s.do("show")
	a := s.try("select", 0)
	if !strings.HasPrefix(a.Error, "crashed: 0xc0000005 at ") || !strings.HasSuffix(a.Error, `\broken.dll`) {
		t.Errorf("the host says %q", a.Error)
	}
	s.diesOf(3)
}

// useBroken installs the provider with faults in the place of ours, for one test.
func useBroken(t *testing.T) {
	t.Helper()
	need(t)
	setValue(t, providersKey+clsid, "Disabled", uint32(1))
	setValue(t, filtersKey+clsid, "Disabled", uint32(1))
	if err := windows(t).Import(t.Context(), fmt.Sprintf("[%s]\r\n", providersKey+brokenProvider)+classOf(brokenProvider, "broken.dll")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, key := range []string{providersKey + brokenProvider, classesKey + brokenProvider} {
			if err := windows(t).DeleteKey(context.Background(), key); err != nil {
				t.Error(err)
			}
		}
	})
}
