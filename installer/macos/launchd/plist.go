// Package launchd holds the agent's LaunchDaemon, and has launchd start and stop it.
package launchd

import (
	"bytes"
	_ "embed"
	"text/template"
)

// Where the daemon is on every Mac. macOS takes a file in /Library/LaunchDaemons only
// when it is root's and nobody else can write it.
const (
	Label   = "com.sallyport.agent"
	Path    = "/Library/LaunchDaemons/" + Label + ".plist"
	Target  = "system/" + Label // launchctl(1): a service in the system's domain
	Program = "/Library/Application Support/Sallyport/bin/sallyport"
	Stderr  = "/var/log/" + Label + ".log"
)

// Template is the daemon's property list, as a template of kardianos/service.
//
//go:embed com.sallyport.agent.plist
var Template string

// Arguments are the agent's, as a daemon.
func Arguments(config string) []string { return []string{"run", "--service", "--config", config} }

// Plist is the property list for a program and its arguments, as kardianos/service
// makes it: for the package, which brings the file.
func Plist(program string, arguments []string) ([]byte, error) {
	t, err := template.New(Label).Funcs(template.FuncMap{
		"Path":      func() string { return program },
		"Arguments": func() []string { return arguments },
	}).Parse(Template)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	err = t.Execute(&b, nil)
	return b.Bytes(), err
}
