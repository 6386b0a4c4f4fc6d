package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/textout"
)

// phoneView is a phone with --json.
type phoneView struct {
	ID      string    `json:"id"`
	User    string    `json:"user"`
	Phone   string    `json:"phone"`
	Device  string    `json:"device,omitempty"` // the one that pinned it itself
	State   string    `json:"state"`
	Synced  bool      `json:"synced"`
	Rings   bool      `json:"rings"`
	Created time.Time `json:"created"`
}

// phones lists the phones of a user; "" is everybody's.
func phones(tx store.Tx, user string) ([]phoneView, error) {
	list, err := tx.Approvers(user)
	if err != nil {
		return nil, err
	}
	views := []phoneView{}
	for _, p := range list {
		v := phoneView{p.ID, p.User, p.Phone, p.Device, "good on every computer", p.Synced, false, p.Created.UTC()}
		switch {
		case p.Device != "":
			v.State = "of one computer"
		case p.Pending:
			v.State = "waits for the organisation's key"
		}
		sessions, err := tx.Sessions(p.ID)
		if err != nil {
			return nil, err
		}
		v.Rings = slices.ContainsFunc(sessions, func(s store.Session) bool { return s.Subscription != nil })
		views = append(views, v)
	}
	return views, nil
}

// offView is a computer for whose logins of somebody the authority rings no phone.
type offView struct {
	Device string `json:"device"`
	Name   string `json:"name"`
	Why    string `json:"why"` // reported or paused
}

// pushOff says where push is off for a user; "" is nobody.
func (a *app) pushOff(tx store.Tx, user string) ([]offView, error) {
	off := []offView{}
	if user == "" {
		return off, nil
	}
	devices, err := tx.Devices(user)
	if err != nil {
		return nil, err
	}
	for _, d := range devices {
		state, err := tx.PushState(user, d.ID)
		if err != nil {
			return nil, err
		}
		switch {
		case state.Reported:
			off = append(off, offView{d.ID, d.Name, "reported"})
		case state.IsPaused(clock.Instant{Wall: a.deps.Now()}):
			off = append(off, offView{d.ID, d.Name, "paused"})
		}
	}
	return off, nil
}

func (a *app) phonesOf(cmd *cobra.Command, user string) error {
	return a.with(cmd.Context(), func(au *server.Authority) error {
		var views []phoneView
		var off []offView
		names := map[string]string{}
		if err := au.Store.View(cmd.Context(), func(tx store.Tx) (err error) {
			if user != "" {
				if _, err := tx.User(user); err != nil {
					return fmt.Errorf("no user %q: %w", user, err)
				}
			}
			if views, err = phones(tx, user); err != nil {
				return err
			}
			if off, err = a.pushOff(tx, user); err != nil {
				return err
			}
			for _, v := range views {
				if d, err := tx.Device(v.Device); err == nil {
					names[v.Device] = d.Name
				}
			}
			return nil
		}); err != nil {
			return err
		}
		v := map[string]any{"phones": views}
		if user != "" {
			v["push_off"] = off
		}
		a.result(v, func(w io.Writer) {
			for _, o := range off {
				printf(w, "%s here for %s on %s (%s). To allow it again: sallyport-authority user clear %s\n", a.paint(w).Red("Push is off"), user, o.Name, o.Why, textout.QuoteArg(user))
			}
			if len(views) == 0 {
				printf(w, "No phones. Enrol one: sallyport-authority user enrol USER, or at a computer: sallyport enroll USER --push\n")
				return
			}
			rows := [][]string{{"USER", "PHONE", "ID", "STATE", "RINGS", "SYNCED", "SINCE"}}
			for _, v := range views {
				state := v.State
				if n := names[v.Device]; n != "" {
					state = "of " + textout.Clean(n)
				}
				rows = append(rows, []string{orDash(v.User), orDash(v.Phone), v.ID, state, yesNo(v.Rings), yesNo(v.Synced), textout.When(v.Created)})
			}
			textout.Table(w, rows)
		})
		return nil
	})
}

func (a *app) phoneCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list [USER]",
		Short: "list the phones",
		Args:  cobra.MaximumNArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.phonesOf(cmd, strings.Join(args, ""))
		}),
	}
	var yes bool
	remove := &cobra.Command{
		Use:   "remove PHONE",
		Short: "remove a phone (by its id); it is not rung again",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				var p store.Approver
				var d store.Device
				if err := au.Store.View(cmd.Context(), func(tx store.Tx) (err error) {
					if p, err = tx.Approver(args[0]); err != nil {
						return fmt.Errorf("no phone %q; see: sallyport-authority phone list: %w", args[0], err)
					}
					if d, err = tx.Device(p.Device); errors.Is(err, store.ErrNotFound) {
						err = nil
					}
					return err
				}); err != nil {
					return err
				}
				if a.deps.IsTTY(a.deps.Stdin) {
					if err := a.confirm(yes, fmt.Sprintf("Remove %s of %s?", p.Phone, p.User)); err != nil {
						return err
					}
				}
				waits, err := au.Enrol.RevokeApprover(cmd.Context(), a.by(), p.ID)
				if err != nil {
					return err
				}
				a.result(map[string]any{"removed": p.ID, "user": p.User, "phone": p.Phone, "waits": waits}, func(w io.Writer) {
					printf(w, "%s of %s is removed: it is not rung any more.\n", p.Phone, p.User)
					if p.Device != "" {
						printf(w, "The computer %s pinned it itself; there: sudo sallyport phones remove %s %s\n", d.Name, textout.QuoteArg(p.User), textout.QuoteArg(p.Phone))
					}
					a.waits(w, waits)
				})
				return nil
			})
		}),
	}
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return group(&cobra.Command{Use: "phone", Aliases: []string{"phones"}, Short: "the phones that approve logins"}, list, remove)
}
