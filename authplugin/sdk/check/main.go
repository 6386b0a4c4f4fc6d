// Command check looks at how what is in a directory such as dist/macos-universal was
// linked: check DIR. build.sh runs it after each build for macOS.
package main

import (
	"fmt"
	"os"

	"sallyport/authplugin/sdk"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: check DIR")
		os.Exit(1)
	}
	if err := sdk.CheckAll(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
