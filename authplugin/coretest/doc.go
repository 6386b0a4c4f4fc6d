// Package coretest builds and tests the core of the authorization plug-in for macOS,
// which is written in C (authplugin/plugin.h): with a scripted agent and an engine
// that is driven by hand (authplugin/unit), and with fuzzers. It has tests only. What
// they show is shown on Linux: no Mac was seen.
package coretest
