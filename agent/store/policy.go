package store

import (
	"slices"

	"sallyport/internal/config"
	"sallyport/internal/organisation"
	"sallyport/internal/policy"
	"sallyport/internal/vault"
)

// Raised returns root's rules with what the organisation signed on top; nil where
// it signed none, or root takes none of it. Where that cannot be read, err says
// why, and the rules require everybody who is not exempt.
func (s *Store) Raised(c *config.Config) (rules *policy.Rules, err error) {
	if !slices.Contains(c.Authority.Accept, string(organisation.KindPolicy)) {
		return nil, nil
	}
	var signed Item
	central := policy.Unreadable()
	err = s.View(func(tx *vault.Tx) (err error) {
		signed, err = Signed(tx, organisation.KindPolicy, "")
		return err
	})
	if err == nil {
		if signed.Version == 0 {
			return nil, nil
		}
		central, err = policy.Parse(signed.Policy)
	}
	raised := policy.Raise(c.Policy, central, c.Authority.AllowExemptions)
	return &raised, err
}
