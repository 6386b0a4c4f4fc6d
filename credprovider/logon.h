// What LogonUI hands to LSA for a login with a password: KERB_INTERACTIVE_UNLOCK_LOGON
// (ntsecapi.h) with its strings behind it and, in the place of pointers to them, their
// distance from the start. The same bytes come in with a remote desktop's user and from
// programs that ask through CredUI; those may be anything.
#pragma once

#include "wide.h"

enum class Layout : uint8_t {
	Native, // of 64-bit programs
	Wow,    // of 32-bit ones, which CREDUIWIN_PACK_32_WOW asks for
};

// The types that are of a login with a password (KERB_LOGON_SUBMIT_TYPE).
enum : uint32_t {
	logonNoType = 0, // in CredUI, where it says nothing
	logonInteractive = 2,
	logonUnlock = 7,
};

enum : size_t {
	logonMax = 64 * 1024, // the longest that is looked at
};

struct LogonText {
	const Wide *text;
	size_t length;
};

struct LogonParts {
	uint32_t type;
	LogonText domain, user, password;
};

// logonSize is how many bytes packLogon writes; 0 when a part is too long for it.
size_t logonSize(Layout layout, const LogonParts &parts);

// packLogon writes parts to out. False when size is less than it takes.
bool packLogon(Layout layout, const LogonParts &parts, uint8_t *out, size_t size);

// LogonRange is where a text lies in a packed logon: length units from offset on, not
// aligned.
struct LogonRange {
	size_t offset, length;
};

struct LogonRanges {
	uint32_t type;
	LogonRange domain, user, password;
};

// unpackLogon finds the parts in size bytes of any origin. False unless it is a logon
// with a password whose parts all lie inside.
bool unpackLogon(Layout layout, const uint8_t *in, size_t size, LogonRanges *out);

// readLogon copies a part that unpackLogon found to out, which has room for max and a
// NUL. False when it is longer, or has a NUL inside: no name and no password does.
bool readLogon(const uint8_t *in, LogonRange range, Wide *out, size_t max);
