package console

import (
	"context"
	"slices"
	"time"

	"sallyport/authority/enrol"
	"sallyport/internal/secret"
)

// The fields of the actions' forms.
const (
	fieldUser      = "user"
	fieldDevice    = "device"
	fieldReason    = "reason"
	fieldLife      = "life"
	fieldChallenge = "challenge"
	fieldPhone     = "phone"
	fieldOperator  = "operator"
	fieldRole      = "role"
	fieldKey       = "key"
)

// input is what a form said, by field. It holds no secret.
type input map[string]string

// handout is what an action makes for a person: shown once, and kept nowhere.
type handout struct {
	Codes   []secret.String
	Link    secret.String // as a QR code, and to copy
	Expires time.Time     // zero: not by itself
	Waits   bool          // for the organisation's key
}

// action is one line of the table of what an operator can do.
type action struct {
	name  string // as addresses, events and the configuration have it
	role  Role   // the least
	title string // on the button
	says  string // on the form: what it does
	tell  string // with what is handed out: what to do with it
	done  string // where nothing is handed out
	needs []string
	// makes says that it makes operators, or what opens the console: where anything takes
	// two, one alone could make the second up.
	makes bool
	run   func(s *server, ctx context.Context, by string, in input) (*handout, error)
}

// actions is everything that an operator can do. What is not here, nobody can.
var actions = []action{
	{
		name: "unlock", role: Helpdesk, title: "Unlock", needs: []string{fieldUser, fieldDevice},
		says: "Ends the lockout after too many wrong codes at this computer. Ask whether it was the person who typed them.",
		done: "The computer is told to unlock: at once if it is online, else when it next is, within a day.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return told(s.Enrol.Unlock(ctx, by, in[fieldUser], in[fieldDevice]))
		},
	},
	{
		name: "push_clear", role: Helpdesk, title: "Clear push lock", needs: []string{fieldUser, fieldDevice},
		says: "Lets the person's phones ring again for this computer, after a report or too many that nobody answered. If they pressed \"Not me\", somebody knows their password: have it changed first.",
		done: "Phones ring again as soon as the computer hears of it: at once if it is online, else when it next is, within a day.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return told(s.Enrol.ClearPush(ctx, by, in[fieldUser], in[fieldDevice]))
		},
	},
	{
		name: "recovery", role: Helpdesk, title: "New recovery codes", needs: []string{fieldUser, fieldDevice},
		says: "Makes ten new recovery codes for this computer. The ones before end once the computer has these.",
		tell: "Give the codes to the person and to nobody else. Each is good once.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return issued(s.Enrol.IssueRecovery(ctx, by, in[fieldUser], in[fieldDevice]))
		},
	},
	{
		name: "bypass", role: Helpdesk, title: "Bypass code", needs: []string{fieldUser, fieldDevice, fieldLife, fieldReason},
		says: "Makes one code that lets this person log in once at this computer, which has to be online to get it. Be sure who is calling.",
		tell: "Read the code out. The person types it where the code is asked for.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			life, err := lifeOf(in)
			if err != nil {
				return nil, err
			}
			h, err := issued(s.Enrol.IssueBypass(ctx, by, in[fieldUser], in[fieldDevice], life, in[fieldReason]))
			if err == nil {
				h.Expires = s.Now().Add(life)
			}
			return h, err
		},
	},
	{
		name: "offline_bypass", role: Helpdesk, title: "Answer an offline computer", needs: []string{fieldUser, fieldDevice, fieldChallenge, fieldLife, fieldReason},
		says: "Makes the answer to what the screen of a computer without a network shows. It lets this person log in once there. Be sure who is calling.",
		tell: "Read the answer out. The person types it at the same prompt.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			life, err := lifeOf(in)
			if err != nil {
				return nil, err
			}
			answer, err := s.Enrol.AnswerOffline(ctx, by, in[fieldUser], in[fieldDevice], in[fieldChallenge], life, in[fieldReason])
			if err != nil {
				return nil, err
			}
			return &handout{Codes: []secret.String{answer}}, nil
		},
	},
	{
		name: "totp", role: Helpdesk, title: "New authenticator", needs: []string{fieldUser, fieldDevice},
		says: "Makes a new secret for the person's authenticator app at this computer. Codes of the one before end once the computer has this.",
		tell: "The person scans this with the authenticator app. Whoever else sees it can make the same codes.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return issued(s.Enrol.IssueTOTP(ctx, by, in[fieldUser], in[fieldDevice]))
		},
	},
	{
		name: "phone", role: Helpdesk, title: "Enrol a phone", needs: []string{fieldUser},
		says: "Makes a code with which one phone can enrol, once and within an hour. It then approves this person's logins at all their computers.",
		tell: "The person scans this with the phone that is to be enrolled. Whoever else sees it could enrol theirs.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			i, err := s.Enrol.BeginEnrolment(ctx, by, in[fieldUser], time.Hour)
			if err != nil {
				return nil, err
			}
			return &handout{Link: secret.New(i.URL), Expires: i.Expires}, nil
		},
	},
	{
		name: "phone_remove", role: Helpdesk, title: "Remove this phone", needs: []string{fieldUser, fieldPhone},
		says: "The phone approves nothing any more, and its page is signed out.", done: "The phone is removed.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			waits, err := s.Enrol.RevokeApprover(ctx, by, in[fieldPhone])
			if !waits || err != nil {
				return nil, err
			}
			return &handout{Waits: true}, nil
		},
	},
	{
		name: "revoke", role: Helpdesk, title: "Revoke this computer", needs: []string{fieldDevice, fieldReason},
		says: "Ends this computer's connection for good: no pushes, no codes from here. It has to join anew. Whoever is enrolled there still logs in with an authenticator app.",
		done: "The computer is revoked.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return nil, s.Enrol.RevokeDevice(ctx, by, in[fieldDevice], in[fieldReason])
		},
	},
	{
		name: addOperator, role: Admin, title: "Add an operator", needs: []string{fieldOperator, fieldRole}, makes: true,
		says: "Adds somebody who may use this console, and makes an invitation for them.",
		tell: inviteTold,
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return invited(s.operators.Add(ctx, by, in[fieldOperator], Role(in[fieldRole])))
		},
	},
	{
		name: "operator_role", role: Admin, title: "Change the role", needs: []string{fieldOperator, fieldRole}, makes: true,
		says: "Changes what this operator may do. They are logged out at once.", done: "The role is changed.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return nil, s.operators.SetRole(ctx, by, in[fieldOperator], Role(in[fieldRole]))
		},
	},
	{
		name: "operator_invite", role: Admin, title: "Invite again", needs: []string{fieldOperator}, makes: true,
		says: "Makes an invitation with which this operator can add a passkey. The invitation before ends.",
		tell: inviteTold,
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return invited(s.operators.Invite(ctx, by, in[fieldOperator]))
		},
	},
	{
		name: "operator_remove", role: Admin, title: "Remove this operator", needs: []string{fieldOperator},
		says: "Takes the console away from this operator, with all passkeys. They are logged out at once.", done: "The operator is removed.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			return nil, s.operators.Remove(ctx, by, in[fieldOperator])
		},
	},
	{
		name: "passkey_remove", role: Admin, title: "Remove this passkey", needs: []string{fieldOperator, fieldKey},
		says: "The passkey opens the console no more. The operator is logged out at once, and an invitation that is open ends.", done: "The passkey is removed.",
		run: func(s *server, ctx context.Context, by string, in input) (*handout, error) {
			id, err := b64.DecodeString(in[fieldKey])
			if err != nil {
				return nil, errNotFound
			}
			return nil, s.operators.RemoveKey(ctx, by, in[fieldOperator], id)
		},
	},
}

