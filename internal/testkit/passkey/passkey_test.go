package passkey

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"sallyport/internal/factor/push"
)

var rp = push.RelyingParty{ID: "approve.example.com", Origin: "https://approve.example.com"}

func TestAPasskeyIsTakenAndWhatItForgesIsNot(t *testing.T) {
	digest := push.Digest([]byte("challenge"), push.Approve, "47")
	for name, k := range map[string]*Key{
		"ES256":  New(rp),
		"synced": NewSynced(rp),
		"EdDSA":  NewWith(rp, ed25519.NewKeyFromSeed(make([]byte, 32))),
		"RS256":  NewWith(rp, must(rsa.GenerateKey(rand.Reader, 2048))),
	} {
		a := k.Approver("Pixel")
		if a.Synced != (name == "synced") {
			t.Errorf("%s: %+v", name, a)
		}
		if _, err := push.VerifyAssertion(k.Assert(digest), a, rp, digest); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		k.AfterSigning = func(a *push.Assertion) { a.Signature[len(a.Signature)-1] ^= 1 }
		if _, err := push.VerifyAssertion(k.Assert(digest), a, rp, digest); err == nil {
			t.Errorf("%s: a flipped bit is taken", name)
		}
	}
	k := New(rp)
	if k.Assert(digest); k.Counter != 1 {
		t.Errorf("the counter is %d", k.Counter)
	}
}
