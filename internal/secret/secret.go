// Package secret holds the types for what must never be printed: codes, seeds
// and keys. Whatever formats or marshals one of them writes [redacted].
package secret

import (
	"crypto/subtle"
	"fmt"
	"log/slog"
)

const redacted = "[redacted]"

// String is a text that must not reach a log, an error or an event. Reveal is
// the only way to its content.
type String struct{ s string }

// New wraps s.
func New(s string) String { return String{s} }

// Reveal returns the content. Whoever calls it answers for where it goes.
func (s String) Reveal() string { return s.s }

// Empty says whether there is no content.
func (s String) Empty() bool { return s.s == "" }

// Equal compares in time that depends on the lengths only.
func (s String) Equal(other string) bool {
	return subtle.ConstantTimeCompare([]byte(s.s), []byte(other)) == 1
}

// String implements fmt.Stringer.
func (String) String() string { return redacted }

// GoString implements fmt.GoStringer, for %#v.
func (String) GoString() string { return redacted }

// Format implements fmt.Formatter, so that no verb (%x, %q, %d) gets through.
func (String) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (String) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, for JSON and TOML.
func (String) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Key is a 32-byte key.
type Key struct{ b [32]byte }

// NewKey copies b, which must be 32 bytes long, and wipes it.
func NewKey(b []byte) (*Key, error) {
	if len(b) != 32 {
		return nil, fmt.Errorf("a key of %d bytes, not 32", len(b))
	}
	k := new(Key)
	copy(k.b[:], b)
	clear(b)
	return k, nil
}

// Reveal returns the key's bytes; they are the key's own, not a copy.
func (k *Key) Reveal() []byte { return k.b[:] }

// Wipe overwrites the key.
func (k *Key) Wipe() { clear(k.b[:]) }

// String implements fmt.Stringer.
func (*Key) String() string { return redacted }

// Format implements fmt.Formatter.
func (*Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue implements slog.LogValuer.
func (*Key) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler.
func (*Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }
