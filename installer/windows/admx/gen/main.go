// Command gen writes the policy templates below a directory, and the table of
// the policies into a file when one is named.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"sallyport/installer/windows/admx"
)

func main() {
	if len(os.Args) < 2 || len(os.Args) > 3 {
		fmt.Fprintln(os.Stderr, "usage: gen DIRECTORY [TABLE.md]")
		os.Exit(2)
	}
	write(filepath.Join(os.Args[1], admx.Template), admx.ADMX())
	write(filepath.Join(os.Args[1], admx.English), admx.ADML())
	if len(os.Args) == 3 {
		write(os.Args[2], admx.Markdown())
	}
}

func write(path string, b []byte) {
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path, b, 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}
