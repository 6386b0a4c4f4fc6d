// Where the login takes place, as Windows says it to the DLLs: at the console, or over
// RDP. There is no RDP under Wine, so what they import from Windows to ask is replaced
// in their tables by answers of the host's.
#pragma once

#include "host.h"

// setRemote says that the session is a remote one from this address (IPv4, "" for
// the console), to the DLLs that are loaded from now on.
void setRemote(const char *address);

// tell makes the module ask the host.
void tell(HMODULE module);
