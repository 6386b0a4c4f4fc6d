// Where a login takes place: at the console, or over the network.
#pragma once

#include "com.h"

struct Place {
	DWORD session;
	bool remote;
	// At the computer's own screen and keyboard, for all that Windows knows. Never
	// together with remote.
	bool console;
	// "rdp:192.0.2.1". The client says so itself ("WTS_CLIENT_ADDRESS": not for
	// authentication), hence not as an address that a policy's range could match.
	char remoteHost[64];
	// Whose session it is, DOMAIN\user in UTF-8; empty before a login.
	char owner[320];
};

// here asks Windows, which may take a moment: not for the screen's thread.
Place here();

// runsAsSystem is true in LogonUI and in consent.exe (User Account Control), and
// false in a program that asks its user for credentials.
bool runsAsSystem();
