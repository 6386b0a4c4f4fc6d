// Package oslog writes lines to the unified log of macOS, os_log(3): read them with
//
//	log show --last 1h --predicate 'subsystem == "com.sallyport.agent"'
//
// A build without cgo cannot call it and writes to syslog(3), which macOS takes
// into the same log, without a subsystem.
package oslog

import (
	"log/slog"
	"strings"
	"unicode/utf8"
)

// The types of a message that are used here (os/log.h). Of OS_LOG_TYPE_INFO only
// memory has a copy: what the agent tells is to be found the day after.
const (
	typeDefault = 0x00
	typeDebug   = 0x02
	typeError   = 0x10
)

// kind maps a level as Logger of Apple's os framework maps its own: a warning is an
// error there, too. The line itself says which it is.
func kind(l slog.Level) uint8 {
	switch {
	case l >= slog.LevelWarn:
		return typeError
	case l >= slog.LevelInfo:
		return typeDefault
	default:
		return typeDebug
	}
}

// The log keeps 1024 bytes of a string (os_log(3)) and drops the rest without a word.
const (
	pieceLimit = 1000
	pieces     = 8
)

// split cuts a line into what the log keeps. What is over all of its pieces is
// gone, and the last one says so.
func split(text string) []string {
	text = strings.TrimRight(text, "\n")
	var out []string
	for len(text) > pieceLimit {
		if len(out) == pieces {
			return append(out, "... (the rest of the line is left out)")
		}
		n := pieceLimit
		for n > pieceLimit-utf8.UTFMax && !utf8.RuneStart(text[n]) {
			n--
		}
		out = append(out, text[:n]+" ...")
		text = "... " + text[n:]
	}
	return append(out, text)
}