// addOperator is the one action whose operator is not there yet.
const addOperator = "operator_add"

const inviteTold = "Give the link to the operator and to nobody else: whoever opens it first becomes this operator. It is good once, for 24 hours."

func findAction(name string) (action, bool) {
	i := slices.IndexFunc(actions, func(a action) bool { return a.name == name })
	if i < 0 {
		return action{}, false
	}
	return actions[i], true
}

// takesTwo says whether a second operator has to approve an action.
func (s *server) takesTwo(a action) bool {
	return slices.Contains(s.SecondPerson, a.name) || a.makes && len(s.SecondPerson) > 0
}

// lives are what a bypass can be good for.
var lives = []string{"15m", "1h", "4h", "24h"}

func lifeOf(in input) (time.Duration, error) {
	if !slices.Contains(lives, in[fieldLife]) {
		return 0, malformed("A bypass is good for 15 minutes, 1, 4 or 24 hours.")
	}
	return time.ParseDuration(in[fieldLife])
}

func told(r *enrol.Remote, err error) (*handout, error) {
	if err != nil || !r.Waits {
		return nil, err
	}
	return &handout{Waits: true}, nil
}

func issued(i *enrol.Issued, err error) (*handout, error) {
	if err != nil {
		return nil, err
	}
	return &handout{Codes: i.Codes, Link: i.URI, Waits: i.Waits}, nil
}

func invited(i *Invitation, err error) (*handout, error) {
	if err != nil {
		return nil, err
	}
	return &handout{Link: i.URL, Expires: i.Expires}, nil
}
