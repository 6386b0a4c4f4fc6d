// Package packagetest puts the packages onto small machines of their own, with a real
// systemd, dpkg, rpm and sshd, and logs in. It has tests only.
package packagetest
