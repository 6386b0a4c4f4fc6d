package link

import (
	"sallyport/agent/store"
	"sallyport/internal/factor/offline"
	authorityv1 "sallyport/proto/sallyport/authority/v1"
)

// escrow takes from a welcome whether the authority has the key of this computer's
// offline bypasses, and makes one where it asks and there is none: the computer
// joined before there was such a key. changed: a is to be kept, before the key is
// sent. An authority that asks for none and takes no reports is older than both,
// and has none.
func escrow(a *store.Authority, w *authorityv1.Welcome) (changed bool) {
	if w.GetWantsBypassKey() && len(a.BypassKey) != offline.KeySize {
		a.BypassKey, changed = offline.NewKey(), true
	}
	has := w.GetTakesReports() && !w.GetWantsBypassKey() && len(a.BypassKey) == offline.KeySize
	changed = changed || has != a.Escrowed
	a.Escrowed = has
	return changed
}
