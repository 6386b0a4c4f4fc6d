// Package e2e logs in through the real sshd, sudo, su and login, in a private
// machine with the shipped binaries and stacks on it: package machine puts them
// there. It has tests only.
package e2e
