// Command profiles makes what an MDM gives a Mac for Sallyport: configuration
// profiles with its settings, with what its agent may do (PPPC) and with its
// LaunchDaemon as one that stays on; and a custom schema for Jamf Pro. Settings come
// from a file as the agent reads it, and are held to the same rules. The same input
// makes the same bytes.
package main

//go:generate go run . -table ../../../docs/macos-settings.md

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	settings := flag.String("settings", "", "make the settings' profile of this configuration `file`")
	team := flag.String("team", "", "make the profiles for programs signed by the Apple Developer Team with this `ID`")
	out := flag.String("out", "", "write into this `directory`, and the schema for Jamf Pro as well")
	table := flag.String("table", "", "write the table of the settings to this `file`, for the documents")
	flag.Parse()
	if flag.NArg() > 0 || *out == "" && *table == "" {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(*settings, *team, *out, *table); err != nil {
		fmt.Fprintln(os.Stderr, "profiles:", err)
		os.Exit(1)
	}
}

// run makes everything before it writes anything.
func run(settings, team, out, table string) error {
	files := map[string][]byte{}
	if table != "" {
		files[table] = markdown()
	}
	if out != "" {
		files[filepath.Join(out, "sallyport-jamf-schema.json")] = schema()
	}
	add := func(name string, p profile, err error) error {
		if err == nil {
			files[filepath.Join(out, name)], err = p.encode()
		}
		return err
	}
	if out != "" && settings != "" {
		text, err := os.ReadFile(settings)
		if err != nil {
			return err
		}
		p, err := settingsProfile(text)
		if err := add("sallyport-settings.mobileconfig", p, err); err != nil {
			return fmt.Errorf("%s: %w", settings, err)
		}
	}
	if out != "" && team != "" {
		privacy, err := privacyProfile(team)
		err = add("sallyport-privacy.mobileconfig", privacy, err)
		service, err2 := serviceProfile(team)
		if err := cmp.Or(err, add("sallyport-service.mobileconfig", service, err2)); err != nil {
			return err
		}
	}
	for path, b := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, b, 0o644); err != nil {
			return err
		}
	}
	return nil
}
