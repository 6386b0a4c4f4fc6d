// Where Windows looks for credential providers.
#pragma once

#include "host.h"

// Registered is a provider or a filter as the registry has it.
struct Registered {
	CLSID clsid;
	std::wstring name; // the key's default value
	std::wstring dll;  // InprocServer32; empty: there is no such class
};

// registeredProviders and registeredFilters list what is there and not disabled
// ("Disabled" = 1 in its key).
std::vector<Registered> registeredProviders();
std::vector<Registered> registeredFilters();
