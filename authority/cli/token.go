package cli

import (
	"encoding/hex"
	"io"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/enrol"
	"sallyport/authority/server"
	"sallyport/authority/store"
	"sallyport/internal/textout"
)

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
