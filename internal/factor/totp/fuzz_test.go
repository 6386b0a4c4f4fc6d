package totp_test

import (
	"bytes"
	"strings"
	"testing"

	"sallyport/internal/factor/totp"
)

// FuzzFromURI: no input panics, what is accepted is fit to verify codes with
// and survives the way out and in again, and no error holds the input's secret.
func FuzzFromURI(f *testing.F) {
	f.Fuzz(func(t *testing.T, uri string) {
		s, err := totp.FromURI(uri)
		if err != nil {
			if len(uri) >= 24 && strings.Contains(err.Error(), uri) {
				t.Errorf("the error holds the URI: %v", err)
			}
			if _, value, ok := strings.Cut(uri, "secret="); ok {
				if value, _, _ = strings.Cut(value, "&"); len(value) >= 10 && strings.Contains(err.Error(), value) {
					t.Errorf("the error holds the secret: %v", err)
				}
			}
			return
		}
		if len(s.Seed) < 10 || s.Period != 30 || s.Digits != 6 && s.Digits != 8 {
			t.Fatalf("accepted: %d bytes, %d s, %d digits", len(s.Seed), s.Period, s.Digits)
		}
		back, err := totp.FromURI(s.URI("issuer", "name"))
		if err != nil || !bytes.Equal(back.Seed, s.Seed) || back.Algorithm != s.Algorithm || back.Digits != s.Digits {
			t.Fatalf("does not come back: %v", err)
		}
		if s.Verify("", atStep(5)) != totp.Wrong {
			t.Fatal("takes an empty code")
		}
	})
}

// FuzzDecodeSeed: no input panics, and what decodes is what its text says.
func FuzzDecodeSeed(f *testing.F) {
	f.Fuzz(func(t *testing.T, text string) {
		seed, err := totp.DecodeSeed(text)
		if err != nil {
			if len(text) >= 10 && strings.Contains(err.Error(), text) {
				t.Errorf("the error holds the secret: %v", err)
			}
			return
		}
		again, err := totp.DecodeSeed((&totp.State{Seed: seed}).SeedText())
		if err != nil || !bytes.Equal(seed, again) {
			t.Fatalf("%q decodes to %d bytes that do not come back: %v", text, len(seed), err)
		}
	})
}
