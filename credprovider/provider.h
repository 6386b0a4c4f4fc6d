// The credential provider: it makes the tiles.
#pragma once

#include "com.h"
#include "credential.h"
#include "notifier.h"
#include "settings.h"

#include <credentialprovider.h>

class Provider final : public ICredentialProvider, public ICredentialProviderSetUserArray, public Heap {
public:
	// IUnknown
	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override;
	IFACEMETHODIMP_(ULONG) AddRef() override { return count.add(); }
	IFACEMETHODIMP_(ULONG) Release() override;

	// ICredentialProvider
	IFACEMETHODIMP SetUsageScenario(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags) override;
	IFACEMETHODIMP SetSerialization(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *in) override;
	IFACEMETHODIMP Advise(ICredentialProviderEvents *events, UINT_PTR context) override;
	IFACEMETHODIMP UnAdvise() override;
	IFACEMETHODIMP GetFieldDescriptorCount(DWORD *n) override;
	IFACEMETHODIMP GetFieldDescriptorAt(DWORD index, CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR **out) override;
	IFACEMETHODIMP GetCredentialCount(DWORD *n, DWORD *preselected, BOOL *autoLogon) override;
	IFACEMETHODIMP GetCredentialAt(DWORD index, ICredentialProviderCredential **out) override;

	// ICredentialProviderSetUserArray
	IFACEMETHODIMP SetUserArray(ICredentialProviderUserArray *given) override;

private:
	// More users than this, on a screen, are no longer to be picked from.
	enum : DWORD { tilesMax = 256 };

	~Provider() = default;

	void makeTiles();
	void addTile(const Credential::Owner &owner);
	void addUsers();
	bool wantsOther() const;
	static Credential::Owner otherOwner();
	void placeInput();

	Count count;
	CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus = CPUS_INVALID;
	DWORD flags = 0;
	Ref<Settings> settings;
	Ref<Notifier> notifier;
	Ref<ICredentialProviderUserArray> users;
	Credential::Home home = {};
	bool joined = false; // to a domain, for all that is known

	Ref<Credential> tiles[tilesMax];
	DWORD tileCount = 0;
	bool made = false;

	// What came with the user of a remote desktop, or of CredUI's caller.
	Account inputAccount = {};
	Password inputPassword;
	bool packageRefused = false;
};
