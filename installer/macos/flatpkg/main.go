// Command flatpkg writes the flat package for macOS on another system, and reads it
// back: to check what the package brings. macOS's Installer does not take it: it has
// no Bom, whose format Apple does not document (bom(5)); pkgbuild(1) writes one.
//
//	flatpkg daemon
//	flatpkg write -time SECONDS -identifier ID -version N -location DIR ROOT SCRIPTS DISTRIBUTION OUT
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"time"

	"sallyport/installer/macos/launchd"
)

// config is the agent's configuration on every Mac (internal/config, which knows it
// only when it is built for macOS).
const config = "/Library/Application Support/Sallyport/sallyport.toml"

var errUsage = errors.New("usage: flatpkg daemon | flatpkg write FLAGS ROOT SCRIPTS DISTRIBUTION OUT")

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "flatpkg:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 1 && args[0] == "daemon" {
		text, err := launchd.Plist(launchd.Program, launchd.Arguments(config))
		if err == nil {
			_, err = os.Stdout.Write(text)
		}
		return err
	}
	var p Package
	f := flag.NewFlagSet("write", flag.ContinueOnError)
	f.Func("time", "what every file's time becomes", func(s string) error {
		n, err := strconv.ParseInt(s, 10, 64)
		p.Time = time.Unix(n, 0)
		return err
	})
	f.StringVar(&p.Identifier, "identifier", "", "the package's")
	f.StringVar(&p.Version, "version", "", "numbers")
	f.StringVar(&p.Location, "location", "", "where its files go")
	if len(args) == 0 || args[0] != "write" {
		return errUsage
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	if f.NArg() != 4 {
		return errUsage
	}
	distribution, err := os.ReadFile(f.Arg(2))
	if err != nil {
		return err
	}
	b, err := p.Write(os.DirFS(f.Arg(0)), os.DirFS(f.Arg(1)), distribution)
	if err != nil {
		return err
	}
	return os.WriteFile(f.Arg(3), b, 0o644)
}
