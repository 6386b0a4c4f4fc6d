// Package hosttest holds the tests of the credential provider. A stand-in for
// LogonUI (../host) runs under Wine, finds the DLL through the registry as Windows
// does and takes it through whole logins; each test reads like the login it shows.
// The agent is the shipped one, or, where it has to misbehave, a gRPC server that
// follows a script (agent_test.go) behind a pipe of Windows' own (relay).
//
// SALLYPORT_WINDOWS_DIST names a directory (a full path) with sallyport.exe and the DLL,
// as "./build.sh build windows" makes them; without it they are built here. The tests skip
// where there can be no Wine.
//
// What LogonUI draws, LSA's view of a credential, the secure desktop and RDP itself
// are not there under Wine, and nothing here shows them.
package hosttest
