// Package loginsvc is the login socket's service: it takes a hook's messages,
// finds out who wants in, and carries out what the engine says.
package loginsvc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc"

	"sallyport/agent/store"
	"sallyport/internal/accounts"
	"sallyport/internal/clock"
	"sallyport/internal/config"
	"sallyport/internal/engine"
	"sallyport/internal/event"
	"sallyport/internal/factor"
	"sallyport/internal/factor/offline"
	"sallyport/internal/factor/push"
	"sallyport/internal/factor/totp"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	"sallyport/internal/password"
	"sallyport/internal/policy"
	"sallyport/internal/qr"
	"sallyport/internal/secret"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

const (
	protocolVersion = 1
	// beginTime is how long a hook may take to say who wants in.
	beginTime = 5 * time.Second
	// skipPatience is how long somebody of whom nothing is asked waits for the
	// event to be on the disk: a disk that hangs must not keep them out.
	skipPatience = 2 * time.Second
)

// Reasons of this package, beside the engine's.
const (
	reasonVault     factor.Reason = "vault_unavailable"
	reasonLookup    factor.Reason = "lookup_failed"
	reasonConfig    factor.Reason = "config_broken"
	reasonIdentity  factor.Reason = "identity_changed"
	reasonNotYou    factor.Reason = "not_your_account"
	reasonTooMany   factor.Reason = "too_many_logins"
	reasonVanished  factor.Reason = "hook_vanished"
	reasonStopping  factor.Reason = "agent_stopping"
	reasonEnrolment factor.Reason = "enrolment_failed"
)

// Settings is what the service needs of the configuration, as it is now.
type Settings struct {
	Config config.Config
	// Broken: the agent started with a configuration that cannot be read, and
	// Config.Policy is the last good one; without RulesKnown there is none.
	Broken      bool
	RulesKnown  bool
	IssuerLabel string
}

// Names is who is who on this computer; an accounts.Names.
type Names interface {
	Lookup(ctx context.Context, name string) (accounts.User, error)
	Resolver(ctx context.Context, seen func(id identity.ID, group string) bool, who accounts.User, groups []identity.ID) policy.Resolver
}

// Service implements loginv1.LoginServiceServer.
type Service struct {
	loginv1.UnimplementedLoginServiceServer
	Store    *store.Store
	Names    Names
	Clock    clock.Clock
	Settings func() Settings
	Stopping <-chan struct{} // closed when open logins must end
	Courier  Courier         // nil: no phone is ever asked
	// Password has the system check what a credential provider sends; nil where the
	// system checks passwords before it asks a hook. The caller wipes its own copy.
	Password password.Checker
	Facts    Facts
	// Admitted is told whom a credential provider may let in, once that is on disk;
	// may be nil.
	Admitted func(id identity.ID)

	admission
	timer func(time.Duration) <-chan time.Time // nil: the real one
}

// login is one conversation.
type login struct {
	*Service
	ctx      context.Context
	stream   grpc.BidiStreamingServer[loginv1.HookMessage, loginv1.Directive]
	settings Settings
	incoming chan *loginv1.HookMessage // closed when the hook is gone
	peer     localsock.Peer
	begin    *loginv1.Begin

	proof    proof
	user     accounts.User
	resolved bool
	event    event.Event // what every event of this login says
	machine  engine.Machine
	recorded bool        // the verdict's event is on disk already
	pending  *totp.State // made, not yet in force
	claimed  bool        // this login typed the one-time code to enrol

	imagined    *Imagined          // nobody makes this login
	explanation policy.Explanation // of an imagined one
	allowed     factor.Allowed     // the factors that count
	digits      int                // of the number to type on the phone
	place       factor.Place       // where a factor is remembered
	remember    time.Duration      // and how long; 0: not at all
	limits      offline.Limits     // of logins without contact
	standing    offline.Standing   // as the login began; the zero Standing: nothing limits it

	patience <-chan time.Time     // the person's at the open prompt
	push     *pushing             // nil: no phone is being asked
	held     *loginv1.HookMessage // came together with the phone's answer, which goes first
	outcome  string               // of the login, for the phone
}

