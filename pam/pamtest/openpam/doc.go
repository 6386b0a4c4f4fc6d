// Package openpam holds the tests of the PAM module on OpenPAM, macOS's libpam: the
// real module, compiled against OpenPAM's headers, in macOS's policies of sudo and
// sshd, with the shipped agent behind it. OpenPAM itself and macOS's modules are
// stand-ins (native/), so what passes here was seen on Linux, not on a Mac.
//
// Each login runs twice: with the module as it is, and with ASan and UBSan.
package openpam
