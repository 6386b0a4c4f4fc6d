//go:build linux

package agenttest

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"sallyport/internal/event"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// readOnly are the calls that the admin group may make. Whatever else there is,
// now or later, is root's.
var readOnly = []string{"Status", "ListUsers", "ShowUser", "Events", "ShowConfig", "ExplainPolicy"}

// call calls a method of the admin service, about a user, as a user.
func (a *agent) call(uid uint32, m protoreflect.MethodDescriptor, about string) error {
	a.t.Helper()
	conn := a.dial(adminSock, uid)
	defer conn.Close()
	request := dynamicpb.NewMessage(m.Input())
	if f := m.Input().Fields().ByName("user"); f != nil {
		request.Set(f, protoreflect.ValueOfString(about))
	}
	method := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if m.IsStreamingServer() {
		s, err := conn.NewStream(within(a.t), &grpc.StreamDesc{ServerStreams: true}, method)
		if err != nil {
			return err
		}
		if err := s.SendMsg(proto.Message(request)); err != nil {
			return err
		}
		return s.RecvMsg(&emptypb.Empty{})
	}
	return conn.Invoke(within(a.t), method, proto.Message(request), &emptypb.Empty{})
}

func adminMethods() (list []protoreflect.MethodDescriptor) {
	services := adminv1.File_sallyport_admin_v1_admin_proto.Services()
	for i := range services.Len() {
		methods := services.Get(i).Methods()
		for j := range methods.Len() {
			list = append(list, methods.Get(j))
		}
	}
	return list
}

// GHSA-6gp8-pp9v-gx45: as one user, call every method for another.
func TestUsersCannotAdministrateEachOther(t *testing.T) {
	need(t)
	const group = "at-helpdesk"
	stranger, reader, victim := newUser(t), newUser(t), newUser(t)
	addGroup(t, group, 30001, reader)
	a := startAgent(t)
	phone := a.enrol(victim)
	for path, mode := range map[string]os.FileMode{a.socket(loginSock): 0o666, a.socket(adminSock): 0o600} {
		if st, err := os.Stat(path); err != nil || st.Mode().Perm() != mode {
			t.Errorf("%s: %v, mode %v, want %o", path, err, st.Mode(), mode)
		}
	}
	methods := adminMethods()
	if len(methods) < 17 {
		t.Fatalf("only %d methods: this test shows nothing", len(methods))
	}
	for _, m := range methods {
		if err := a.call(stranger.uid, m, victim.name); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: without an admin group the socket is root's: %v", m.Name(), err)
		}
	}
	a.stop()
	a.configure(fmt.Sprintf("admin_group = %q", group))
	a.start()
	for _, m := range methods {
		for _, about := range []*account{victim, stranger} { // not even about themselves
			if err := a.call(stranger.uid, m, about.name); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%s as a stranger: %v", m.Name(), err)
			}
		}
		err := a.call(reader.uid, m, victim.name)
		if slices.Contains(readOnly, string(m.Name())) {
			if err != nil {
				t.Errorf("%s as a reader: %v", m.Name(), err)
			}
		} else if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s as a reader: %v", m.Name(), err)
		}
	}
	// Nothing of it had an effect.
	if got := a.user(victim); got.GetRecoveryLeft() != 10 || got.GetBypassUntil() != nil || !got.GetTotp() {
		t.Errorf("the victim's record: %v", got)
	}
	want(t, a.as(victim, phone.code(t, 0)), allow, "")
	a.wantLog(fmt.Sprintf("request_refused by=uid:%d", stranger.uid))
	// The commands say so in words, and with an exit code of their own.
	cmd := exec.Command(a.program, "unlock", victim.name, "--config", a.config)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: reader.uid, Gid: 100}}
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "root") {
		t.Errorf("unlock by a reader: %v: %s", err, out)
	}
}

func addGroup(t *testing.T, name string, gid int, members ...*account) {
	t.Helper()
	var names []string
	for _, u := range members {
		names = append(names, u.name)
	}
	passwdMu.Lock()
	defer passwdMu.Unlock()
	appendTo(t, "/etc/group", fmt.Sprintf("%s:x:%d:%s\n", name, gid, strings.Join(names, ",")))
}

