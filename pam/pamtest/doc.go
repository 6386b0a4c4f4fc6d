// Package pamtest holds the tests of the PAM module. They drive it through the
// real libpam, in a small login program of its own (native/driver.c) or inside the test
// (msteinert/pam), with a service directory of their own (pam_start_confdir): the
// machine's /etc/pam.d is never touched. The agent is played by a gRPC server
// that follows a script (agent_test.go), or by bare bytes (raw_test.go).
//
// Every login runs twice: with the module as it is shipped, and with one built
// with ASan and UBSan. unit.c and the fuzzers replace libpam and the socket.
package pamtest