// Converse is one login, from Begin to the verdict.
func (s *Service) Converse(stream grpc.BidiStreamingServer[loginv1.HookMessage, loginv1.Directive]) error {
	peer, err := localsock.FromContext(stream.Context())
	if err != nil {
		return err
	}
	l := &login{Service: s, ctx: stream.Context(), stream: stream, settings: s.Settings(), peer: peer}
	if !peer.IsRoot() {
		l.ctx = accounts.ForOthers(l.ctx)
	}
	leave, ok := s.enter(peer, l.settings.Config.Limits, s.Clock.Now().Boot)
	if !ok {
		return l.tooMany()
	}
	defer leave()

	l.incoming = make(chan *loginv1.HookMessage, 1)
	go func() {
		defer close(l.incoming)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case l.incoming <- m:
			case <-l.ctx.Done():
				return
			}
		}
	}()
	return l.run()
}

func (l *login) run() error {
	l.event = event.Event{By: l.peer.String()}
	first, why := l.wait(beginTime)
	if first == nil {
		return l.refuse(why, "")
	}
	l.begin = first.GetBegin()
	if err := checkBegin(l.begin); err != nil {
		clear(l.begin.GetPassword())
		l.event.Text = err.Error()
		return l.refuse(engine.ReasonProtocol, "")
	}
	l.describe()

	if !l.mayBegin() {
		return l.refuse(engine.ReasonProtocol, "")
	}
	if reason, text := l.firstFactor(); reason != "" {
		return l.refuse(reason, text)
	}
	if reason, text := l.identify(); reason != "" {
		return l.refuse(reason, text)
	}
	leave, ok := l.enterAccount(l.event.Key)
	if !ok {
		return l.tooMany()
	}
	defer leave()
	l.outcome = "cancelled"
	defer func() { l.endPush(l.outcome) }() // also when the hook vanished
	in := l.decide()
	for {
		out := l.machine.Step(in)
		in = nil
		for _, o := range out {
			switch o := o.(type) {
			case engine.Prompt:
				if err := l.send(promptDirective(o)); err != nil {
					return err
				}
				l.patience = l.after(time.Duration(l.settings.Config.Limits.PromptTime))
			case engine.Notice:
				if err := l.send(noticeDirective(o)); err != nil {
					return err
				}
			case engine.Waiting:
				if err := l.send(waitingDirective(o)); err != nil {
					return err
				}
			case engine.ClosePrompt:
				if err := l.send(closeDirective(o)); err != nil {
					return err
				}
			case engine.EndPush:
				outcome := "cancelled"
				if o.Reason == factor.PushTimedOut {
					outcome = "timed_out"
				}
				l.endPush(outcome)
			case engine.Verdict:
				return l.finish(o)
			default:
				in = l.carryOut(o)
			}
		}
		if in == nil {
			in = l.await()
		}
	}
}

// tooMany denies whom admission did not let in. That is for the log only: whoever
// floods us must not push out the events kept.
func (l *login) tooMany() error {
	l.Store.LogRefused(event.Event{Name: event.RequestRefused, By: l.peer.String(), User: l.event.User, Key: l.event.Key, Reason: string(reasonTooMany)})
	return l.send(verdictDirective(engine.Verdict{Decision: engine.Deny, Reason: reasonTooMany, Text: "Too many logins. Please wait a minute."}))
}

// wait takes the hook's next message, or says why there is none.
func (l *login) wait(d time.Duration) (*loginv1.HookMessage, factor.Reason) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case m, ok := <-l.incoming:
		if !ok {
			return nil, reasonVanished
		}
		return m, ""
	case <-timer.C:
		return nil, engine.ReasonTimedOut
	case <-l.Stopping:
		return nil, reasonStopping
	}
}

