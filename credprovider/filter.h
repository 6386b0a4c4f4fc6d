// The filter: it hides the other providers' tiles, which would let people in with a
// password alone, and passes a remote desktop user's credential on to ours.
//
// What it does when something is not as it should be:
//
//	the emergency switch, a scenario that is not guarded   hides nothing
//	ours is not offered here, is hidden by another         hides nothing: with every tile
//	filter, or cannot be made                              hidden nobody could ever log in
//	a value in the registry is malformed                   its default: hides the others
//	the agent does not work                                hides the others: our tile says
//	                                                       so, and knows break-glass
//
// Whoever can bring about one of the first two writes to HKLM or installs filters, and
// could remove us as well. Both are events.
#pragma once

#include "com.h"

#include <credentialprovider.h>

class ProviderFilter final : public ICredentialProviderFilter, public Heap {
public:
	// IUnknown
	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override;
	IFACEMETHODIMP_(ULONG) AddRef() override { return count.add(); }
	IFACEMETHODIMP_(ULONG) Release() override;

	// ICredentialProviderFilter
	IFACEMETHODIMP Filter(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, GUID *providers, BOOL *allow, DWORD n) override;
	IFACEMETHODIMP UpdateRemoteCredential(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *in, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *out) override;

private:
	~ProviderFilter() = default;

	Count count;
};
