//go:build unix

package accounts

import (
	"errors"
	"os/user"
	"testing"

	"sallyport/internal/policy"
)

// TestAFailedLookUpIsNoMembershipAndNoLackOfOne: whoever a failure made a member of
// nothing would be asked for nothing.
func TestAFailedLookUpIsNoMembershipAndNoLackOfOne(t *testing.T) {
	daemon, err := user.Lookup("daemon")
	if err != nil {
		t.Fatal(err)
	}
	root, err := user.LookupGroupId("0")
	if err != nil {
		t.Fatal(err)
	}
	uid, err := number(daemon.Uid)
	if err != nil {
		t.Fatal(err)
	}
	down := errors.New("opendirectoryd is not there")
	for name, c := range map[string]struct {
		user, group string
		member      bool
		err         error
		want        policy.Membership
		asked       bool
	}{
		"a member":                      {"daemon", root.Name, true, nil, policy.Member, true},
		"a member, by number":           {"daemon", "0", true, nil, policy.Member, true},
		"no member":                     {"daemon", root.Name, false, nil, policy.NotMember, true},
		"the directory is down":         {"daemon", root.Name, false, down, policy.Unknown, true},
		"down, and says yes":            {"daemon", root.Name, true, down, policy.Unknown, true},
		"no such user":                  {"nosuchuser", root.Name, true, nil, policy.Unknown, false},
		"no such group":                 {"daemon", "nosuchgroup", false, nil, policy.Unknown, false},
		"no group of that number":       {"daemon", "4000000123", false, nil, policy.Unknown, false},
		"no number, and no group":       {"daemon", "-1", false, nil, policy.Unknown, false},
		"a number that is out of reach": {"daemon", "4294967296", false, nil, policy.Unknown, false},
		"no group at all":               {"daemon", "", false, nil, policy.Unknown, false},
	} {
		asked := false
		got, err := membershipBy(func(u, g uint32) (bool, error) {
			if asked = true; u != uid || g != 0 {
				t.Errorf("%s: asked for uid %d in gid %d", name, u, g)
			}
			return c.member, c.err
		}, c.user, c.group)
		if got != c.want || (err == nil) != (c.want != policy.Unknown) || asked != c.asked {
			t.Errorf("%s: %v, %v, asked: %v", name, got, err, asked)
		}
	}
}