// await turns what happens next, at the hook or at the phone, into the engine's
// input.
func (l *login) await() engine.Input {
	if m := l.held; m != nil {
		l.held = nil
		return l.input(m)
	}
	for {
		var answers <-chan push.Answer
		var expired <-chan time.Time
		if l.push != nil {
			answers, expired = l.push.sent.Answers, l.push.expired
		}
		select {
		case m, ok := <-l.incoming:
			if !ok {
				return engine.Failed{Reason: reasonVanished}
			}
			if m.GetAnswer() != nil {
				// Enter right behind the approval is meant to find it here.
				select {
				case a, ok := <-answers:
					if ok {
						l.held, l.push.answer = m, a
						return engine.PushAnswered{}
					}
				default:
				}
			}
			return l.input(m)
		case a, ok := <-answers:
			if !ok { // the link is cut: nothing more will come, and the time runs
				l.push.sent.Answers = nil
				continue
			}
			l.push.answer = a
			return engine.PushAnswered{}
		case <-expired:
			return engine.PushExpired{}
		case <-l.patience:
			return engine.TimedOut{}
		case <-l.Stopping:
			return engine.Failed{Reason: reasonStopping}
		}
	}
}

// input is the engine's, of a message of the hook.
func (l *login) input(m *loginv1.HookMessage) engine.Input {
	switch {
	case m.GetCancel() != nil:
		return engine.Cancelled{}
	case m.GetAnswer() != nil && len(m.GetAnswer().GetText()) <= maxAnswer:
		a := m.GetAnswer()
		in := engine.Answered{PromptID: a.GetPromptId(), Text: secret.New(string(a.GetText())), IsPassword: a.GetIsPassword()}
		if l.push != nil {
			in.Left = l.push.live.Until.Left(l.Store.Now())
		}
		return in
	}
	return engine.Failed{Reason: engine.ReasonProtocol}
}

// mayBegin says whether what the hook says of itself can be. An authorization
// plug-in asks from its privileged mechanism, in a login of its own.
func (l *login) mayBegin() bool {
	if !l.byPlugin() {
		return true
	}
	switch {
	case !l.peer.IsRoot():
		l.event.Text = "the hook says that it is an authorization plug-in, and it is not root's"
	case l.begin.GetStage() != loginv1.Stage_STAGE_AUTHENTICATE || l.remote():
		l.event.Text = "an authorization plug-in asks for somebody who logs in at this computer, and nothing else"
	default:
		return true
	}
	return false
}

// byPlugin: the hook is macOS's authorization plug-in.
func (l *login) byPlugin() bool {
	return l.begin.GetHook() == loginv1.HookKind_HOOK_KIND_AUTHORIZATION_PLUGIN
}

// identify finds out who wants in. A reason ends the login.
func (l *login) identify() (reason factor.Reason, text string) {
	user, err := l.who()
	switch {
	case errors.Is(err, errNotTheOwner):
		l.event.Text = err.Error()
		return reasonIdentity, ""
	case err == nil:
		l.user, l.resolved = user, true
		l.event.User, l.event.Key = user.Name, string(user.ID)
	case !errors.Is(err, accounts.ErrUnknown):
		l.event.Text = err.Error()
		return reasonLookup, "This computer cannot look up your account right now."
	}
	// A user that is not root asks only for itself. What it typed is not logged.
	if !l.mayAsk() {
		l.event.User, l.event.Key, l.event.Text = "", "", "asked to log in somebody else"
		return reasonNotYou, "You may only log in yourself."
	}
	return "", ""
}

