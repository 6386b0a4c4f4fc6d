package cli

import (
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"sallyport/authority/server"
	"sallyport/internal/textout"
)

func (a *app) bypassCommand() *cobra.Command {
	var on, challenge, reason string
	var life time.Duration
	answer := &cobra.Command{
		Use:   "answer USER --on DEVICE --challenge CHALLENGE --reason TEXT",
		Short: "answer the challenge on the screen of a computer that no network reaches",
		Long: `answer makes the code for somebody whose computer has no network and takes no
other code. Who types ? where a code is asked for sees a challenge, as K7QF-9M2X;
it is read to you, and you read out the code that this command prints.

The code is good once, for that person, on that computer, for that challenge. Its
time counts from when the challenge was first shown, by the computer's own clock.

Be sure who is calling: ring them back, or ask their manager.`,
		Example:           `  sallyport-authority bypass answer alice --on laptop-12 --challenge K7QF-9M2X --reason 'on a plane, ticket 123'`,
		Args:              exactly(1),
		ValidArgsFunction: a.completeUsers,
		RunE: do(func(cmd *cobra.Command, args []string) error {
			return a.with(cmd.Context(), func(au *server.Authority) error {
				user := args[0]
				d, err := deviceFor(cmd.Context(), au.Store, user, on)
				if err != nil {
					return err
				}
				code, err := au.Enrol.AnswerOffline(cmd.Context(), a.by(), user, d.ID, challenge, life, reason)
				if err != nil {
					return err
				}
				a.result(map[string]any{"user": user, "device": d.ID, "code": code.Reveal(), "for": life.String()}, func(w io.Writer) {
					printf(w, "%s\n\nGood once for %s on %s, until %s after the challenge was first shown. Be sure whom you read it out to.\n",
						strings.ReplaceAll(code.Reveal(), "-", " - "), user, d.Name, textout.HowLong(life))
				})
				return nil
			})
		}),
	}
	answer.Flags().StringVar(&on, "on", "", "the `DEVICE` of the challenge (name or id); needless where there is one only")
	answer.Flags().StringVar(&challenge, "challenge", "", "what the screen shows: `CHALLENGE`")
	answer.Flags().DurationVar(&life, "for", time.Hour, "how `LONG` it is good: 15m, 1h, 4h or 24h")
	answer.Flags().StringVar(&reason, "reason", "", "why, for the events: `TEXT`")
	return group(&cobra.Command{Use: "bypass", Short: "let somebody in whose computer is offline"}, answer)
}
