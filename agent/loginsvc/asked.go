package loginsvc

import (
	"context"

	"sallyport/internal/accounts"
	"sallyport/internal/engine"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Asked says whether a login of this account at this computer's own screen, or to
// it over the network, would ask for anything, by the same rules. What cannot be
// decided would.
func (s *Service) Asked(ctx context.Context, user accounts.User, remote bool) bool {
	scenario := loginv1.Scenario_SCENARIO_LOGIN
	if remote {
		scenario = loginv1.Scenario_SCENARIO_REMOTE
	}
	l := &login{Service: s, ctx: ctx, settings: s.Settings(), peer: localsock.Peer{ID: identity.System}, user: user, resolved: true,
		begin: &loginv1.Begin{Hook: loginv1.HookKind_HOOK_KIND_CREDENTIAL_PROVIDER, Stage: loginv1.Stage_STAGE_ACCOUNT, Scenario: scenario, Service: []byte("logonui")}}
	l.describe()
	out := l.machine.Step(l.decide())
	v, ok := out[len(out)-1].(engine.Verdict)
	return !ok || v.Decision != engine.Skip
}
