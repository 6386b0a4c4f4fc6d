// Package linux holds what installs the agent on Linux.
package linux

import _ "embed"

// Unit is the systemd unit, as a template of kardianos/service.
//
//go:embed sallyport.service
var Unit string
