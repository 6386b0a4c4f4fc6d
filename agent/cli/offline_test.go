package cli

import (
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"

	adminv1 "sallyport/proto/sallyport/admin/v1"
)

// TestUserShowSaysWhatIsLeftOffline, and why no code is taken.
func TestUserShowSaysWhatIsLeftOffline(t *testing.T) {
	for _, c := range []struct {
		user *adminv1.User
		want string
	}{
		{&adminv1.User{}, "not ready"},
		{&adminv1.User{OfflineReady: true}, "ready: can log in without a network"},
		{&adminv1.User{OfflineReady: true, OfflineLeft: wrapperspb.UInt32(1)}, "ready: can log in without a network, 1 time left"},
		{&adminv1.User{OfflineReady: true, OfflineLogins: 2, OfflineLeft: wrapperspb.UInt32(3)}, "ready: can log in without a network, 3 times left"},
		{&adminv1.User{OfflineLogins: 5, OfflineLeft: wrapperspb.UInt32(0), OfflineReached: true}, "no code is taken: offline_limit"},
	} {
		if got := newUserView(c.user).offline(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%v: %q, want %q", c.user, got, c.want)
		}
	}
}

func TestStatusSaysWhetherTheHelpdeskCanAnswer(t *testing.T) {
	for can, want := range map[bool]string{true: "the helpdesk can answer", false: "none while this computer is offline"} {
		said := ""
		printAuthority(newAuthorityView(&adminv1.AuthorityStatus{OfflineBypass: can}), func(name, format string, args ...any) {
			if name == "bypass" {
				said, _ = args[0].(string)
			}
		})
		if !strings.HasPrefix(said, want) {
			t.Errorf("%v: %q", can, said)
		}
	}
}
