package engine

import (
	"fmt"
	"strings"
	"time"

	"sallyport/internal/factor"
)

// Offline is how the computer stands to its authority, where that is not on the
// line and a limit counts the time. The zero Offline is any other computer.
type Offline struct {
	Reached bool // the limit is: no code is taken, but a bypass
	Warn    bool // it is near
	// More logins after this one, and how long; -1 and the zero Time: no limit of
	// that kind.
	More  int
	Until time.Time // local
	Now   time.Time // local
}

// Challenge finds out what the helpdesk is to be told, for a bypass with no
// network; Challenged comes back.
type Challenge struct{}

// Challenged: the challenge is on disk. An empty Text: there is none, as no
// authority has the key for it.
type Challenged struct{ Text, Device string }

func (Challenge) output()          {}
func (Challenged) kind() inputKind { return challenged }

// help is what is typed for a challenge.
const help = "?"

func asksForHelp(a Answered) bool { return strings.TrimSpace(a.Text.Reveal()) == help }

// challenge is asked for beside a phone that rings, too; it rings no more.
func (m *Machine) challenge() (out []Output) {
	if m.state == AskingPush {
		out = append(out, EndPush{ReasonCancelled})
	}
	m.state = Challenging
	return append(out, Challenge{})
}

func (m *Machine) showChallenge(in Input) []Output {
	c := in.(Challenged)
	tell := "call your helpdesk and tell them: computer " + c.Device + ", challenge " + c.Text + "."
	switch {
	case m.facts.Offline.Reached && c.Text == "":
		return m.ask(AskingCode, offlineTooLong+"Connect it and log in again, or call your helpdesk.\nCode from your helpdesk: ", false)
	case m.facts.Offline.Reached:
		return m.ask(AskingCode, offlineTooLong+"Connect it and log in again.\nNo network? Then "+tell+"\nCode from your helpdesk: ", false)
	case c.Text == "":
		return m.ask(AskingCode, "There is no challenge on this computer: ask your helpdesk for a bypass code.\nCode: ", false)
	}
	return m.ask(AskingCode, "To get a code, "+tell+"\nCode: ", false)
}

const offlineTooLong = "This computer has been away from your organisation's network for too long, and takes no codes.\n"

// warning comes before the prompt where the limit is near.
func (o Offline) warning() string {
	if !o.Warn || o.Reached {
		return ""
	}
	const before = " before this computer must reach the network.\n"
	until := ""
	if !o.Until.IsZero() {
		until = "until " + day(o.Until, o.Now)
	}
	switch {
	case o.More == 0:
		return "This is the last login" + before
	case o.More < 0:
		return "Codes are taken " + until + "," + before
	case until != "":
		until = " or " + until + ","
	}
	logins := "logins"
	if o.More == 1 {
		logins = "login"
	}
	return fmt.Sprintf("%d more %s after this one,%s%s", o.More, logins, until, before)
}

// day is a moment to come, as people say it.
func day(t, now time.Time) string {
	switch {
	case t.Sub(now) < 6*24*time.Hour:
		return t.Format("Monday 15:04")
	default:
		return t.Format("2 January 15:04")
	}
}

// offlineText is what the person reads where a code is refused for it.
const offlineText = "This computer has been away from your organisation's network for too long, and took no code. Connect it and log in again, or call your helpdesk."

// reasonEmpty is why a login ends at whose prompt nothing was typed.
func (m *Machine) reasonEmpty() factor.Reason {
	if m.facts.Offline.Reached {
		return factor.OfflineLimit
	}
	return ReasonCancelled
}