// Whatever a user's hook says, it is only ever about that user.
func TestUsersCannotLogEachOtherIn(t *testing.T) {
	need(t)
	a := startAgent(t)
	attacker, attackerPhone := a.enrolled()
	victim, phone := a.enrolled()
	for scenario := range loginv1.Scenario_name {
		for stage := range loginv1.Stage_name {
			if scenario == 0 || stage == 0 {
				continue
			}
			for _, name := range []string{victim.name, "root", "nobody-of-that-name", fmt.Sprint(victim.uid)} {
				// A fresh user each time: what one may try in a row is bounded.
				u := newUser(t)
				r := a.login(u.uid, begin(name, func(b *loginv1.Begin) {
					b.Scenario, b.Stage = loginv1.Scenario(scenario), loginv1.Stage(stage)
					b.Caller = []byte("root")
				}), phone.code(t, 0))
				want(t, r, deny, "not_your_account")
				if len(r.prompts) > 0 {
					t.Errorf("asked %q", r.prompts)
				}
			}
		}
	}
	// Nothing was counted against the victim, and the code is unused.
	if n := a.user(victim).GetFailures(); n != 0 {
		t.Errorf("%d failures counted against the victim", n)
	}
	if n := count(a.events(), event.LoginAttempt, victim, ""); n != 0 {
		t.Errorf("%d login_attempt events say that the victim tried", n)
	}
	// With the victim's code as themselves neither.
	want(t, a.login(attacker.uid, begin(attacker.name), phone.code(t, 0)), deny, "wrong_code")
	want(t, a.login(victim.uid, begin(victim.name), attackerPhone.code(t, 0)), deny, "wrong_code")
	want(t, a.login(victim.uid, begin(victim.name), phone.code(t, 0)), allow, "code_accepted")
	// The kernel's word counts, not the name that resolves.
	want(t, a.login(attacker.uid, begin(attacker.name), attackerPhone.code(t, 0)), allow, "code_accepted")
}

// What a peer that is not root claims of service, address and scenario earns no
// exemption; it may still be what requires.
func TestClaimsOfUsersNeverWeaken(t *testing.T) {
	need(t)
	// Asked by default: everybody.
	a := startAgent(t, "[policy]", `ask = "required"`, "[policy.exempt]", `services = ["backup"]`, `remote = ["192.0.2.0/24", "2001:db8::/32"]`)
	u, phone := a.enrolled()
	for name, claim := range map[string]func(*loginv1.Begin){
		"service":      func(b *loginv1.Begin) { b.Service = []byte("backup") },
		"address":      func(b *loginv1.Begin) { b.RemoteHost = []byte("192.0.2.7") },
		"IPv6 address": func(b *loginv1.Begin) { b.RemoteHost = []byte("2001:db8::7") },
	} {
		t.Run(name, func(t *testing.T) {
			r := a.login(u.uid, begin(u.name, claim), phone.wrong(t))
			want(t, r, deny, "wrong_code")
			want(t, a.login(0, begin(u.name, claim)), skip, "exempt") // root's word counts
			// The same through the module, as a locker and as a daemon of root's.
			login := a.pamLogin("login", u.name, phone.wrong(t))
			login.rhost = "192.0.2.7"
			_, got := a.pamAs(u.uid, login)
			wantPAM(t, got, pamAuthErr)
			wantPAM(t, login.run(), 0)
		})
	}
	// An address that is none, or only looks like one, exempts nobody.
	for _, host := range []string{"", "localhost", "192.0.2.7.example.org", "192.0.2", "192.0.2.7/24", " 192.0.2.7", "192.0.2.7\x00",
		"0xc0000207", "3221225991", "192.0.2.007", "::ffff:198.51.100.7", "192.0.3.1", "2001:db9::1", "\xff", "[192.0.2.7]", "192.0.2.7:22"} {
		r := a.login(0, begin(u.name, func(b *loginv1.Begin) { b.RemoteHost = []byte(host) }), phone.wrong(t))
		if r.decision != deny {
			t.Errorf("remote host %q: %s", host, r)
		}
	}
	for _, host := range []string{"192.0.2.7", "::ffff:192.0.2.7", "2001:db8::1", "2001:DB8:0::1%eth0"} {
		want(t, a.login(0, begin(u.name, func(b *loginv1.Begin) { b.RemoteHost = []byte(host) })), skip, "exempt")
	}
}

