package loginsvc

import (
	"context"

	"sallyport/internal/accounts"
	"sallyport/internal/engine"
	"sallyport/internal/identity"
	"sallyport/internal/localsock"
	loginv1 "sallyport/proto/sallyport/login/v1"
)

// Asked says whether a login of this account at this computer would ask for
// anything, by the same rules. What cannot be decided would.
func (s *Service) Asked(ctx context.Context, user accounts.User) bool {
	l := &login{Service: s, ctx: ctx, settings: s.Settings(), peer: localsock.Peer{ID: identity.System}, user: user, resolved: true,
		begin: &loginv1.Begin{Stage: loginv1.Stage_STAGE_ACCOUNT, Scenario: loginv1.Scenario_SCENARIO_LOGIN}}
	out := l.machine.Step(l.decide())
	v, ok := out[len(out)-1].(engine.Verdict)
	return !ok || v.Decision != engine.Skip
}
