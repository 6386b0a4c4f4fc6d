package cli

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/clock"
	"sallyport/internal/organisation"
	"sallyport/internal/qr"
	"sallyport/internal/textout"
)

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return textout.Clean(s)
}

// whom names the users of a device or a token.
func whom(users []string) string {
	switch {
	case len(users) == 0:
		return "nobody"
	case slices.Equal(users, []string{enrol.Everyone}):
		return "everyone"
	}
	return textout.Clean(strings.Join(users, ", "))
}

func (a *app) tokenCommand() *cobra.Command {
	var r enrol.TokenRequest
	var everyone bool
	create := &cobra.Command{
		Use:   "create [--user USER]... | --any-user",
		Short: "make a token with which one computer joins, once",
		Long: `Makes a token with which one computer joins, once, and prints it this once: only its hash is
kept. --user says whose logins on that computer phones may approve; more can be allowed
later (device allow).`,
		Example: `  sallyport-authority token create --user maya
  sallyport-authority token create --any-user --serial 5CD1234XYZ --for 2h`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			switch {
			case everyone && len(r.Users) > 0:
				return badUsage("--user or --any-user, not both")
			case everyone:
				r.Users = []string{enrol.Everyone}
			case len(r.Users) == 0:
				return badUsage("say whose computer it is: --user USER (repeat it), or --any-user")
			}
			return a.with(cmd.Context(), func(au *server.Authority) error {
				t, kept, err := au.Enrol.CreateToken(cmd.Context(), a.by(), r)
				if err != nil {
					return err
				}
				join := "sallyport join " + devicesURL(&au.Config)
				v := map[string]any{"token": t.String(), "url": devicesURL(&au.Config), "command": join + " --token-stdin",
					"users": kept.Users, "serial": kept.Serial, "expires": kept.Expires.UTC()}
				a.result(v, func(w io.Writer) {
					printf(w, "%s\n\n", t.String())
					printf(w, "Good once, until %s, for the logins of %s%s.\n", textout.When(kept.Expires), whom(kept.Users),
						map[bool]string{true: ", on the computer " + kept.Serial}[kept.Serial != ""])
					printf(w, "On that computer (it asks for the token):\n  sudo %s\n", join)
				})
				return nil
			})
		}),
	}
	create.Flags().StringSliceVar(&r.Users, "user", nil, "`USER` whose logins phones may approve there (repeat it)")
	create.Flags().BoolVar(&everyone, "any-user", false, "those of every user")
	create.Flags().StringVar(&r.Serial, "serial", "", "good only for the computer with this serial `NUMBER`")
	create.Flags().DurationVar(&r.Life, "for", 24*time.Hour, "how `LONG` it is good: 1m to 720h")
	_ = create.RegisterFlagCompletionFunc("user", a.completeUsers)

	type view struct {
		Hash    string     `json:"hash"`
		Users   []string   `json:"users"`
		Serial  string     `json:"serial,omitempty"`
		Created time.Time  `json:"created"`
		Expires time.Time  `json:"expires"`
		By      string     `json:"by"`
		State   string     `json:"state"`
		Device  string     `json:"device,omitempty"`
		Used    *time.Time `json:"used,omitempty"`
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "list the tokens: open, used, expired",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				views := []view{}
				if err := au.Store.View(cmd.Context(), func(tx store.Tx) error {
					list, err := tx.Tokens()
					for _, t := range list {
						v := view{hex.EncodeToString(t.Hash[:4]), t.Users, t.Serial, t.Created.UTC(), t.Expires.UTC(), t.By, "open", t.Device, stampJSON(t.Used)}
						switch {
						case t.Device != "":
							v.State = "used"
						case !a.deps.Now().Before(t.Expires):
							v.State = "expired"
						}
						views = append(views, v)
					}
					return err
				}); err != nil {
					return err
				}
				a.result(map[string]any{"tokens": views}, func(w io.Writer) {
					if len(views) == 0 {
						printf(w, "No tokens. Make one: sallyport-authority token create --user USER\n")
						return
					}
					rows := [][]string{{"TOKEN", "STATE", "FOR", "SERIAL", "UNTIL", "BY", "DEVICE"}}
					for _, v := range views {
						rows = append(rows, []string{v.Hash, v.State, whom(v.Users), orDash(v.Serial), textout.When(v.Expires), orDash(v.By), orDash(v.Device)})
					}
					textout.Table(w, rows)
				})
				return nil
			})
		}),
	}
	return group(&cobra.Command{Use: "token", Short: "tokens with which computers join"}, create, list)
}

