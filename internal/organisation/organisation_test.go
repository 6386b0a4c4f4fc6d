package organisation_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"sallyport/internal/organisation"
)

var (
	public, private, _ = ed25519.GenerateKey(rand.Reader)
	stranger           = ed25519.NewKeyFromSeed(make([]byte, 32))
)

var manifest = organisation.Envelope{Kind: organisation.KindApprovers, Device: "MARS", User: "maya", Version: 3, Payload: []byte(`{"approvers":[]}`)}

func sign(t *testing.T, key ed25519.PrivateKey, e organisation.Envelope) []byte {
	t.Helper()
	b, err := organisation.Sign(key, e)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWhatTheOrganisationSigned(t *testing.T) {
	e, err := organisation.Open(public, "MARS", sign(t, private, manifest))
	if err != nil {
		t.Fatal(err)
	}
	e.Signature = nil
	if !reflect.DeepEqual(*e, manifest) {
		t.Errorf("%+v", e)
	}
	// For every device.
	all := manifest
	all.Device = ""
	if _, err := organisation.Open(public, "VENUS", sign(t, private, all)); err != nil {
		t.Error(err)
	}
}

func TestAuthorityPlantsWhatIsNotSigned(t *testing.T) {
	good := sign(t, private, manifest)
	for name, change := range map[string]func(*organisation.Envelope){
		"kind":          func(e *organisation.Envelope) { e.Kind = organisation.KindPolicy },
		"device":        func(e *organisation.Envelope) { e.Device = "" },
		"user":          func(e *organisation.Envelope) { e.User = "root" },
		"no user":       func(e *organisation.Envelope) { e.User = "" },
		"version":       func(e *organisation.Envelope) { e.Version++ },
		"lower version": func(e *organisation.Envelope) { e.Version-- },
		"payload":       func(e *organisation.Envelope) { e.Payload = []byte(`{"approvers":[{}]}`) },
		"no payload":    func(e *organisation.Envelope) { e.Payload = nil },
		"no signature":  func(e *organisation.Envelope) { e.Signature = nil },
		"cut signature": func(e *organisation.Envelope) { e.Signature = e.Signature[:63] },
		"long one":      func(e *organisation.Envelope) { e.Signature = append(e.Signature, 0) },
		// What one field loses the next gains.
		"moved boundary": func(e *organisation.Envelope) { e.Device, e.User = "MARSm", "aya" },
		"moved kind":     func(e *organisation.Envelope) { e.Kind, e.Device = "approversM", "ARS" },
	} {
		var e organisation.Envelope
		if err := json.Unmarshal(good, &e); err != nil {
			t.Fatal(err)
		}
		change(&e)
		b, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := organisation.Open(public, "MARS", b); !errors.Is(err, organisation.ErrUnsigned) || got != nil {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	var e organisation.Envelope
	if err := json.Unmarshal(good, &e); err != nil {
		t.Fatal(err)
	}
	for i := range e.Signature {
		flipped := e
		flipped.Signature = bytes.Clone(e.Signature)
		flipped.Signature[i] ^= 1
		b, _ := json.Marshal(flipped)
		if _, err := organisation.Open(public, "MARS", b); !errors.Is(err, organisation.ErrUnsigned) {
			t.Fatalf("byte %d of the signature: %v", i, err)
		}
	}
	if _, err := organisation.Open(public, "MARS", sign(t, stranger, manifest)); !errors.Is(err, organisation.ErrUnsigned) {
		t.Errorf("another key: %v", err)
	}
	// No key is no reason to take anything.
	for _, key := range []ed25519.PublicKey{nil, {}, public[:31], make([]byte, 32)} {
		if _, err := organisation.Open(key, "MARS", good); !errors.Is(err, organisation.ErrUnsigned) {
			t.Errorf("a key of %d bytes: %v", len(key), err)
		}
	}
}

func TestWhatIsSignedButNotForThisDevice(t *testing.T) {
	if _, err := organisation.Open(public, "VENUS", sign(t, private, manifest)); err == nil || !strings.Contains(err.Error(), "MARS") {
		t.Errorf("another device's: %v", err)
	}
	if _, err := organisation.Open(public, "", sign(t, private, manifest)); err == nil {
		t.Error("a device without an id takes what is another's")
	}
	none := manifest
	none.Version = 0
	if _, err := organisation.Open(public, "MARS", sign(t, private, none)); err == nil {
		t.Error("an item without a version")
	}
	long := manifest
	long.Payload = make([]byte, organisation.MaxEnvelope)
	if b, err := organisation.Sign(private, long); err == nil {
		t.Errorf("signed %d bytes", len(b))
	}
	for _, b := range []string{"", "{", "null", "[]", `{"version":-1}`, `{"payload":"%"}`, strings.Repeat(" ", organisation.MaxEnvelope+1)} {
		if e, err := organisation.Open(public, "MARS", []byte(b)); err == nil {
			t.Errorf("%.20q: %+v", b, e)
		}
	}
}

// A signature of the key over anything else is none over an envelope.
func TestTheDomainKeepsSignaturesApart(t *testing.T) {
	e := manifest
	e.Signature = ed25519.Sign(private, e.Payload)
	b, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := organisation.Open(public, "MARS", b); !errors.Is(err, organisation.ErrUnsigned) {
		t.Error(err)
	}
}

func newDevice(t *testing.T) *ecdh.PrivateKey {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestASeedIsSealedToOneDevice(t *testing.T) {
	device := newDevice(t)
	seed := organisation.TOTP{URI: "otpauth://totp/maya?secret=GEZDGNBVGY3TQOJQ"}
	e := organisation.Envelope{Kind: organisation.KindTOTP, Device: "MARS", User: "maya", Version: 1}
	if err := e.Seal(device.PublicKey().Bytes(), seed); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(e.Payload, []byte("GEZD")) {
		t.Error("the seed can be read")
	}
	opened, err := organisation.Open(public, "MARS", sign(t, private, e))
	if err != nil {
		t.Fatal(err)
	}
	var got organisation.TOTP
	if err := opened.Unseal(device, &got); err != nil || got != seed {
		t.Errorf("%+v, %v", got, err)
	}
	for name, change := range map[string]func(*organisation.Envelope){
		"kind":            func(e *organisation.Envelope) { e.Kind = organisation.KindBypass },
		"device":          func(e *organisation.Envelope) { e.Device = "VENUS" },
		"user":            func(e *organisation.Envelope) { e.User = "root" },
		"version":         func(e *organisation.Envelope) { e.Version = 2 },
		"payload":         func(e *organisation.Envelope) { e.Payload[40] ^= 1 },
		"cut payload":     func(e *organisation.Envelope) { e.Payload = e.Payload[:31] },
		"no payload":      func(e *organisation.Envelope) { e.Payload = nil },
		"sealed to other": func(e *organisation.Envelope) { _ = e.Seal(newDevice(t).PublicKey().Bytes(), seed) },
	} {
		other := e
		other.Payload = bytes.Clone(e.Payload)
		change(&other)
		var got organisation.TOTP
		if err := other.Unseal(device, &got); err == nil || got.URI != "" {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if err := e.Unseal(newDevice(t), &got); err == nil {
		t.Error("another device opens it")
	}
	for _, key := range [][]byte{nil, make([]byte, 31), make([]byte, 32)} {
		if err := e.Seal(key, seed); err == nil {
			t.Errorf("sealed to a key of %d bytes, of no device", len(key))
		}
	}
}

// HPKE does not say who sealed: what the authority sealed itself opens, and only
// the signature keeps it out.
func TestWhoSealedIsSaidByTheSignatureOnly(t *testing.T) {
	device := newDevice(t)
	e := organisation.Envelope{Kind: organisation.KindBypass, Device: "MARS", User: "maya", Version: 9}
	if err := e.Seal(device.PublicKey().Bytes(), organisation.Bypass{Code: "123456789012"}); err != nil {
		t.Fatal(err)
	}
	if _, err := organisation.Open(public, "MARS", sign(t, stranger, e)); !errors.Is(err, organisation.ErrUnsigned) {
		t.Error(err)
	}
}

func TestTheToken(t *testing.T) {
	var token organisation.Token
	for i := range token.Secret {
		token.Secret[i] = byte(i)
	}
	for i := range token.CA {
		token.CA[i], token.Organisation[i] = byte(i+100), byte(i+200)
	}
	text := token.String()
	if len(text) != 129 || !strings.HasPrefix(text, "sallyport1.") {
		t.Fatalf("%q", text)
	}
	for _, typed := range []string{text, " " + text + "\n"} {
		if got, err := organisation.ParseToken(typed); err != nil || got != token {
			t.Errorf("%q: %+v, %v", typed, got, err)
		}
	}
	// Printing does not change it, as it is a copy.
	if token.String() != text {
		t.Error("printed twice, two texts")
	}
	for i := range text {
		for _, c := range []byte("Aa0.%\n ") {
			b := []byte(text)
			if b[i] == c {
				continue
			}
			b[i] = c
			got, err := organisation.ParseToken(string(b))
			if err == nil && (got != token || i != len(text)-1) { // the last one has spare bits
				t.Fatalf("character %d as %q: taken", i, c)
			}
			if err != nil && strings.Contains(err.Error(), text[20:40]) {
				t.Fatalf("the error repeats the token: %v", err)
			}
		}
	}
	short := base64.RawURLEncoding.EncodeToString(make([]byte, 87))
	for _, typed := range []string{"", "sallyport1.", "sallyport2." + text[11:], text[11:], text + "A", text[:128], "sallyport1." + short} {
		if got, err := organisation.ParseToken(typed); err == nil || got != (organisation.Token{}) {
			t.Errorf("%q: %+v", typed, got)
		}
	}
}

func FuzzOpen(f *testing.F) {
	for _, e := range []organisation.Envelope{manifest, {Kind: organisation.KindPolicy, Version: 1, Payload: []byte("{}")}} {
		b, err := organisation.Sign(stranger, e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := organisation.Open(public, "MARS", b); err == nil {
			t.Errorf("%+v", e)
		}
	})
}

func FuzzParseToken(f *testing.F) {
	f.Add(organisation.Token{}.String())
	f.Add("sallyport1.")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := organisation.ParseToken(s)
		if err != nil {
			if token != (organisation.Token{}) {
				t.Errorf("%q: %v", s, err)
			}
			return
		}
		if again, err := organisation.ParseToken(token.String()); err != nil || again != token {
			t.Errorf("%q: %v", s, err)
		}
	})
}
