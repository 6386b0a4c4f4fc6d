package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"sallyport/internal/keychain"
	adminv1 "sallyport/proto/sallyport/admin/v1"
)

func (a *app) vaultCommand() *cobra.Command {
	return group(&cobra.Command{Use: "vault", Short: "make, accept or rekey the vault that holds the secrets"},
		a.vaultLocal("init", "make a new, empty vault: everybody has to enrol again",
			`Makes a new, empty vault; the old files are moved aside. Once there was a vault, a
missing or older one denies those who are enrolled: only this command ends that.
Everybody has to enrol again.`,
			"Make a new, empty vault? Everybody has to enrol again.",
			func(ctx context.Context, c *agent) (*adminv1.VaultResponse, error) {
				return c.InitVault(ctx, &adminv1.InitVaultRequest{})
			}),
		a.vaultLocal("accept", "take a copied or restored vault as this computer's own",
			`Takes the vault that is there as this computer's own, though it is a copy or an
older one: after a restore from a backup, or a move to new hardware. Codes that
were used after the backup was made could be used again for a minute or so.`,
			"Take the vault as it is, though it may be older than the last one seen?",
			func(ctx context.Context, c *agent) (*adminv1.VaultResponse, error) {
				return c.AcceptVault(ctx, &adminv1.AcceptVaultRequest{})
			}),
		a.vaultRekeyCommand(), a.vaultWipeCommand())
}

// vaultWipeCommand is what a purge runs before the program goes.
func (a *app) vaultWipeCommand() *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "wipe",
		Short: "destroy the vault's key, before everything is removed",
		Long: `Destroys the key of the vault, wherever it is kept, and gives a TPM's counter back.
What is in the vault can be read by nobody any more, and whoever is enrolled cannot
log in where a stack still names the module: for when all of it is to go. The agent
must be stopped. Where there is nothing to destroy it does nothing.`,
		Args: cobra.NoArgs,
		RunE: do(func(*cobra.Command, []string) error {
			if a.deps.LocalVault == nil {
				return failed("this build has no vault")
			}
			if err := a.confirm(yes, "Destroy the vault's key? Nobody who is enrolled can log in with it again."); err != nil {
				return err
			}
			if _, err := a.deps.LocalVault("wipe", a.target()); err != nil {
				return err
			}
			a.result(map[string]bool{"wiped": true}, func(w io.Writer) {
				_, _ = fmt.Fprintln(w, "The vault's key is destroyed. What is left can be removed.")
			})
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// vaultLocal is a command that also works with no agent running: then nobody
// else has the vault open.
func (a *app) vaultLocal(action, short, long, question string,
	remote func(context.Context, *agent) (*adminv1.VaultResponse, error)) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use: action, Short: short, Long: long, Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if err := a.confirm(yes, question); err != nil {
				return err
			}
			var vault *adminv1.VaultStatus
			err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				answer, err := remote(ctx, c)
				vault = answer.GetVault()
				return err
			})
			if isDown(err) && a.deps.LocalVault != nil {
				vault, err = a.deps.LocalVault(action, a.target())
			}
			if err != nil {
				return err
			}
			a.printVault(vault)
			return nil
		}),
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

func (a *app) vaultRekeyCommand() *cobra.Command {
	var yes bool
	var to string
	var names []string
	for _, k := range keychain.Kinds() {
		names = append(names, string(k))
	}
	kinds := strings.Join(names, ", ")
	c := &cobra.Command{
		Use:   "rekey --to KIND",
		Short: "give the vault a new key, in the keychain named",
		Long: `Gives the vault a new key and keeps it in the keychain named: ` + kinds + `.
It is the only way to move it; the agent never moves it by itself.`,
		Args: cobra.NoArgs,
		RunE: do(func(cmd *cobra.Command, _ []string) error {
			if to == "" {
				return badUsage("--to: say where the key is to be kept: %s", kinds)
			}
			if err := a.confirm(yes, fmt.Sprintf("Give the vault a new key, kept in %s?", clean(to))); err != nil {
				return err
			}
			var vault *adminv1.VaultStatus
			if err := a.call(cmd.Context(), func(ctx context.Context, c *agent) error {
				answer, err := c.RekeyVault(ctx, &adminv1.RekeyVaultRequest{Keychain: to})
				vault = answer.GetVault()
				return err
			}); err != nil {
				return err
			}
			a.printVault(vault)
			return nil
		}),
	}
	c.Flags().StringVar(&to, "to", "", "the keychain: `KIND` is "+kinds)
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	_ = c.RegisterFlagCompletionFunc("to", cobra.FixedCompletions(names, cobra.ShellCompDirectiveNoFileComp))
	return c
}

func (a *app) printVault(vault *adminv1.VaultStatus) {
	v := newVaultView(vault)
	if v == nil {
		v = &vaultView{}
	}
	a.result(v, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "The vault is %s; its key is kept in: %s\n", clean(v.State), clean(v.Keychain))
	})
}
