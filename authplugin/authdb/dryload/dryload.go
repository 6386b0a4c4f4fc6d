// Package dryload loads an authorization plug-in as SecurityAgent would (dlopen(3)),
// to see whether it can be. What it loads it runs: it is for a process of its own,
// which then ends.
package dryload
