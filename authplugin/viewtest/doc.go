// Package viewtest drives the view of the macOS authorization plug-in with real
// keystrokes: authplugin/view.m compiled for GNUstep, in a host that plays
// SecurityAgent (host/main.m), on an X server of its own. It is the same source that
// macOS gets, but GNUstep's AppKit; what only macOS does (the login window's level,
// VoiceOver, secure input) is not shown here.
package viewtest
