package password

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf16"

	"sallyport/internal/accounts"
	"sallyport/internal/bounded"
)

// TestWhatWindowsErrorsMean: only the codes that Windows gives once the password
// was right let the login go on.
func TestWhatWindowsErrorsMean(t *testing.T) {
	right := map[uint32]bool{1330: true, 1907: true, 1385: true}
	wrongs := map[uint32]bool{86: true, 1317: true, 1323: true, 1326: true, 1332: true}
	reasons := map[uint32]string{
		1327: "account_restricted", 1328: "outside_logon_hours", 1329: "not_on_this_computer", 1331: "account_disabled", 1793: "account_expired",
		1909: "account_locked_out", 1311: "directory_unreachable", 1355: "directory_unreachable",
		1786: "trust_broken", 1787: "trust_broken", 1788: "trust_broken", 1789: "trust_broken",
	}
	for code := range uint32(16000) {
		want := Result{Reason: ReasonFailed, Text: textNotNow}
		if reason, ok := reasons[code]; ok {
			want.Reason = reason
		}
		switch {
		case right[code]:
			want = Result{Verdict: Right}
		case wrongs[code]:
			want = Result{Verdict: Wrong, Reason: ReasonWrong, Text: textWrong}
		}
		got := judge(code, false)
		if got.Verdict != want.Verdict || got.Reason != want.Reason || got.User != (accounts.User{}) || got.Groups != nil {
			t.Fatalf("%d: %+v, want %+v", code, got, want)
		}
		if (got.Verdict == Right) != (got.Text == "") || got.Reason == ReasonFailed && got.Text != textNotNow || strings.Contains(got.Text, "\n") {
			t.Errorf("%d says %q", code, got.Text)
		}
		if (got.Verdict == Wrong) != (got.Detail == "") { // the log is not to tell what the person is not told
			t.Errorf("%d is logged as %q", code, got.Detail)
		}
	}
	if r := judge(1<<31, true); r.Verdict != Refused || !strings.Contains(r.Detail, "2147483648") {
		t.Errorf("%+v", r)
	}
}

func TestAnUnknownUserIsToldWhatAWrongPasswordIs(t *testing.T) {
	for _, code := range []uint32{86, 1317, 1323, 1332} {
		if a, b := judge(code, false), judge(1326, false); a.Verdict != b.Verdict || a.Reason != b.Reason || a.Text != b.Text || a.Detail != b.Detail {
			t.Errorf("%d: %+v; 1326: %+v", code, a, b)
		}
	}
}

func TestTheZeroResultLetsNobodyIn(t *testing.T) {
	if (Result{}).Verdict != Refused {
		t.Error("nothing is an answer")
	}
}

func TestNamesAsLogonUserWantsThem(t *testing.T) {
	for name, want := range map[string]struct {
		user, domain  string
		hasDomain, ok bool
	}{
		`CORP\alice`:                     {"alice", "CORP", true, true},
		`.\alice`:                        {"alice", ".", true, true},
		`alice@corp.example`:             {"alice@corp.example", "", false, true},
		`MicrosoftAccount\a@example.com`: {"a@example.com", "MicrosoftAccount", true, true},
		`AzureAD\alice@corp.example`:     {"alice@corp.example", "AzureAD", true, true},
		`CORP\Jürgen Müller`:             {"Jürgen Müller", "CORP", true, true},
		`alice`:                          {"alice", "", false, false}, // whose?
	} {
		s, ok := accounts.Spell(name)
		if !ok {
			t.Errorf("%q is no name", name)
		}
		user, domain, hasDomain, ok := logonName(s)
		if user != want.user || domain != want.domain || hasDomain != want.hasDomain || ok != want.ok {
			t.Errorf("%q: %q, %q, %v, %v", name, user, domain, hasDomain, ok)
		}
	}
}

