package rate

import "testing"

// FuzzAddressKey: whatever a proxy says, the key is bounded.
func FuzzAddressKey(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "fe80::1%eth0", "", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if k := Key(s); k == "" || len(k) > 64 {
			t.Errorf("%q: %q", s, k)
		}
	})
}
