package policy_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"sallyport/internal/policy"
)

func TestAuthorityPlantsAWeakerPolicyTheFloorHolds(t *testing.T) {
	local := policy.Rules{Ask: policy.AskRequired, Required: policy.Match{Users: []string{"alice"}}, Exempt: policy.Match{Users: []string{"root"}}}
	weaker := policy.Rules{Ask: policy.AskEnrolled, Exempt: policy.Match{Users: []string{"alice", "bob"}, UIDs: []uint32{1000},
		Groups: []string{"staff"}, Services: []string{"sshd"}, Remote: []string{"0.0.0.0/0", "::/0"}}}
	for _, who := range []policy.Subject{alice, bob, from(alice, "192.0.2.7"), ghost} {
		if d := both(local, weaker, false, who); d.Effect != policy.Ask {
			t.Errorf("%s: %+v", who.Name, d)
		}
	}
	if d := both(local, weaker, false, root); d.Effect != policy.Skip {
		t.Errorf("root's own exemption: %+v", d)
	}
	// Where root lets it, an exemption counts.
	if d := both(local, weaker, true, bob); d.Effect != policy.Skip {
		t.Errorf("%+v", d)
	}
}

func TestTheOrganisationRequiresMore(t *testing.T) {
	local := policy.Rules{Ask: policy.AskEnrolled, Exempt: policy.Match{Users: []string{"bob"}}}
	for name, central := range map[string]policy.Rules{
		"everyone":           {Ask: policy.AskRequired},
		"alice":              {Ask: policy.AskEnrolled, Required: policy.Match{Users: []string{"alice", "bob"}}},
		"staff":              {Ask: policy.AskEnrolled, Required: policy.Match{Groups: []string{"staff"}}},
		"uid":                {Ask: policy.AskEnrolled, Required: policy.Match{UIDs: []uint32{1000, 1001}}},
		"sshd":               {Ask: policy.AskEnrolled, Required: policy.Match{Services: []string{"sshd"}}},
		"something new":      {Ask: "hardware-key"},
		"nothing at all":     {},
		"what is unreadable": policy.Unreadable(),
	} {
		if d := both(local, central, false, alice); d.Effect != policy.Ask {
			t.Errorf("%s: alice: %+v", name, d)
		}
		if d := both(local, central, false, bob); d.Effect != policy.Skip {
			t.Errorf("%s: bob, whom root exempts: %+v", name, d)
		}
	}
	if d := both(local, policy.Rules{Ask: policy.AskEnrolled}, false, alice); d.Effect != policy.IfEnrolled {
		t.Errorf("%+v", d)
	}
}

func TestAPolicyThatCannotBeReadRequires(t *testing.T) {
	good := policy.Rules{Ask: policy.AskEnrolled, Required: policy.Match{Users: []string{"alice"}, UIDs: []uint32{7}, Remote: []string{"192.0.2.0/24"}}}
	b, err := json.Marshal(good)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := policy.Parse(b); err != nil || !reflect.DeepEqual(r, good) {
		t.Errorf("%+v, %v", r, err)
	}
	for _, text := range []string{"", "null", "{}", "[]", "x", `{"Ask":"enrolled"`, `{"Ask":"never"}`, `{"Ask":"enrolled","Deny":["alice"]}`,
		`{"Ask":"enrolled","Required":{"Hours":"9-17"}}`, `{"Ask":"enrolled","Exempt":{"Users":["*"]}}`, `{"Ask":"enrolled"}{"Ask":"enrolled"}`, `{"Ask":7}`} {
		r, err := policy.Parse([]byte(text))
		if err == nil || !reflect.DeepEqual(r, policy.Unreadable()) {
			t.Errorf("%s: %+v, %v", text, r, err)
		}
	}
}

// TestAPolicyForOldAgents: one that names no SIDs and has no rules is what an agent from before
// them can read, which refuses what it does not know.
func TestAPolicyForOldAgents(t *testing.T) {
	b, err := json.Marshal(policy.Rules{Ask: policy.AskRequired, Required: policy.Match{Users: []string{"alice"}}})
	if err != nil || strings.Contains(string(b), "SID") || strings.Contains(string(b), "Rules") || strings.Contains(string(b), "Offline") {
		t.Errorf("%s %v", b, err)
	}
	b, err = json.Marshal(policy.Rules{Required: policy.Match{SIDs: []string{"S-1-5-18"}}})
	if err != nil || !strings.Contains(string(b), `"SIDs":["S-1-5-18"]`) {
		t.Errorf("%s %v", b, err)
	}
}