// decide asks the policy, and the vault where the policy wants to know.
func (l *login) decide() engine.Input {
	decision := l.judge()
	l.event.Rule, l.allowed, l.digits = decision.Rule, engine.Allowed(decision), max(decision.Digits, l.settings.Config.Push.Digits)
	begun := engine.Begun{
		Decision: decision, Resolved: l.resolved,
		AccountOnly: l.begin.GetStage() == loginv1.Stage_STAGE_ACCOUNT,
		// Its view is in front of everybody, before a login as well.
		Visible: !l.byPlugin(),
		QR:      l.begin.GetCapabilities().GetQr(),
		Live:    l.begin.GetCapabilities().GetCancelPrompt(),
	}
	if decision.Effect == policy.Skip {
		return begun
	}
	if l.resolved {
		if err := l.lookUp(&begun); err != nil {
			l.event.Text = err.Error()
			return engine.Failed{Reason: reasonVault}
		}
	}
	if l.resolved && l.settings.Broken && (begun.Enrolled || decision.Effect == policy.Ask) {
		l.event.Text = "the agent started with a broken configuration: sallyport config check"
		return engine.Failed{Reason: reasonConfig}
	}
	if err := l.stand(&begun); err != nil {
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonVault}
	}
	return begun
}

// lookUp adds what the vault knows of the user.
func (l *login) lookUp(begun *engine.Begun) error {
	waiting := false
	read := func(tx *vault.Tx) error {
		account, err := store.Account(tx, string(l.user.ID))
		if err != nil {
			return err
		}
		begun.Remembered = account.Remembers(l.place, l.now(tx))
		if begun.Enrolled = account.IsEnrolled(); !begun.Enrolled {
			_, waiting, err = store.PendingImport(tx, l.user.Name)
		}
		e := l.settings.Config.Enrolment
		// Only root's hooks say the truth of where the person is, and have seen
		// the password.
		begun.MayEnrol = l.peer.IsRoot() && e.AtLogin && begun.Decision.Effect == policy.Ask &&
			account.EnrolmentOpen(l.now(tx)) && (e.Remote || !l.remote())
		begun.NeedsEnrolCode = begun.MayEnrol && account.Enrolment.Code != nil
		if err == nil && l.mayPush() {
			var phones []push.Approver
			_, phones, err = l.approvers(tx, account)
			begun.Push = len(phones) > 0
		}
		return err
	}
	if err := l.Store.View(read); err != nil {
		return err
	}
	if !waiting && len(begun.Decision.Groups) == 0 {
		return nil
	}
	if l.imagined != nil { // a secret that waits for this login makes them enrolled
		begun.Enrolled = begun.Enrolled || waiting
		return nil
	}
	return l.Store.Update(l.ctx, func(tx *vault.Tx) error {
		if waiting { // a secret that was imported before this name resolved
			if err := l.adoptImport(tx); err != nil {
				return err
			}
		}
		for _, group := range begun.Decision.Groups {
			if err := store.NoteSeen(tx, l.user.ID, group); err != nil {
				return err
			}
		}
		return read(tx)
	})
}

func (l *login) adoptImport(tx *vault.Tx) error {
	i, found, err := store.PendingImport(tx, l.user.Name)
	if err != nil || !found {
		return err
	}
	if a, err := store.Account(tx, string(l.user.ID)); err != nil || a.IsEnrolled() {
		return err
	}
	imported := l.event
	imported.Name, imported.Text = event.UserImported, "from "+i.Source+", kept until this login"
	tx.Append(imported)
	return store.Adopt(tx, i, string(l.user.ID), l.user.Name)
}

// remote says whether the person may sit somewhere else.
func (l *login) remote() bool {
	return l.begin.GetScenario() == loginv1.Scenario_SCENARIO_REMOTE || len(l.begin.GetRemoteHost()) > 0
}

// carryOut does what the engine asked for and returns what came of it.
func (l *login) carryOut(o engine.Output) engine.Input {
	switch o := o.(type) {
	case engine.Check:
		return l.check(o.Answer)
	case engine.CheckEnrolCode:
		return l.checkEnrolCode(o.Answer)
	case engine.Prepare:
		return l.prepare()
	case engine.Confirm:
		return l.confirm(o.Code)
	case engine.StartPush:
		return l.startPush()
	case engine.VerifyPush:
		return l.verifyPush()
	case engine.Challenge:
		return l.challenge()
	}
	return engine.Failed{Reason: engine.ReasonProtocol}
}

