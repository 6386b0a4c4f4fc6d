//go:build linux

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"sallyport/internal/event"
	"sallyport/internal/testkit/sandbox"
)

// copied is another computer of everything that c has; its agent does not run yet.
func (c *computer) copied(name string) *computer {
	c.t.Helper()
	m, err := c.Copy(filepath.Join(c.t.TempDir(), name))
	ok(c.t, err)
	return &computer{Computer: m, t: c.t, name: name, cable: c.cable, id: c.id, codes: c.codes, paper: c.paper}
}

// TestVaultRolledBackIsNoticedByTheAuthority: an image of the whole disk agrees with
// itself; the authority has seen a later one.
func TestVaultRolledBackIsNoticedByTheAuthority(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	p := laptop.pin(s.phone("Pixel"), maya)
	ok(t, laptop.Stop())
	image := laptop.copied("image")
	laptop.restart()
	laptop.connected()
	laptop.byPhone(p, maya)
	ok(t, laptop.Stop())
	laptop.restart() // the authority hears how far it is
	laptop.connected()
	ok(t, laptop.Stop())

	image.restart()
	image.event(0, event.AuthorityRefused, "later state of this computer's vault")
	image.byCode(maya) // no phone rings for it
	st := image.status()
	if st.Authority.Refused != "vault_rolled_back" || st.Authority.Connected {
		t.Errorf("status says %+v", st.Authority)
	}
	if len(st.Problems) == 0 || !strings.Contains(st.Problems[0].Remedy, "tell security") {
		t.Errorf("status does not say what to do: %+v", st.Problems)
	}
	s.event("vault_rolled_back", "")
}

// TestAClonedComputerIsNoticed: two with one certificate.
func TestAClonedComputerIsNoticed(t *testing.T) {
	sandbox.Need(t)
	t.Parallel()
	s := newSite(t, allowOften)
	laptop := s.computer("laptop", pushOften...)
	laptop.pin(s.phone("Pixel"), maya)
	ok(t, laptop.Stop())
	clone := laptop.copied("clone")
	laptop.restart()
	laptop.connected()
	clone.restart()
	eventually(t, "one of the two is told", func() bool {
		for _, c := range []*computer{laptop, clone} {
			list, err := c.Events(0)
			ok(t, err)
			for _, e := range list {
				if e.Name == event.AuthorityRefused && (e.Reason == "replaced" || e.Reason == "vault_rolled_back") {
					return true
				}
			}
		}
		return false
	})
}
