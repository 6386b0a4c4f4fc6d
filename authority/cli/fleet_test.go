package cli

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"sallyport/internal/organisation"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

func TestTheHelpdeskSeesAComputerAndUnlocksSomebodyThere(t *testing.T) {
	s := newShell(t)
	s.init()
	authority := s.serve()
	s.ok("user", "add", "maya")
	var token struct{ Token string }
	s.json(&token, "token", "create", "--user", "maya")
	laptop, err := join(t, authority.Devices, token.Token)
	ok(t, err)
	if !laptop.connect().GetTakesReports() {
		t.Fatal("it takes no reports")
	}

	// Before it has said anything.
	if out := s.ok("device", "status"); !strings.Contains(out, "laptop-17") || !strings.Contains(out, "none needs attention") {
		t.Error(out)
	}
	until := time.Now().Add(time.Hour)
	laptop.send(&authorityv1.DeviceMessage{Message: &authorityv1.DeviceMessage_Report{Report: &authorityv1.Report{Os: "Debian GNU/Linux 12 (bookworm)", AgentState: "users_locked",
		Problems: []*authorityv1.ReportProblem{{Code: "users_locked", Text: "1 locked out after wrong codes: maya", Remedy: "If it was really them: sallyport unlock USER."}},
		People:   []*authorityv1.ReportPerson{{User: "maya", Key: "uid:1000", Totp: true, RecoveryLeft: 8, Phones: 1, PushState: "ready", OfflineReady: true, Failures: 10, LockedUntil: timestamppb.New(until)}}}}})
	decode := func(out string, into any) {
		t.Helper()
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v in %s", err, out)
		}
	}
	var fleet struct {
		Total, Online int
		Need          int `json:"need_attention"`
		Devices       []fleetView
	}
	eventually(t, "the report", func() bool {
		exit, out, _ := s.run("device", "status", "--json")
		decode(out, &fleet)
		return exit == ExitFailed
	})
	if fleet.Total != 1 || fleet.Online != 1 || fleet.Need != 1 || fleet.Devices[0].State != "online" || fleet.Devices[0].People.Locked != 1 || fleet.Devices[0].System == "" || len(fleet.Devices[0].Persons) != 0 {
		t.Errorf("%+v", fleet)
	}
	for _, args := range [][]string{{"device", "status"}, {"device", "status", "--problems"}, {"device", "status", "--user", "maya"}, {"device", "status", "laptop-17"}} {
		if exit, out, _ := s.run(args...); exit != ExitFailed || !strings.Contains(out, "users_locked") {
			t.Errorf("%q: %d\n%s", args, exit, out)
		}
	}
	if _, out, _ := s.run("device", "status", "laptop-17"); !strings.Contains(out, "Debian GNU/Linux 12") || !strings.Contains(out, "locked until") || !strings.Contains(out, "sallyport unlock USER") {
		t.Error(out)
	}
	if _, out, _ := s.run("status"); !strings.Contains(out, "1 needs attention: sallyport-authority device status --problems") {
		t.Error(out)
	}
	s.fails(ExitUsage, "name one computer", "device", "status", "laptop-17", "--all")

	// The computer does it, and the command says so.
	ask := func(kind organisation.Kind, args ...string) (exit int, out string) {
		t.Helper()
		done := make(chan struct{})
		go func() { defer close(done); exit, out, _ = s.run(args...) }()
		laptop.item(kind, "maya", 0)
		<-done
		return exit, out
	}
	if exit, out := ask(organisation.KindUnlock, "user", "unlock", "maya", "--on", "laptop-17"); exit != ExitOK || !strings.Contains(out, "Done: the lockout is ended on laptop-17") {
		t.Errorf("%d\n%s", exit, out)
	}
	laptop.refuses = "authority.accept in the configuration of this computer does not name it"
	var v remoteView
	exit, out := ask(organisation.KindPushClear, "user", "clear-push", "maya", "--json")
	decode(out, &v)
	if exit != ExitFailed || v.State != "refused" || v.Why != laptop.refuses {
		t.Errorf("%d, %+v", exit, v)
	}
	if _, out, _ := s.run("device", "status", "laptop-17"); !strings.Contains(out, "sync_refused") || !strings.Contains(out, `add "push_clear" to authority.accept`) {
		t.Error(out)
	}

	// A computer that is away is not waited for.
	laptop.leave()
	eventually(t, "the end of its stream", func() bool {
		_, out, _ := s.run("device", "status", "--json")
		decode(out, &fleet)
		return fleet.Online == 0
	})
	began := time.Now()
	if out := s.ok("user", "unlock", "maya"); !strings.Contains(out, "is not connected") || time.Since(began) >= patience {
		t.Error(out)
	}
	s.fails(ExitNotFound, "no user", "user", "unlock", "nobody", "--on", "laptop-17")
	if out := s.ok("events"); !strings.Contains(out, "unlock_issued") || !strings.Contains(out, "push_clear_issued") {
		t.Error(out)
	}
}
