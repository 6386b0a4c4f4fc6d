// How a login that goes on in the background tells LogonUI to look again.
#pragma once

#include "com.h"

#include <credentialprovider.h>

// Notifier has the provider's events between Advise and UnAdvise. The provider and its
// logins share it, so that a login needs no provider.
class Notifier final : public Heap {
public:
	void advise(ICredentialProviderEvents *events, UINT_PTR context);
	void unadvise();
	// changed has LogonUI ask for the tiles again, and log in with one that says so.
	// It may be called on any thread: the call only leaves a note ("CredentialsChanged
	// ... is an asynchronous method"), and it is how Microsoft's sample of a provider
	// with a device does it.
	void changed();

	void AddRef() { (void)count.add(); }
	void Release()
	{
		if (count.drop() == 0)
			delete this;
	}

private:
	~Notifier() = default;

	Count count;
	Lock lock;
	Ref<ICredentialProviderEvents> events;
	UINT_PTR context;
};
