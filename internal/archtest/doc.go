// Package archtest holds the tests that keep the layout of the project: who may
// import whom, what reads the clock, and that everything exported says what it
// is. Each rule has its reason beside it; whoever wants to break one changes the
// reason first.
package archtest
