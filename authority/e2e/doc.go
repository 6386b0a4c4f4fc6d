// Package e2e tests push from outside, on the programs as they are shipped: an
// authority, computers that have joined it, phones; and whoever is between them, or
// has taken the authority over. What has PAM in it is in pam/e2e.
package e2e
