#include "notifier.h"

void Notifier::advise(ICredentialProviderEvents *given, UINT_PTR of)
{
	Ref<ICredentialProviderEvents> old = Ref<ICredentialProviderEvents>::share(given);
	Hold hold(lock);
	events.swap(old);
	context = of;
}

void Notifier::unadvise()
{
	Ref<ICredentialProviderEvents> old;
	Hold hold(lock);
	events.swap(old);
}

void Notifier::changed()
{
	Ref<ICredentialProviderEvents> now;
	UINT_PTR of;
	{
		Hold hold(lock);
		now = events;
		of = context;
	}
	// Not under the lock: nobody has promised what is called back.
	if (now)
		(void)now->CredentialsChanged(of);
}
