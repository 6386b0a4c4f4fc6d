//go:build linux

package machine

import "testing"

// The last six digits of RFC 6238, appendix B, SHA-1.
func TestCodesOfTheRFC(t *testing.T) {
	p := &Phone{seed: []byte("12345678901234567890")}
	for at, want := range map[int64]string{59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"} {
		if got := p.code(at / step); got != want {
			t.Errorf("at %d: %s, want %s", at, got, want)
		}
	}
}

func TestACodeIsGivenOnce(t *testing.T) {
	p := &Phone{seed: []byte("12345678901234567890")}
	peeked := p.Peek()
	if got := p.Next(); got != peeked {
		t.Errorf("Peek said %s, Next %s", peeked, got)
	}
	seen := map[int64]bool{p.last: true}
	for range 3 {
		p.Next()
		if seen[p.last] {
			t.Errorf("step %d was given twice", p.last)
		}
		seen[p.last] = true
	}
}
