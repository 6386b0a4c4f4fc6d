// What IT has set for the provider, from HKLM: the policies' key first, then what was
// installed, value by value. Only administrators write there, and it works while the
// agent is dead.
//
//	SOFTWARE\Policies\Sallyport\CredentialProvider
//	SOFTWARE\Sallyport\CredentialProvider
//
// What is there but not as it should be counts as the default, and every default is
// the closed one: guarded, nobody else's tile, no break-glass account.
#pragma once

#include "com.h"

#include <credentialprovider.h>

class Settings final : public Heap {
public:
	enum : size_t { listMax = 32, sidMax = 184, messageMax = 200, pipeMax = 255 };

	// read gives nullptr when memory is short.
	static Ref<Settings> read();

	bool enabled = true; // false: the emergency switch
	// Whether this scenario is ours. What is not is left to Windows' own providers.
	bool guards(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags) const;
	// Whether the tiles of another provider stay.
	bool allows(const CLSID &provider) const;
	// Whether the account with this SID ("S-1-5-...") may do without the agent at the
	// console.
	bool isBreakGlass(const wchar_t *sid) const;
	bool hasBreakGlass() const { return breakGlassCount > 0; }

	const char *pipe() const { return pipeName; }
	// Follows the texts that say that the agent does not work; UTF-8, may be empty.
	const char *message() const { return messageText; }

	void AddRef() { (void)count.add(); }
	void Release()
	{
		if (count.drop() == 0)
			delete this;
	}

private:
	Settings() = default;
	~Settings() = default;

	bool logon = true, unlock = true, credui = true;
	CLSID allow[listMax] = {};
	size_t allowCount = 0;
	wchar_t breakGlass[listMax][sidMax + 1] = {};
	size_t breakGlassCount = 0;
	char messageText[4 * messageMax + 1] = {};
	char pipeName[4 * pipeMax + 1] = {};
	Count count;

	struct Source;
	void addAllowed(const wchar_t *text);
	void addBreakGlass(const wchar_t *text);
};
