// One visit at the login screen: what LogonUI and CredUI do with the providers
// that are registered, in the order that Microsoft's documentation gives.
#pragma once

#include "registry.h"
#include "sinks.h"

// Tile is one credential on the screen.
struct Tile {
	ICredentialProviderCredential *credential = nullptr;
	IConnectableCredentialProviderCredential *connectable = nullptr; // nullptr: it has no Connect
	CredentialEvents *events = nullptr;
	std::wstring sid; // whose tile; empty: "Other user"
	size_t provider = 0;

	Field *field(DWORD id);
	void describe(Json &answer);
};

// Provider is one that is registered. Only those that COM can make come to tiles;
// the others stand for Microsoft's own.
struct Provider : Registered {
	bool allowed = true;
	HRESULT created = E_PENDING, usage = E_PENDING;
	ICredentialProvider *provider = nullptr;
	ProviderEvents *events = nullptr;
	std::vector<Field> fields; // as described, without a tile's state
	DWORD count = 0, preselected = CREDENTIAL_PROVIDER_NO_DEFAULT;
	BOOL automatic = FALSE;
};

class Session {
public:
	// scenario finds the providers, has the filters look at them, and tells the rest
	// what is about to happen.
	void scenario(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, Json &answer);
	// remote is what an RDP client sent along, for the filters and then the provider.
	void remote(const CLSID &from, const BYTE *blob, DWORD size, Json &answer);
	// input is what CredUI's caller gave along (pvInAuthBuffer), for Negotiate or
	// another package.
	void input(const BYTE *blob, DWORD size, ULONG package, Json &answer);
	// user adds somebody to the screen.
	void user(const std::wstring &sid, const std::wstring &qualified, const std::wstring &display);
	void otherUser(CREDENTIAL_PROVIDER_ACCOUNT_OPTIONS options) { users->options = options; }
	// show makes the tiles.
	void show(Json &answer);
	// await waits until a provider says that its tiles have changed.
	void await(DWORD ms, Json &answer);
	// refresh makes them again, as after that. Nobody documents how LogonUI takes
	// leave of the old tiles: before it asks for the new ones or after, and whether
	// it deselects.
	void refresh(bool newFirst, bool deselects, Json &answer);

	void select(size_t tile, Json &answer);
	void deselect(Json &answer);
	// type does it key by key; anyway: also where no person could.
	void type(DWORD field, wchar_t *text, bool anyway, Json &answer);
	// submit calls Connect, unless there is nothing to wait with, and GetSerialization.
	void submit(Wait *wait, bool worker, Json &answer);
	void result(NTSTATUS status, NTSTATUS substatus, Json &answer);
	void disconnect(Json &answer);
	void tiles(Json &answer);

	// close lets go of everything, tiles first or providers first, and says what is
	// left.
	void close(bool providersFirst, Json &answer);

private:
	CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus = CPUS_INVALID;
	std::vector<Provider> providers;
	std::vector<ICredentialProviderFilter *> filters;
	std::vector<std::wstring> dlls; // that must be gone at the end
	std::vector<Tile> list;
	std::vector<CredentialEvents *> gone; // of tiles that are: kept to hear who still calls
	Tile *selected = nullptr;
	Users *users = new Users;

	void filter(DWORD flags);
	void describe(Provider &p);
	void enumerate(size_t index);
	void greet(Tile &t);
	void take(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION &in, Json &answer);
	void drop(std::vector<Tile> &tiles, bool deselects);
	void letGo(Provider &p, Json &answer);
	Tile *tileOf(Json &answer);
};
