//go:build linux

package agenttest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sallyport/internal/event"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// oddNames are names that no account has (GHSA-x259-23ph-65m5), each with the
// word that must not be repeated anywhere.
func oddNames(u *account, word string) []string {
	return []string{
		word, word + ":x:0:0", "root\n" + word, word + "\r", u.name + "\x00" + word, u.name + "\x00", "\x00", word + "%s%n%x", "../../" + word,
		word + strings.Repeat("x", 290), word + strings.Repeat("\xc3\xa4", 145), word + "\xff\xfe", "\xc0\xaf" + word, u.name + " " + word,
		" " + u.name, u.name + " ", strings.ToUpper(u.name), fmt.Sprint(u.uid), fmt.Sprintf("#%d", u.uid), fmt.Sprintf("uid:%d", u.uid),
		"+", "-", "--help", "@" + word, "*", "'" + word + "'", "\"" + word, "\x1b[2J" + word, u.name + "\u200b", "\u202e" + word,
		u.name + ":", u.name + "/", "=" + word, "{\"user\":\"" + word + "\"}",
	}
}

// A name that does not resolve never skips, whatever is in it; and as it may be a
// password typed in the wrong place, it is never repeated.
func TestOddNamesAreDeniedAndNotRepeated(t *testing.T) {
	need(t)
	const word = "hunter2-in-the-wrong-field"
	for ask, prompts := range map[string]int{"enrolled": 0, "required": 1} {
		t.Run(ask, func(t *testing.T) {
			a := startAgent(t, "[policy]", fmt.Sprintf("ask = %q", ask), "[policy.exempt]", `users = ["root"]`, `groups = ["adm"]`)
			u, phone := a.enrolled()
			for _, name := range oddNames(u, word) {
				r := a.as(&account{name: name}, phone.code(t, 0))
				want(t, r, deny, "unknown_user")
				if len(r.prompts) != prompts {
					t.Errorf("%q: asked %q", name, r.prompts)
				}
				if !strings.Contains(name, "\x00") {
					if err := a.pam("chatty", &account{name: name}, phone.code(t, 0)); err == nil {
						t.Errorf("%q is in", name)
					}
				}
			}
			// As a user who is not root it is not even that user's own name.
			other := newUser(t)
			for _, name := range oddNames(u, word)[:10] {
				want(t, a.login(other.uid, begin(name), phone.code(t, 0)), deny, "not_your_account")
			}
			for what, text := range a.everything() {
				if strings.Contains(text, word) {
					t.Errorf("%s repeats what was typed as a name", what)
				}
				if strings.Contains(text, "\x1b[2J") {
					t.Errorf("%s has a terminal's escape sequence", what)
				}
			}
			want(t, a.as(u, phone.code(t, 0)), allow, "") // none of it used the code up
		})
	}
}

// Control characters and bytes that are not UTF-8, in what is kept of a login.
func TestOddItemsAreCleaned(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	odd := []byte("x\n\x1b]0;title\a\r\x00\xff\u0085y")
	r := a.login(0, begin(u.name, func(b *loginv1.Begin) {
		b.Service, b.RemoteHost, b.Session, b.Locale, b.Caller = odd, odd, odd, odd, odd
	}), phone.code(t, 0))
	want(t, r, allow, "")
	for what, text := range a.everything() {
		for _, bad := range []string{"\x1b", "\a", "\\u001b", "\u0085", "\xff"} {
			if what != "vault.db" && strings.Contains(text, bad) {
				t.Errorf("%s has %q", what, bad)
			}
		}
	}
	events := a.events()
	if e := events[len(events)-1]; !strings.HasPrefix(e.Service, "x?") || !strings.HasSuffix(e.Remote, "y") {
		t.Errorf("the event: %+v", e)
	}
}

// everything is all that the agent has said and kept, and what the hook told
// the system's log.
func (a *agent) everything() map[string]string {
	a.t.Helper()
	all := map[string]string{"the system's log": syslog.String()}
	for i, log := range a.logs {
		all[fmt.Sprintf("the agent's log (start %d)", i)] = log.String()
	}
	if !a.running() {
		return all
	}
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"events"}, {"events", "--json"}, {"user", "list"}, {"user", "list", "--json"},
		{"config", "show"}, {"config", "show", "--json"}} {
		got := a.command("", args...)
		all["sallyport "+strings.Join(args, " ")] = got.out + got.errOut
	}
	if db, err := os.ReadFile(filepath.Join(a.state, "vault.db")); err == nil {
		all["vault.db"] = string(db)
	}
	return all
}

