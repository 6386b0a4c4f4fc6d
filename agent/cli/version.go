package cli

import (
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"
)

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "say which version this program is",
		Args:  cobra.NoArgs,
		RunE: do(func(*cobra.Command, []string) error {
			platform := runtime.GOOS + "/" + runtime.GOARCH
			a.result(map[string]string{"version": a.deps.Version, "go": runtime.Version(), "platform": platform}, func(w io.Writer) {
				_, _ = fmt.Fprintf(w, "sallyport %s (%s, %s)\n", a.deps.Version, platform, runtime.Version())
			})
			return nil
		}),
	}
}
