package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"sallyport/internal/manpage"
)

func (a *app) manCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "write the manual pages into a directory",
		Args:  cobra.ExactArgs(1),
		RunE: do(func(cmd *cobra.Command, args []string) error {
			written, err := manpage.Write(cmd.Root(), args[0], a.deps.Version, exits.Table())
			if err != nil {
				return failed("%v", err)
			}
			a.result(map[string][]string{"written": written}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "%s in %s\n", plural(len(written), "page", "pages"), clean(args[0]))
			})
			return nil
		}),
	}
}
