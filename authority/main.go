// Command sallyport-authority is the self-hosted other end of push and of central
// enrolment: the server ("sallyport-authority run") and its commands.
package main

import (
	"context"
	"os"

	"sallyport/authority/cli"
)

// version is set by build.sh.
var version = "dev"

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], cli.Deps{Version: version}))
}