// CVE-2024-9313: the user changed in the middle of the login. What was asked for
// one account is not answered for another.
func TestNameThatChangesItsUIDMidLoginIsDenied(t *testing.T) {
	need(t)
	a := startAgent(t)
	for name, edit := range map[string]func(passwd string, u, other *account) string{
		"another uid": func(passwd string, u, other *account) string {
			return strings.Replace(passwd, fmt.Sprintf("\n%s:x:%d:", u.name, u.uid), fmt.Sprintf("\n%s:x:%d:", u.name, other.uid), 1)
		},
		"root's uid": func(passwd string, u, _ *account) string {
			return strings.Replace(passwd, fmt.Sprintf("\n%s:x:%d:", u.name, u.uid), fmt.Sprintf("\n%s:x:0:", u.name), 1)
		},
		"no such user any more": func(passwd string, u, _ *account) string {
			return strings.Replace(passwd, fmt.Sprintf("\n%s:x:", u.name), fmt.Sprintf("\ngone-%s:x:", u.name), 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			u, phone := a.enrolled()
			other, otherPhone := a.enrolled()
			var before string
			st, p := a.ask(0, begin(u.name))
			hook := a.pamLogin("sshd", u.name, "")
			hook.answer = func(string) (string, error) {
				editPasswd(t, func(passwd string) string { before = passwd; return edit(passwd, u, other) })
				return phone.code(t, 0), nil
			}
			wantPAM(t, hook.run(), pamAuthErr)
			want(t, st.reply(p, phone.code(t, 0)), deny, "identity_changed")
			_ = before
			// Nor does the new name's bearer get in with the code of before.
			if r := a.as(u, phone.code(t, 0)); r.decision == allow {
				t.Errorf("with a code of uid %d: %s", u.uid, r)
			}
			editPasswd(t, func(passwd string) string {
				lines := slices.DeleteFunc(strings.Split(passwd, "\n"), func(l string) bool {
					return strings.HasPrefix(l, u.name+":") || strings.HasPrefix(l, "gone-"+u.name+":")
				})
				return strings.Join(lines, "\n") + fmt.Sprintf("%s:x:%d:100::/nonexistent:/bin/sh\n", u.name, u.uid)
			})
			want(t, a.as(u, phone.code(t, 0)), allow, "") // it was not used up
			want(t, a.as(other, otherPhone.code(t, 0)), allow, "")
		})
	}
}

// Two names of one uid are one record, one lockout and one used code; a name
// given to another uid takes no record with it.
func TestRecordsAreKeyedByUID(t *testing.T) {
	need(t)
	a := startAgent(t)
	u, phone := a.enrolled()
	alias := &account{"alias-" + u.name, u.uid}
	passwdMu.Lock()
	appendTo(t, "/etc/passwd", fmt.Sprintf("%s:x:%d:100::/nonexistent:/bin/sh\n", alias.name, alias.uid))
	passwdMu.Unlock()
	code := phone.code(t, 0)
	want(t, a.as(alias, code), allow, "")
	want(t, a.as(u, code), deny, "code_already_used")
	for i := range 10 {
		want(t, a.as([]*account{u, alias}[i%2], phone.wrong(t)), deny, "wrong_code")
	}
	want(t, a.as(alias, phone.code(t, 1)), deny, "locked")
	a.cli(nil, "unlock", alias.name)
	want(t, a.as(u, phone.code(t, 1)), allow, "")

	// The account is deleted, and a new one gets its name, but not its uid.
	heir := newUser(t)
	editPasswd(t, func(passwd string) string {
		passwd = strings.Replace(passwd, "\n"+u.name+":", "\nretired-"+u.name+":", 1)
		return strings.Replace(passwd, "\n"+heir.name+":", "\n"+u.name+":", 1)
	})
	want(t, a.as(&account{u.name, heir.uid}), skip, "not_asked")
	want(t, a.as(&account{"retired-" + u.name, u.uid}, phone.wrong(t)), deny, "wrong_code")
	if n := count(a.events(), event.LoginAttempt, u, "wrong_code"); n != 11 {
		t.Errorf("%d events of wrong codes, want 11", n)
	}
}