// An unprivileged user that opens all it can keeps nobody else out.
func TestOneUserCannotKeepOthersOut(t *testing.T) {
	need(t)
	a := newAgent(t)
	// Few descriptors, so that few connections would already use them up.
	a.wrapper = []string{"sh", "-c", `ulimit -n 200; exec "$@"`, "sh"}
	a.start()
	attacker, attackerPhone := a.enrolled()
	u, phone := a.enrolled()
	for range 1000 {
		conn, err := dialAs(a.socket(loginSock), attacker.uid)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	wantPAM(t, a.pam("sshd", u, phone.code(t, 0)), 0) // within the hook's patience
	want(t, a.as(u, phone.code(t, 1)), allow, "")
	want(t, a.login(u.uid, begin(u.name), phone.code(t, 2)), allow, "")
	// Root logs the attacker in too: sshd is root's.
	want(t, a.as(attacker, attackerPhone.code(t, 0)), allow, "")
	a.wantStatus(0, "")
}

func TestOpenLoginsOfAUserAreBounded(t *testing.T) {
	need(t)
	a := startAgent(t, "[limits]", "logins_per_uid = 3", "logins_total = 5")
	first, _ := a.enrolled()
	second, _ := a.enrolled()
	third, thirdPhone := a.enrolled()
	var open []*stream
	for _, u := range []*account{first, first, first, second, second} {
		st, _ := a.ask(u.uid, begin(u.name))
		open = append(open, st)
	}
	want(t, a.login(first.uid, begin(first.name)), deny, "too_many_logins")
	// All but root share the total; root has no part in it.
	want(t, a.login(third.uid, begin(third.name)), deny, "too_many_logins")
	for range 20 {
		st, _ := a.ask(0, begin(third.name))
		open = append(open, st)
	}
	want(t, a.as(third, thirdPhone.code(t, 0)), allow, "")
	open[0].close()
	a.eventually("a place is free", func() bool {
		return a.login(third.uid, begin(third.name), thirdPhone.code(t, 1)).decision == allow
	})
	for _, st := range open[1:] {
		st.close()
	}
}

// A user who tries for ever neither pushes other people's events out of the
// file, nor keeps the agent busy.
func TestOneUserCannotPushEventsOut(t *testing.T) {
	need(t)
	a := startAgent(t, "events = 100")
	victim, phone := a.enrolled()
	want(t, a.as(victim, phone.wrong(t)), deny, "wrong_code")
	attacker := newUser(t)
	begun := time.Now()
	var mu sync.Mutex
	counts := map[string]int{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 75 {
				r := a.login(attacker.uid, begin(victim.name), phone.code(t, 0))
				if r.err != nil || r.decision != deny {
					t.Errorf("got %s", r)
				}
				mu.Lock()
				counts[r.reason]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	allowed := 30 + int(time.Since(begun)/(2*time.Second)) + 1
	if n := counts["not_your_account"]; n < 1 || n > allowed || counts["too_many_logins"] != 300-n {
		t.Errorf("of 300 logins: %v; at most %d may be heard", counts, allowed)
	}
	if n := count(a.events(), event.LoginAttempt, victim, "wrong_code"); n != 1 {
		t.Error("the victim's event is gone")
	}
	// The flood is in the log, where it can be seen.
	a.wantLog(fmt.Sprintf("reason=too_many_logins by=uid:%d", attacker.uid))
	want(t, a.as(victim, phone.code(t, 0)), allow, "")
}

// An agent that runs as a user is that user's only: hooks of others do not tell
// it anything, and it administrates nobody else.
func TestUnprivilegedAgentServesItsOwnUser(t *testing.T) {
	need(t)
	owner, other := newUser(t), newUser(t)
	a := newAgent(t)
	a.credential = &syscall.Credential{Uid: owner.uid, Gid: 100}
	if err := os.Chown(a.dir, int(owner.uid), 100); err != nil {
		t.Fatal(err)
	}
	a.start()
	// It dumps no core, whoever started it: what it is asked for in proc(5) is
	// then root's.
	if st, err := os.Stat(fmt.Sprintf("/proc/%d/environ", a.cmd.Process.Pid)); err != nil || st.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("the agent can be dumped and traced: %v", err)
	}
	phone := a.enrol(owner)
	// Not even root's commands believe it.
	if got := a.command("", "status"); got.exit == 0 || strings.Contains(got.out, "healthy\n") {
		t.Errorf("root's status of a user's agent: %+v", got)
	}
	_, got := a.pamAs(owner.uid, a.pamLogin("login", owner.name, phone.code(t, 0)))
	wantPAM(t, got, 0)
	// Neither root's hook nor another user's believes an agent that is neither
	// root nor themselves; nothing was asked, so no secret was sent.
	rootLogin := a.pamLogin("sshd", owner.name, phone.code(t, 1))
	wantPAM(t, rootLogin.run(), pamAuthErr)
	if len(rootLogin.prompts) != 0 {
		t.Errorf("root's hook asked %q for a user's agent", rootLogin.prompts)
	}
	prompts, got := a.pamAs(other.uid, a.pamLogin("login", other.name, ""))
	wantPAM(t, got, pamAuthErr)
	if len(prompts) != 0 {
		t.Errorf("another user's hook asked %q", prompts)
	}
	want(t, a.login(owner.uid, begin(other.name)), deny, "not_your_account")
	want(t, a.login(other.uid, begin(owner.name)), deny, "not_your_account")
	want(t, a.login(owner.uid, begin(owner.name), phone.code(t, 1)), allow, "")
}
