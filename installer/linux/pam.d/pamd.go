// Package pamd is the PAM stacks that come with Sallyport, for tests and the
// demo to install; README.md beside it is for people.
package pamd

import "embed"

// Files holds debian/ and redhat/.
//
//go:embed debian redhat
var Files embed.FS
