package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/textout"
)

// findDevice takes an id or a name that only one device has.
func findDevice(ctx context.Context, s store.Store, name string) (d store.Device, err error) {
	err = s.View(ctx, func(tx store.Tx) error {
		if d, err = tx.Device(strings.ToUpper(name)); !errors.Is(err, store.ErrNotFound) {
			return err
		}
		found, err := tx.DevicesNamed(name)
		if err != nil {
			return err
		}
		// A computer that was revoked and joined anew has its name twice.
		found = slices.DeleteFunc(found, func(d store.Device) bool { return !d.Revoked.IsZero() })
		switch len(found) {
		case 1:
			d = found[0]
			return nil
		case 0:
			return &Error{Exit: ExitNotFound, Text: fmt.Sprintf("no device %q", name), Remedy: "see: sallyport-authority device list"}
		}
		var ids []string
		for _, x := range found {
			ids = append(ids, x.ID)
		}
		return badUsage("%d devices are named %q; say which: %s", len(found), name, strings.Join(ids, ", "))
	})
	return d, err
}

// deviceFor is the device that an item for a user is meant for.
func deviceFor(ctx context.Context, s store.Store, user, name string) (d store.Device, err error) {
	if name != "" {
		return findDevice(ctx, s, name)
	}
	var list []store.Device
	err = s.View(ctx, func(tx store.Tx) (err error) {
		if _, err = tx.User(user); err != nil {
			return fmt.Errorf("no user %q: %w", user, err)
		}
		list, err = tx.Devices(user)
		return err
	})
	if err != nil {
		return d, err
	}
	list = slices.DeleteFunc(list, func(d store.Device) bool { return !d.Revoked.IsZero() })
	if len(list) == 1 {
		return list[0], nil
	}
	var names []string
	for _, d := range list {
		names = append(names, fmt.Sprintf("%s (%s)", d.Name, d.ID))
	}
	return d, &Error{Exit: ExitUsage, Text: fmt.Sprintf("%s is allowed on %s; say for which: --on DEVICE", user, textout.Plural(len(list), "device", "devices")), Remedy: strings.Join(names, "\n")}
}

// deviceView is a device with --json.
type deviceView struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Serial     string     `json:"serial,omitempty"`
	Platform   string     `json:"platform"`
	Version    string     `json:"version"`
	Users      []string   `json:"users"`
	Online     bool       `json:"online"`
	Node       string     `json:"node,omitempty"`
	Joined     time.Time  `json:"joined"`
	Seen       *time.Time `json:"seen,omitempty"`
	Expires    time.Time  `json:"certificate_expires"`
	Revoked    *time.Time `json:"revoked,omitempty"`
	Why        string     `json:"why,omitempty"`
	VaultID    string     `json:"vault_id,omitempty"`
	Generation uint64     `json:"vault_generation"`
	Refused    []string   `json:"refused,omitempty"` // signed items that it did not take
}

func newDeviceView(d store.Device, node string) deviceView {
	return deviceView{d.ID, d.Name, d.Serial, d.Platform, d.Version, append([]string{}, d.Users...), node != "", node, d.Created.UTC(), stampJSON(d.Seen), d.Expires.UTC(),
		stampJSON(d.Revoked), d.Why, d.VaultID, d.Generation, nil}
}

func (v deviceView) state() string {
	switch {
	case v.Revoked != nil:
		return "revoked"
	case v.Online:
		return "online"
	}
	return "offline"
}