func (a *app) completeUsers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	var names []string
	_ = a.with(cmd.Context(), func(au *server.Authority) error {
		return au.Store.View(cmd.Context(), func(tx store.Tx) error {
			list, err := tx.Users()
			for _, u := range list {
				names = append(names, u.Name)
			}
			return err
		})
	})
	return names, cobra.ShellCompDirectiveNoFileComp
}

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

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
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

func (a *app) userCommand() *cobra.Command {
	user := func(use, short string, f func(cmd *cobra.Command, au *server.Authority, user string) error) *cobra.Command {
		return &cobra.Command{
			Use:               use + " USER",
			Short:             short,
			Args:              exactly(1),
			ValidArgsFunction: a.completeUsers,
			RunE: do(func(cmd *cobra.Command, args []string) error {
				if err := enrol.CheckUser(args[0]); err != nil {
					return err
				}
				return a.with(cmd.Context(), func(au *server.Authority) error { return f(cmd, au, args[0]) })
			}),
		}
	}
	add := user("add", "add somebody whose logins phones may approve", func(cmd *cobra.Command, au *server.Authority, user string) error {
		if err := au.Enrol.AddUser(cmd.Context(), a.by(), user); err != nil {
			if errors.Is(err, store.ErrExists) {
				return &Error{Exit: ExitConflict, Text: fmt.Sprintf("%s is there already", user)}
			}
			return err
		}
		a.result(map[string]string{"added": user}, func(w io.Writer) {
			printf(w, "%s is added. Next:\n  sallyport-authority token create --user %s    a computer that is to join\n  sallyport-authority device allow DEVICE %s    or one that has\n  sallyport-authority user enrol %s             the phone\n",
				user, textout.QuoteArg(user), textout.QuoteArg(user), textout.QuoteArg(user))
		})
		return nil
	})

	type view struct {
		Name    string      `json:"name"`
		Created time.Time   `json:"created"`
		Phones  []phoneView `json:"phones"`
		Devices []string    `json:"devices"` // ids
	}
	list := &cobra.Command{
		Use:   "list",
		Short: "list the users",
		Args:  cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				views := []view{}
				if err := au.Store.View(cmd.Context(), func(tx store.Tx) error {
					list, err := tx.Users()
					if err != nil {
						return err
					}
					for _, u := range list {
						p, err := phones(tx, u.Name)
						if err != nil {
							return err
						}
						devices, err := tx.Devices(u.Name)
						if err != nil {
							return err
						}
						v := view{u.Name, u.Created.UTC(), p, []string{}}
						for _, d := range devices {
							if d.Revoked.IsZero() {
								v.Devices = append(v.Devices, d.ID)
							}
						}
						views = append(views, v)
					}
					return nil
				}); err != nil {
					return err
				}
				a.result(map[string]any{"users": views}, func(w io.Writer) {
					if len(views) == 0 {
						printf(w, "No users. Add one: sallyport-authority user add USER\n")
						return
					}
					rows := [][]string{{"USER", "PHONES", "COMPUTERS", "SINCE"}}
					for _, v := range views {
						rows = append(rows, []string{orDash(v.Name), fmt.Sprint(len(v.Phones)), fmt.Sprint(len(v.Devices)), textout.When(v.Created)})
					}
					textout.Table(w, rows)
				})
				return nil
			})
		}),
	}

	var yes bool
	remove := user("remove", "remove somebody, from every computer, with phones", func(cmd *cobra.Command, au *server.Authority, user string) error {
		if a.deps.IsTTY(a.deps.Stdin) {
			if err := a.confirm(yes, fmt.Sprintf("Remove %s and their phones?", user)); err != nil {
				return err
			}
		}
		waits, err := au.Enrol.RemoveUser(cmd.Context(), a.by(), user)
		if errors.Is(err, store.ErrNotFound) {
			return fmt.Errorf("no user %q: %w", user, store.ErrNotFound)
		}
		if err != nil {
			return err
		}
		a.result(map[string]any{"removed": user, "waits": waits}, func(w io.Writer) {
			printf(w, "%s is removed; no phone is rung for their logins.\n", user)
			a.waits(w, waits)
		})
		return nil
	})
	remove.Flags().BoolVar(&yes, "yes", false, "do not ask")

	var life time.Duration
	var showQR bool
	enrolCommand := user("enrol", "enrol a phone: shows a QR code for its camera", func(cmd *cobra.Command, au *server.Authority, user string) error {
		i, err := au.Enrol.BeginEnrolment(cmd.Context(), a.by(), user, life)
		if err != nil {
			return err
		}
		a.result(map[string]any{"user": user, "id": i.ID, "url": i.URL, "expires": i.Expires.UTC()}, func(w io.Writer) {
			printf(w, "For %s alone, once, until %s:\n\n", user, textout.When(i.Expires))
			a.showQR(w, i.URL, showQR)
			printf(w, "%s\n\nWhoever opens this can approve %s's logins: send it on no open way. The phone makes a passkey;\nsee it then with: sallyport-authority user phones %s\n", i.URL, user, textout.QuoteArg(user))
			if !au.Keys.HoldsOrganisationKey() {
				printf(w, "It rings once the organisation's key has signed it: sallyport-authority manifest pending\n")
			}
		})
		return nil
	})
	enrolCommand.Aliases = []string{"enroll"}
	enrolCommand.Flags().DurationVar(&life, "for", time.Hour, "how `LONG` it is good")
	enrolCommand.Flags().BoolVar(&showQR, "qr", false, "show the QR code even when this is not a terminal")

	phonesCommand := &cobra.Command{
		Use:               "phones USER",
		Short:             "list somebody's phones",
		Args:              exactly(1),
		ValidArgsFunction: a.completeUsers,
		RunE:              do(func(cmd *cobra.Command, args []string) error { return a.phonesOf(cmd, args[0]) }),
	}

	var on string
	var qrToo bool
	issue := func(use, short string, f func(ctx context.Context, au *server.Authority, user, device string) (*enrol.Issued, error), text func(w io.Writer, user string, d store.Device, i *enrol.Issued)) *cobra.Command {
		c := user(use, short, func(cmd *cobra.Command, au *server.Authority, user string) error {
			d, err := deviceFor(cmd.Context(), au.Store, user, on)
			if err != nil {
				return err
			}
			i, err := f(cmd.Context(), au, user, d.ID)
			if err != nil {
				return err
			}
			v := map[string]any{"user": user, "device": d.ID, "waits": i.Waits}
			if uri := i.URI.Reveal(); uri != "" {
				v["otpauth_uri"] = uri
			}
			if len(i.Codes) > 0 {
				codes := make([]string, len(i.Codes))
				for n, c := range i.Codes {
					codes[n] = c.Reveal()
				}
				v["codes"] = codes
			}
			a.result(v, func(w io.Writer) {
				text(w, user, d, i)
				a.waits(w, i.Waits)
			})
			return nil
		})
		c.Flags().StringVar(&on, "on", "", "the `DEVICE` it is for (name or id); needless where there is one only")
		return c
	}
	totp := issue("totp", "give somebody a code generator for one computer", func(ctx context.Context, au *server.Authority, user, device string) (*enrol.Issued, error) {
		return au.Enrol.IssueTOTP(ctx, a.by(), user, device)
	}, func(w io.Writer, user string, d store.Device, i *enrol.Issued) {
		printf(w, "Scan this with %s's phone, for logins on %s:\n\n", user, d.Name)
		a.showQR(w, i.URI.Reveal(), qrToo)
		printf(w, "otpauth URI (keep it secret; it is shown once):\n%s\n", i.URI.Reveal())
	})
	totp.Flags().BoolVar(&qrToo, "qr", false, "show the QR code even when this is not a terminal")
	recovery := issue("recovery", "give somebody new recovery codes for one computer; the old ones end", func(ctx context.Context, au *server.Authority, user, device string) (*enrol.Issued, error) {
		return au.Enrol.IssueRecovery(ctx, a.by(), user, device)
	}, func(w io.Writer, user string, d store.Device, i *enrol.Issued) {
		printf(w, "Recovery codes of %s on %s, each good once, shown once:\n", user, d.Name)
		for _, c := range i.Codes {
			printf(w, "  %s\n", c.Reveal())
		}
	})
	var bypassFor time.Duration
	var reason string
	bypass := issue("bypass", "make one code that lets somebody in once, to be read out", func(ctx context.Context, au *server.Authority, user, device string) (*enrol.Issued, error) {
		return au.Enrol.IssueBypass(ctx, a.by(), user, device, bypassFor, reason)
	}, func(w io.Writer, user string, d store.Device, i *enrol.Issued) {
		printf(w, "%s\n\nGood once for %s on %s, for %s. Be sure whom you read it out to.\n", i.Codes[0].Reveal(), user, d.Name, textout.HowLong(bypassFor))
	})
	bypass.Flags().DurationVar(&bypassFor, "for", time.Hour, "how `LONG` it is good")
	bypass.Flags().StringVar(&reason, "reason", "", "why, for the events: `TEXT`")

	clear := user("clear", "switch push on again after a report or too many misses", func(cmd *cobra.Command, au *server.Authority, user string) error {
		device := ""
		if on != "" {
			d, err := findDevice(cmd.Context(), au.Store, on)
			if err != nil {
				return err
			}
			device = d.ID
		}
		if err := au.Push(nil).Clear(cmd.Context(), a.by(), user, device); errors.Is(err, store.ErrNotFound) {
			if on != "" {
				return fmt.Errorf("no user %q on the device %s: %w", user, on, err)
			}
			return fmt.Errorf("no user %q: %w", user, err)
		} else if err != nil {
			return err
		}
		a.result(map[string]string{"cleared": user, "device": device}, func(w io.Writer) {
			printf(w, "Push for %s is on again here. The computer counts as well: sallyport-authority user clear-push %s\n", user, textout.QuoteArg(user))
		})
		return nil
	})
	clear.Flags().StringVar(&on, "on", "", "only on this `DEVICE`")

	var device string
	remote := func(use, short, done string, kind organisation.Kind, ask func(au *server.Authority) func(ctx context.Context, by, user, device string) (*enrol.Remote, error)) *cobra.Command {
		c := user(use, short, func(cmd *cobra.Command, au *server.Authority, user string) error {
			return a.remote(cmd.Context(), au, kind, user, device, done, ask(au))
		})
		c.Long = "It is done once, and only within a day: a computer that is away for longer does not do it any more."
		c.Flags().StringVar(&device, "on", "", "the `DEVICE` (name or id); needless where there is one only")
		return c
	}
	unlock := remote("unlock", "end somebody's lockout on a computer, after wrong codes", "the lockout is ended", organisation.KindUnlock,
		func(au *server.Authority) func(context.Context, string, string, string) (*enrol.Remote, error) {
			return au.Enrol.Unlock
		})
	clearPush := remote("clear-push", "switch push on again for somebody, on a computer and here", "push may ring again", organisation.KindPushClear,
		func(au *server.Authority) func(context.Context, string, string, string) (*enrol.Remote, error) {
			return au.Enrol.ClearPush
		})

	return group(&cobra.Command{Use: "user", Aliases: []string{"users"}, Short: "people, their phones and codes"},
		add, list, remove, enrolCommand, phonesCommand, totp, recovery, bypass, unlock, clearPush, clear)
}

// showQR draws a code where it fits. With colours it is light on dark whatever
// the terminal's theme is.
func (a *app) showQR(w io.Writer, text string, always bool) {
	tty := a.deps.IsTTY(w)
	if !tty && !always {
		return
	}
	code, err := qr.Text(text)
	if err != nil {
		printf(w, "(No QR code: %v.)\n", err)
		return
	}
	p, columns := a.paint(w), 0
	lines := strings.Split(strings.TrimRight(code, "\n"), "\n")
	for i, l := range lines {
		columns = max(columns, utf8.RuneCountInString(l))
		lines[i] = p.SGR("97;40", l)
	}
	if width := a.deps.Width(w); tty && width > 0 && width < columns {
		printf(w, "(The QR code needs %d columns, this terminal has %d.)\n", columns, width)
		return
	}
	_, _ = fmt.Fprintln(w, strings.Join(lines, "\n"))
}
