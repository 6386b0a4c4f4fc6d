// A name and a password on their way into and out of the structures of LogonUI.
#pragma once

#include "account.h"
#include "com.h"
#include "secret.h"

#include <credentialprovider.h>

// negotiatePackage gives the number that LSA has for "Negotiate".
HRESULT negotiatePackage(ULONG *package);

// serialize makes what LSA is to log in with.
HRESULT serialize(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const Account &account, const Password &password,
		  CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *out);

// deserialize reads what came from elsewhere, which may be anything. Without a password
// that can be read it still has a name.
bool deserialize(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION &in, Account *account,
		 Password *password);
