package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/organisation"
	"sallyport/internal/textout"
)

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