// check compares the answer and records the outcome, in one transaction. The
// verdict leaves only after its commit is on disk.
func (l *login) check(answer secret.String) engine.Input {
	var outcome factor.Outcome
	online := l.online()
	if !l.resolved {
		// The same way as for anybody, to a record that is not there.
		_ = l.Store.View(func(tx *vault.Tx) (err error) { outcome, err = l.compare(tx, nil, answer, online); return err }) // denied in any case
		return engine.Checked{Outcome: outcome}
	}
	if !l.sameUser() {
		return engine.Failed{Reason: reasonIdentity}
	}
	if failed := l.change(func(tx *vault.Tx, account *factor.Account) ([]event.Event, error) {
		var err error
		if outcome, err = l.compare(tx, account, answer, online); err != nil {
			return nil, err
		}
		if account != nil {
			account.Name = l.user.Name
			if outcome.OK && l.push != nil && account.Push != nil {
				account.Push.End(l.push.live.Challenge.ID, "", tx.Now(), l.pushLimits())
			}
			l.earn(account, outcome, tx.Now())
			if err := store.Put(tx, account); err != nil {
				return nil, err
			}
		}
		events := []event.Event{l.verdictEvent(engine.Judge(outcome, l.resolved))}
		if outcome.LockedNow {
			locked := l.event
			locked.Name, locked.Text = event.UserLocked, fmt.Sprintf("locked for %s after ten wrong codes in a row; 'sallyport unlock' ends it", outcome.LockedFor.Round(time.Second))
			events = append(events, locked)
		}
		return events, nil
	}); failed != nil {
		return failed
	}
	l.recorded = true
	return engine.Checked{Outcome: outcome}
}

// change runs fn on this user's record (nil: there is none) and keeps the events
// that it returns, in one transaction, and logs them once they are on disk. What it
// returns itself is nil, or the Failed that the login ends with.
func (l *login) change(fn func(tx *vault.Tx, account *factor.Account) ([]event.Event, error)) engine.Input {
	var events []event.Event
	err := l.Store.Update(l.ctx, func(tx *vault.Tx) error {
		account, err := store.Account(tx, string(l.user.ID))
		if err != nil {
			return err
		}
		if events, err = fn(tx, account); err != nil {
			return err
		}
		for _, e := range events {
			tx.Append(e)
		}
		return nil
	})
	if err != nil {
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonVault}
	}
	for _, e := range events {
		l.Store.Log(e)
	}
	return nil
}

// sameUser looks the name up again: it must still be the one it was at Begin.
func (l *login) sameUser() bool {
	user, err := l.who()
	return err == nil && user == l.user
}

func (l *login) checkEnrolCode(answer secret.String) engine.Input {
	var outcome factor.Outcome
	err := l.withAccount(func(tx *vault.Tx, a *factor.Account, codeKey []byte) error {
		outcome = factor.CheckEnrolmentCode(a, answer, tx.Now(), codeKey)
		return nil
	})
	if err != nil {
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonVault}
	}
	l.claimed = outcome.OK
	return engine.Checked{Outcome: outcome}
}

// prepare makes a new secret. It is in force only once a code of it was right.
func (l *login) prepare() engine.Input {
	state, err := totp.New("", 0)
	if err != nil {
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonEnrolment}
	}
	l.pending = state
	image, err := qr.Text(state.URI(l.settings.IssuerLabel, l.user.Name))
	if err != nil || len(image) > maxNotice {
		image = "" // the key is shown as text
	}
	return engine.Prepared{SeedText: state.SeedText(), QR: image}
}

var errWindow = errors.New("meanwhile the account was enrolled, or the window to enrol closed")

