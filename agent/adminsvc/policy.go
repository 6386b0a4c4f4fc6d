package adminsvc

import (
	"cmp"
	"context"
	"runtime"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"sallyport/agent/loginsvc"
	"sallyport/internal/policy"
	adminv1 "sallyport/proto/sallyport/admin/v1"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Explain says what a login would come to that nobody makes; a
// loginsvc.Service's.
type Explain func(context.Context, loginsvc.Imagined) (loginsvc.Explained, error)

// ownLogins are what each system's own login is called.
var ownLogins = map[string]struct {
	hook    loginv1.HookKind
	service string
}{
	"windows": {loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER, "logonui"},
	"darwin":  {loginv1.HookKind_HOOK_KIND_AUTHORIZATION_PLUGIN, "loginwindow"},
	"":        {loginv1.HookKind_HOOK_KIND_PAM, "login"},
}

// The scenarios that a PAM service stands for, as in pam/service.c; a test compares
// the two. Any other is a login, or a remote one where it comes from somewhere.
var scenarios = map[loginv1.Scenario][]string{
	loginv1.Scenario_SCENARIO_REMOTE:  {"sshd", "cockpit", "xrdp-sesman"},
	loginv1.Scenario_SCENARIO_ELEVATE: {"sudo", "sudo-i", "su", "su-l", "runuser", "runuser-l", "doas", "pkexec", "polkit-1"},
	loginv1.Scenario_SCENARIO_UNLOCK: {"vlock", "physlock", "cinnamon-screensaver", "gnome-screensaver", "gtklock", "hyprlock", "i3lock", "kcheckpass",
		"kde", "kscreenlocker", "light-locker", "mate-screensaver", "swaylock", "waylock", "xfce4-screensaver", "xlock", "xscreensaver", "xsecurelock"},
}

// imagine is the login that a request tells of.
func imagine(r *adminv1.ExplainPolicyRequest) (i loginsvc.Imagined, err error) {
	own, found := ownLogins[runtime.GOOS]
	if !found {
		own = ownLogins[""]
	}
	b := &loginv1.Begin{ProtocolVersion: 1, Stage: loginv1.Stage_STAGE_AUTHENTICATE, Hook: own.hook, Scenario: loginv1.Scenario_SCENARIO_LOGIN,
		User: []byte(r.GetUser()), Service: []byte(cmp.Or(r.GetService(), own.service)), RemoteHost: []byte(r.GetRemoteHost()), Session: []byte(r.GetSession())}
	i.Begin, i.NotRoot = b, r.GetNotRoot()
	if r.GetHook() != "" {
		b.Hook = loginv1.HookKind(loginv1.HookKind_value["HOOK_KIND_"+strings.ToUpper(r.GetHook())])
		if b.GetHook() == 0 {
			return i, status.Errorf(codes.InvalidArgument, "%q is no hook; there are pam, credential_provider and authorization_plugin", r.GetHook())
		}
	} else if r.GetService() != "" && r.GetService() != own.service && runtime.GOOS != "windows" && b.GetHook() != loginv1.HookKind_HOOK_KIND_PAM {
		b.Hook = loginv1.HookKind_HOOK_KIND_PAM // sudo and sshd of a Mac
		if slices.Contains([]string{"screensaver", "authorization"}, r.GetService()) {
			b.Hook = own.hook
		}
	}
	if r.GetScenario() != "" {
		b.Scenario = loginv1.Scenario(loginv1.Scenario_value["SCENARIO_"+strings.ToUpper(r.GetScenario())])
		if b.GetScenario() == 0 {
			return i, status.Errorf(codes.InvalidArgument, "%q is no scenario; there are login, unlock, elevate and remote", r.GetScenario())
		}
	} else {
		if r.GetRemoteHost() != "" {
			b.Scenario = loginv1.Scenario_SCENARIO_REMOTE
		}
		for scenario, services := range scenarios {
			if slices.Contains(services, r.GetService()) {
				b.Scenario = scenario
			}
		}
	}
	switch online := r.GetNetwork() == "online"; {
	case r.GetNetwork() == "":
	case !online && r.GetNetwork() != "offline":
		return i, status.Errorf(codes.InvalidArgument, "%q is neither online nor offline", r.GetNetwork())
	default:
		i.Online = &online
	}
	if at := r.GetAt(); at != nil {
		if err := at.CheckValid(); err != nil {
			return i, status.Error(codes.InvalidArgument, err.Error())
		}
		i.At = at.AsTime()
	}
	return i, nil
}

// ExplainPolicy says what a login would be asked for, by which rule, and why. It
// changes nothing.
func (s *Service) ExplainPolicy(ctx context.Context, r *adminv1.ExplainPolicyRequest) (*adminv1.ExplainPolicyResponse, error) {
	if r.GetUser() == "" {
		return nil, status.Error(codes.InvalidArgument, "no user was named")
	}
	i, err := imagine(r)
	if err != nil {
		return nil, err
	}
	e, err := s.Explain(ctx, i)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return wireExplained(e), nil
}

func wireExplained(e loginsvc.Explained) *adminv1.ExplainPolicyResponse {
	out := &adminv1.ExplainPolicyResponse{User: e.User.Name, Key: string(e.User.ID), Effect: e.Effect.String(), Outcome: e.Outcome,
		Rule: e.Rule, Why: e.Why, Factors: e.Factors, Digits: int32(e.Digits)}
	if e.Remember > 0 {
		out.Remember = durationpb.New(e.Remember)
	}
	for _, step := range e.Steps {
		out.Steps = append(out.Steps, &adminv1.PolicyStep{Rule: step.Rule, Source: step.Source, Outcome: string(step.Outcome), Text: step.Text})
	}
	for _, fact := range e.Facts {
		out.Facts = append(out.Facts, &adminv1.PolicyFact{Name: fact.Name, Value: fact.Value, Text: fact.Text})
	}
	if o := e.Offline; o != nil {
		out.Offline = &adminv1.OfflineStanding{Limited: o.Limited, Reached: o.Reached, Challenge: o.Challenge}
		if o.ByCount {
			out.Offline.LoginsLeft = wrapperspb.UInt32(uint32(o.Logins))
		}
		if o.ByTime {
			out.Offline.Left = durationpb.New(o.Left)
		}
	}
	return out
}

// asked says in one line whether this system's own login asks a person.
func (s *Service) asked(ctx context.Context, name string) string {
	i, err := imagine(&adminv1.ExplainPolicyRequest{User: name})
	if err != nil || s.Explain == nil {
		return ""
	}
	e, err := s.Explain(ctx, i)
	switch {
	case err != nil:
		return "not known: " + err.Error()
	case e.Effect == policy.Skip:
		return "exempt, by " + e.Rule
	case e.Effect == policy.Deny:
		return "denied, by " + e.Rule
	case e.Outcome == loginsvc.NotAsked:
		return "not asked, by " + e.Rule
	case e.Outcome == loginsvc.Denied:
		return "denied, by " + cmp.Or(string(e.Reason), e.Rule)
	}
	if e.Factors != nil {
		return "asked for " + strings.Join(e.Factors, " or ") + ", by " + e.Rule
	}
	return "asked, by " + e.Rule
}
