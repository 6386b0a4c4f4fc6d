package loginsvc

import (
	"testing"

	"sallyport/agent/store"
	"sallyport/internal/localsock"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

func (w *world) signsPolicy(text string) {
	w.Helper()
	w.change(func(tx *vault.Tx) error {
		return store.PutSigned(tx, organisation.KindPolicy, "", store.Item{Version: 1, Policy: []byte(text)})
	})
}

func daemon(b *loginv1.Begin, _ *localsock.Peer) { b.User = []byte("daemon") } // has no factor

func TestAuthorityPlantsAWeakerPolicyTheFloorHolds(t *testing.T) {
	w := newWorld(t)
	w.config.Policy.Required.Users = []string{"daemon"}
	w.signsPolicy(`{"Ask":"enrolled","Exempt":{"Users":["daemon","root"],"Services":["sshd"],"Remote":["0.0.0.0/0"]}}`)
	w.logsIn(daemon).prompts("Code")
	w.asksPhone() // root is not exempt either
	w.config.Authority.AllowExemptions = true
	w.logsIn(daemon).gets("skip exempt")
}

func TestTheOrganisationRequiresMore(t *testing.T) {
	w := newWorld(t)
	w.logsIn(daemon).gets("skip not_asked")
	w.signsPolicy(`{"Ask":"required"}`)
	w.logsIn(daemon).prompts("Code").types("123456").gets("deny not_enrolled")
	// Unless root takes no policy from it, or exempts somebody: that is for repairs.
	w.config.Policy.Exempt.Users = []string{"daemon"}
	w.logsIn(daemon).gets("skip exempt")
	w.config.Policy.Exempt = policy.Match{}
	w.config.Authority.Accept = []string{"approvers"}
	w.logsIn(daemon).gets("skip not_asked")
}

func TestAPolicyThatCannotBeReadRequires(t *testing.T) {
	for _, text := range []string{"", "x", `{"Ask":"never"}`, `{"Ask":"enrolled","Hours":["9"]}`} {
		w := newWorld(t)
		w.signsPolicy(text)
		w.logsIn(daemon).prompts("Code").types("123456").gets("deny not_enrolled")
		if e := w.events()[len(w.events())-1]; e.Rule != "default=required (the organisation's policy cannot be read)" {
			t.Errorf("%q: %q", text, e.Rule)
		}
	}
	// Nor does a vault that is gone keep out whom root exempts.
	w := newWorld(t)
	w.config.Policy.Exempt.Users = []string{"daemon"}
	if err := w.service.Store.Close(); err != nil {
		t.Fatal(err)
	}
	w.logsIn(daemon).gets("skip exempt")
}