func (l *login) confirm(code secret.String) engine.Input {
	if !l.sameUser() {
		return engine.Failed{Reason: reasonIdentity}
	}
	var codes []string
	right := false
	enrolled := l.event
	enrolled.Name, enrolled.Text = event.UserEnrolled, "enrolled at the login"
	err := l.withAccount(func(tx *vault.Tx, a *factor.Account, codeKey []byte) error {
		if a.IsEnrolled() || !a.MayConfirm(l.claimed, tx.Now()) {
			return errWindow
		}
		state := *l.pending
		if state.Verify(strings.ReplaceAll(code.Reveal(), " ", ""), tx.Now().Wall) != totp.Correct {
			return nil
		}
		var err error
		if codes, err = a.Enrol(&state, tx.Now(), codeKey); err != nil {
			return err
		}
		right = true
		tx.Append(enrolled)
		if l.online() {
			return nil
		}
		return store.CountOffline(tx, a)
	})
	switch {
	case errors.Is(err, errWindow):
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonEnrolment}
	case err != nil:
		l.event.Text = err.Error()
		return engine.Failed{Reason: reasonVault}
	case !right:
		return engine.Checked{Outcome: factor.Outcome{Reason: factor.WrongCode}}
	}
	l.Store.Log(enrolled)
	return engine.Enrolled{RecoveryCodes: codes}
}

// withAccount changes this user's record, which must exist, in one transaction.
func (l *login) withAccount(fn func(*vault.Tx, *factor.Account, []byte) error) error {
	return l.Store.Update(l.ctx, func(tx *vault.Tx) error {
		account, err := store.Account(tx, string(l.user.ID))
		if err != nil {
			return err
		}
		if account == nil {
			return errors.New("the account's record is gone")
		}
		codeKey, err := store.CodeKey(tx)
		if err != nil {
			return err
		}
		if err := fn(tx, account, codeKey); err != nil {
			return err
		}
		return store.Put(tx, account)
	})
}

// finish records the verdict, if the check did not, and sends it.
func (l *login) finish(v engine.Verdict) error {
	l.outcome = outcomeOf(v)
	if !l.recorded {
		e := l.verdictEvent(v)
		if v.Decision == engine.Allow {
			// No verdict lets anyone in that is not on disk first.
			if err := l.Store.Update(l.ctx, func(tx *vault.Tx) error { tx.Append(e); return nil }); err != nil {
				l.event.Text = err.Error()
				return l.refuse(reasonVault, "")
			}
			l.Store.Log(e)
		} else {
			recorded := make(chan struct{})
			go func() {
				defer close(recorded)
				l.Store.Record(context.WithoutCancel(l.ctx), e)
			}()
			if v.Decision == engine.Skip {
				select {
				case <-recorded:
				case <-l.after(skipPatience):
				}
			} else {
				<-recorded
			}
		}
	}
	l.admitted(v)
	// First, so that whoever logs in again at once finds this request ended.
	l.endPush(l.outcome)
	return l.send(verdictDirective(v))
}

// refuse denies without asking the engine: nothing was asked yet.
func (l *login) refuse(reason factor.Reason, text string) error {
	return l.finish(engine.Verdict{Decision: engine.Deny, Reason: reason, Text: text})
}

// verdictEvent is the login_attempt of a verdict.
func (l *login) verdictEvent(v engine.Verdict) event.Event {
	e := l.event
	e.Name, e.Verdict, e.Reason, e.Factor = event.LoginAttempt, v.Decision.String(), string(v.Reason), string(v.Factor)
	return e
}

// describe fills in what every event of this login says.
func (l *login) describe() {
	l.event.Hook = strings.ToLower(strings.TrimPrefix(l.begin.GetHook().String(), "HOOK_KIND_"))
	l.event.Scenario = strings.ToLower(strings.TrimPrefix(l.begin.GetScenario().String(), "SCENARIO_"))
	l.event.Service = clean(l.begin.GetService())
	l.event.Remote = clean(l.begin.GetRemoteHost())
	l.event.Session = clean(l.begin.GetSession())
}

// clean makes text from outside fit to be shown in a terminal.
func clean(b []byte) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError { // controls, and what turns text around
			return '?'
		}
		return r
	}, string(b))
}

func (l *login) send(d *loginv1.Directive) error { return l.stream.Send(d) }