func (a *app) deviceCommand() *cobra.Command {
	list := &cobra.Command{
		Use:   "list",
		Short: "list the computers",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				views := []deviceView{}
				err := au.Store.View(cmd.Context(), func(tx store.Tx) error {
					list, err := tx.Devices("")
					if err != nil {
						return err
					}
					online, err := tx.Online(a.deps.Now())
					for _, d := range list {
						views = append(views, newDeviceView(d, online[d.ID]))
					}
					return err
				})
				if err != nil {
					return err
				}
				a.result(map[string]any{"devices": views}, func(w io.Writer) {
					if len(views) == 0 {
						printf(w, "No computer has joined. Make a token for one: sallyport-authority token create --user USER\n")
						return
					}
					rows := [][]string{{"NAME", "ID", "STATE", "USERS", "PLATFORM", "AGENT", "SEEN"}}
					for _, v := range views {
						seen := "never"
						if v.Seen != nil {
							seen = textout.When(*v.Seen)
						}
						rows = append(rows, []string{orDash(v.Name), v.ID, v.state(), whom(v.Users), orDash(v.Platform), orDash(v.Version), seen})
					}
					textout.Table(w, rows)
				})
				return nil
			})
		}),
	}
	show := &cobra.Command{
		Use:   "show DEVICE",
		Short: "show what is known of one computer (name or id)",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				d, err := findDevice(cmd.Context(), au.Store, args[0])
				if err != nil {
					return err
				}
				var v deviceView
				if err := au.Store.View(cmd.Context(), func(tx store.Tx) error {
					node, err := tx.StreamNode(d.ID, a.deps.Now())
					if err != nil {
						return err
					}
					v = newDeviceView(d, node)
					items, err := tx.Items(d.ID)
					for _, i := range items {
						if i.Refused != "" {
							v.Refused = append(v.Refused, strings.TrimSpace(fmt.Sprintf("%s %s version %d: %s", i.Kind, i.User, i.Version, i.Refused)))
						}
					}
					return err
				}); err != nil {
					return err
				}
				a.result(v, func(w io.Writer) {
					line := func(name, format string, args ...any) {
						printf(w, "  %-12s %s\n", name, fmt.Sprintf(format, args...))
					}
					printf(w, "%s (%s): %s\n", v.Name, v.ID, v.state())
					if v.Revoked != nil {
						line("revoked", "%s, %s", textout.When(*v.Revoked), v.Why)
					}
					line("users", "%s", whom(v.Users))
					line("agent", "%s, %s", orDash(v.Version), orDash(v.Platform))
					line("serial", "%s (as it says itself)", orDash(v.Serial))
					line("joined", "%s", textout.When(v.Joined))
					if v.Seen != nil {
						line("seen", "%s", textout.When(*v.Seen))
					}
					line("certificate", "until %s", textout.When(v.Expires))
					line("vault", "%s, generation %d", orDash(v.VaultID), v.Generation)
					for _, r := range v.Refused {
						line("refused", "%s", r)
					}
				})
				return nil
			})
		}),
	}
	change := func(use, short, done string, f func(au *server.Authority, ctx context.Context, device, user string) error) *cobra.Command {
		return &cobra.Command{
			Use:   use + " DEVICE USER",
			Short: short,
			Args:  exactly(2),
			RunE: do(func(cmd *cobra.Command, args []string) error {
				return a.with(cmd.Context(), func(au *server.Authority) error {
					d, err := findDevice(cmd.Context(), au.Store, args[0])
					if err != nil {
						return err
					}
					if err := f(au, cmd.Context(), d.ID, args[1]); err != nil {
						return err
					}
					if d, err = findDevice(cmd.Context(), au.Store, d.ID); err != nil {
						return err
					}
					a.result(map[string]any{"device": d.ID, "users": append([]string{}, d.Users...)}, func(w io.Writer) {
						printf(w, "%s %s on %s. Allowed there: %s.\n", whom(args[1:2]), done, d.Name, whom(d.Users))
					})
					return nil
				})
			}),
		}
	}
	allow := change("allow", "let phones approve a user's logins there; * is everyone's", "is allowed", func(au *server.Authority, ctx context.Context, device, user string) error {
		return au.Enrol.AllowUser(ctx, a.by(), device, user)
	})
	disallow := change("disallow", "end that", "is no longer allowed", func(au *server.Authority, ctx context.Context, device, user string) error {
		return au.Enrol.DisallowUser(ctx, a.by(), device, user)
	})
	var reason string
	var yes bool
	revoke := &cobra.Command{
		Use:   "revoke DEVICE --reason TEXT",
		Short: "end a computer's certificate, and its connection at once; for good",
		Args:  exactly(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				d, err := findDevice(cmd.Context(), au.Store, args[0])
				if err != nil {
					return err
				}
				if a.deps.IsTTY(a.deps.Stdin) {
					if err := a.confirm(yes, fmt.Sprintf("Revoke %s (%s)? It would have to join anew, with a new token.", d.Name, d.ID)); err != nil {
						return err
					}
				}
				if err := au.Enrol.RevokeDevice(cmd.Context(), a.by(), d.ID, reason); err != nil {
					return err
				}
				a.result(map[string]string{"revoked": d.ID, "name": d.Name}, func(w io.Writer) {
					printf(w, "%s (%s) is revoked. Logins on it go on with codes.\n", d.Name, d.ID)
				})
				return nil
			})
		}),
	}
	revoke.Flags().StringVar(&reason, "reason", "", "why, for the events: `TEXT`")
	revoke.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return group(&cobra.Command{Use: "device", Aliases: []string{"devices"}, Short: "the computers that joined"}, list, show, a.deviceStatusCommand(), allow, disallow, revoke)
}