func TestThePasswordInUTF16IsInOnePlace(t *testing.T) {
	for _, s := range []string{"x", "Pässwörd", "😀🔑", "ключ", strings.Repeat("a", 1024), strings.Repeat("😀", 256), " ", "\ufffd"} {
		w := wide([]byte(s))
		if string(utf16.Decode(w)) != s+"\x00" {
			t.Errorf("%q is %v", s, w)
		}
		if cap(w) != len(s)+1 {
			t.Errorf("%q: the buffer grew to %d and left a copy behind", s, cap(w))
		}
	}
	for _, s := range []string{"\x00", "x\x00", "pass\x00word", "\xff", "pass\xe4", "\xed\xa0\x80"} {
		if w := wide([]byte(s)); w != nil {
			t.Errorf("%q is taken for %v", s, w)
		}
	}
}

func wiped(w []uint16) bool { return !slices.ContainsFunc(w, func(u uint16) bool { return u != 0 }) }

func TestThePasswordIsWipedBehindTheCheck(t *testing.T) {
	var calls bounded.Calls
	w := wide([]byte("correct horse"))
	r := check(t.Context(), &calls, w, func() Result {
		if wiped(w) {
			t.Error("there is no password to check")
		}
		return Result{Verdict: Right}
	})
	if r.Verdict != Right || !wiped(w) {
		t.Errorf("%+v, wiped: %v", r, wiped(w))
	}
}

// TestADomainControllerThatHangs: the login is denied in time; the password stays
// for as long as Windows reads it and no longer; one that is not read goes at once.
func TestADomainControllerThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls bounded.Calls
		up := make(chan struct{})
		hang := func() Result { <-up; return Result{Verdict: Right} }
		denied := func(r Result) bool {
			return r.Verdict == Refused && r.Reason == ReasonFailed && r.Text == textNotNow && r.Detail != ""
		}

		hanging := wide([]byte("correct horse"))
		begun := time.Now()
		if r := check(t.Context(), &calls, hanging, hang); !denied(r) || time.Since(begun) != limits.Patience {
			t.Errorf("%+v after %s", r, time.Since(begun))
		}
		if wiped(hanging) {
			t.Error("the password was wiped under Windows' hands")
		}
		never := func() Result { t.Error("the password of a login that is gone is checked"); return Result{} }
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		unread := wide([]byte("correct horse"))
		if r := check(gone, &calls, unread, never); !denied(r) || !wiped(unread) {
			t.Errorf("a login that is gone: %+v, wiped: %v", r, wiped(unread))
		}
		// Whoever floods us from a user's session leaves room for the login screen.
		for range limits.Others {
			ctx, cancel := context.WithTimeout(bounded.ForOthers(t.Context()), time.Millisecond)
			check(ctx, &calls, wide([]byte("guess")), hang)
			cancel()
		}
		unread = wide([]byte("guess"))
		if r := check(bounded.ForOthers(t.Context()), &calls, unread, never); !denied(r) || !wiped(unread) {
			t.Errorf("one more of the others: %+v, wiped: %v", r, wiped(unread))
		}
		if r := check(t.Context(), &calls, wide([]byte("x")), func() Result { return Result{Verdict: Right} }); r.Verdict != Right {
			t.Errorf("the login screen: %+v", r)
		}
		close(up)
		synctest.Wait()
		if !wiped(hanging) {
			t.Error("the password outlives the check")
		}
	})
}

// TestABlankPasswordThatIsRight: an installation must not lock out who has none.
func TestABlankPasswordThatIsRight(t *testing.T) {
	if r := judge(accountRestriction, true); r.Verdict != Right || r.Groups != nil {
		t.Errorf("%+v", r)
	}
	if r := judge(accountRestriction, false); r.Verdict != Refused {
		t.Errorf("with a password: %+v", r)
	}
	if r := judge(1326, true); r.Verdict != Wrong {
		t.Errorf("a blank one that is not right: %+v", r)
	}
}
