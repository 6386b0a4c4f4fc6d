package adminsvc

import (
	"fmt"
	"maps"
	"os"
	"regexp"
	"testing"

	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// What a service stands for is said in C, for the logins, and here, for those that
// nobody makes.
func TestScenariosAreThoseOfThePAMModule(t *testing.T) {
	c, err := os.ReadFile("../../pam/service.c")
	if err != nil {
		t.Fatal(err)
	}
	module, here := map[string]string{}, map[string]string{}
	for _, m := range regexp.MustCompile(`\{ "([\w-]+)", (\w+), \w+ \}`).FindAllSubmatch(c, -1) {
		if string(m[2]) != "LOGIN" {
			module[string(m[1])] = "SCENARIO_" + string(m[2])
		}
	}
	for scenario, services := range scenarios {
		for _, s := range services {
			here[s] = scenario.String()
		}
	}
	if len(module) < 20 || !maps.Equal(module, here) {
		t.Errorf("the module has %v, and here are %v", module, here)
	}
}

func TestImaginedLogins(t *testing.T) {
	for want, r := range map[string]*adminv1.ExplainPolicyRequest{
		"SCENARIO_ELEVATE": {Service: "sudo"},
		"SCENARIO_REMOTE":  {RemoteHost: "192.0.2.7"},
		"SCENARIO_UNLOCK":  {Scenario: "unlock", Service: "sudo"},
		"SCENARIO_LOGIN":   {},
	} {
		r.User = "daemon"
		if i, err := imagine(r); err != nil || i.Begin.GetScenario().String() != want || i.Begin.GetHook() == loginv1.HookKind_HOOK_KIND_UNSPECIFIED {
			t.Errorf("%v: %v, %v", r, i.Begin, err)
		}
	}
	w := newWorld(t)
	for _, r := range []*adminv1.ExplainPolicyRequest{{}, {User: "daemon", Hook: "unspecified"}, {User: "daemon", Hook: "x"}, {User: "daemon", Scenario: "unspecified"}, {User: "daemon", Network: "both"}} {
		if got, err := w.svc.ExplainPolicy(t.Context(), r); err == nil {
			t.Errorf("%v: %v", r, got)
		}
	}
	got, err := w.svc.ExplainPolicy(t.Context(), &adminv1.ExplainPolicyRequest{User: "daemon"})
	if err != nil || fmt.Sprint(got.GetOutcome(), got.GetRule()) != "not_asked default=enrolled" && got.GetOutcome() != "not_asked" {
		t.Errorf("%v, %v", got, err)
	}
}
