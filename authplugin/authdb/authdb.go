// Package authdb puts our mechanisms into macOS's rights database, and takes them out
// again: the edits of the definitions, what stands around `security authorizationdb`,
// and the agent's repair after an upgrade of macOS. (Apple: "Authorization Plug-ins";
// security(1).)
//
// A mechanism whose plug-in does not load fails, and with it the right: nobody could
// log in. So nothing goes in before the plug-in was seen to load and the agent to
// answer, nothing is written that was not proven to differ by our lines alone, and
// what was written is read again and put back where it is not what it should be.
package authdb

import (
	"context"
	"slices"
	"time"
)

// DefaultBundle is where macOS looks for our plug-in.
const DefaultBundle = "/Library/Security/SecurityAgentPlugins/Sallyport.bundle"

// Rights is this computer's rights database and what we know of it.
type Rights struct {
	// StateDir is the agent's: what was installed is remembered below it.
	StateDir string
	Wanted   Wanted
	// MayRepair is authorization_plugin.repair.
	MayRepair bool
	// Bundle is the plug-in, Program the agent's program, which loads it to try.
	Bundle, Program string
	// Answers asks whether logins are answered: the agent runs, and its vault is open.
	Answers func(ctx context.Context) error
	// Load loads a plug-in into this process, for `sallyport authdb dry-load`.
	Load func(bundle string) error
	// Run runs a program of the system; nil: as it is. Now is time.Now; nil, too.
	Run Runner
	Now func() time.Time
	// Patience is how long another process that changes the rights is waited for: an
	// agent that has just started may be at its repair.
	Patience time.Duration
	// Owner is whose the bundle has to be, and who may change rights: root. Only a
	// test is somebody else.
	Owner int
}

// Wanted says what is to be guarded.
type Wanted struct {
	Login   bool `json:"login"`
	Unlock  bool `json:"unlock"`
	Elevate bool `json:"elevate"` // Unlock means it too: both go by Authenticate
}

// rights are those that have to be changed for it.
func (w Wanted) has(right string) bool {
	switch right {
	case Console:
		return w.Login
	case Authenticate:
		return w.Elevate || w.Unlock
	case Screensaver:
		return w.Unlock
	}
	return false
}

// order is that of an installation. The login window comes last: it is the only one
// that cannot be mended from within a session, so everything that can go wrong has
// gone wrong before. A removal goes the other way round.
var order = []string{Authenticate, Screensaver, Console}

// State is how a right is.
type State string

// The states. Only Guarded and Unguarded are as they should be, and only one of them
// for one configuration.
const (
	Guarded   State = "guarded"   // ours are there, as they should be
	Unguarded State = "unguarded" // nothing of ours is there
	Disorder  State = "disorder"  // something of ours is there, not as it should be
	Unknown   State = "unknown"   // not as any macOS that we know has it, or not to be read
)

// Right is how one right is.
type Right struct {
	Right  string   `json:"right"`
	Wanted bool     `json:"wanted"`
	State  State    `json:"state"`
	Ours   []string `json:"ours"`
	Others []string `json:"others"`         // mechanisms that are neither ours nor Apple's
	Rule   string   `json:"rule,omitempty"` // what it leads to instead of mechanisms
	Why    string   `json:"why,omitempty"`  // not as it should be
}

// OK says whether the right is as it is wanted.
func (r Right) OK() bool {
	if r.Wanted {
		return r.State == Guarded
	}
	return r.State == Unguarded || r.State == Unknown && len(r.Ours) == 0
}

// Report is how the rights are; doctor and status show it.
type Report struct {
	OK     bool    `json:"ok"` // all of it is as configured
	Rights []Right `json:"rights"`
	// Installed says whether an installation has succeeded and was not taken back.
	Installed bool `json:"installed"`
	// Bundle says what is wrong with the plug-in; "": nothing. While one of the rights
	// has ours in it and the plug-in does not load, nobody gets in there.
	Bundle string `json:"bundle,omitempty"`
	// Repaired is when the agent last put ours back; zero: never.
	Repaired time.Time `json:"repaired,omitzero"`
	// Note says what could not be found out.
	Note string `json:"note,omitempty"`
}

// LockedOut says whether a right asks for a plug-in that cannot be used: whoever it
// guards does not get in.
func (r Report) LockedOut() bool {
	return r.Bundle != "" && slices.ContainsFunc(r.Rights, func(x Right) bool { return len(x.Ours) > 0 })
}
