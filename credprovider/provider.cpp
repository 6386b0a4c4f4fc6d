#include "provider.h"

#include <ntsecapi.h>
#include <propkey.h>
#include <string.h>
#include <wincred.h>

#include "place.h"
#include "serialize.h"
#include "texts.h"

namespace {

// Text is what Windows gives for CoTaskMemFree.
class Text {
public:
	~Text() { CoTaskMemFree(p); }
	Text() = default;
	Text(const Text &) = delete;
	Text &operator=(const Text &) = delete;

	LPWSTR *out() { return &p; }
	const wchar_t *get() const { return p != nullptr ? p : L""; }

private:
	LPWSTR p = nullptr;
};

// Where a name without a domain belongs: to the domain that the computer is in
// (*joined), by its short name, else to the computer. When LSA does not say (it may be
// busy while the computer starts) home is empty, and such a name is refused: it might
// be somebody else's in the other place.
void homeOf(Credential::Home *home, bool *joined)
{
	LSA_OBJECT_ATTRIBUTES attributes = {};
	POLICY_DNS_DOMAIN_INFO *info = nullptr;
	LSA_HANDLE policy;

	home->domain[0] = 0;
	*joined = true;
	if (LsaOpenPolicy(nullptr, &attributes, POLICY_VIEW_LOCAL_INFORMATION, &policy) < 0)
		return;
	if (LsaQueryInformationPolicy(policy, PolicyDnsDomainInformation, reinterpret_cast<void **>(&info)) >= 0 && info != nullptr) {
		*joined = info->Sid != nullptr && info->Name.Length > 0;
		if (*joined)
			(void)wideCopy(home->domain, ARRAYSIZE(home->domain), info->Name.Buffer, info->Name.Length / sizeof(wchar_t));
		else
			wcscpy(home->domain, home->computer);
		(void)LsaFreeMemory(info);
	}
	(void)LsaClose(policy);
}

} // namespace

// --- IUnknown ---

HRESULT Provider::QueryInterface(REFIID iid, void **out)
{
	if (out == nullptr)
		return E_POINTER;
	*out = nullptr;
	if (iid == IID_IUnknown || iid == IID_ICredentialProvider)
		*out = static_cast<ICredentialProvider *>(this);
	else if (iid == IID_ICredentialProviderSetUserArray)
		*out = static_cast<ICredentialProviderSetUserArray *>(this);
	else
		return E_NOINTERFACE;
	AddRef();
	return S_OK;
}

ULONG Provider::Release()
{
	ULONG left = count.drop();
	if (left == 0)
		delete this;
	return left;
}

// --- what it is for ---

HRESULT Provider::SetUsageScenario(CREDENTIAL_PROVIDER_USAGE_SCENARIO given, DWORD givenFlags)
{
	DWORD size = ARRAYSIZE(home.computer);

	// Windows' own provider changes passwords: the filter leaves it there.
	if (given != CPUS_LOGON && given != CPUS_UNLOCK_WORKSTATION && given != CPUS_CREDUI)
		return E_NOTIMPL;
	settings = Settings::read();
	if (!settings)
		return E_OUTOFMEMORY;
	if (!settings->guards(given, givenFlags))
		return E_NOTIMPL;
	if (!notifier)
		notifier = Ref<Notifier>::adopt(new Notifier);
	if (!notifier)
		return E_OUTOFMEMORY;
	if (!GetComputerNameW(home.computer, &size))
		return HRESULT_FROM_WIN32(GetLastError());
	homeOf(&home, &joined);
	cpus = given;
	flags = givenFlags;
	made = false;
	return S_OK;
}

// CredUI has rules of its own about what to answer (documentation of
// ICredentialProvider::SetSerialization): with CREDUIWIN_IN_CRED_ONLY success means that
// there is a tile for it; with CREDUIWIN_AUTHPACKAGE_ONLY any success means that we can
// serialize for the package.
HRESULT Provider::SetSerialization(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *in)
{
	ULONG negotiate;
	HRESULT hr;

	if (in == nullptr || cpus == CPUS_INVALID)
		return E_INVALIDARG;
	if (cpus == CPUS_CREDUI) {
		hr = negotiatePackage(&negotiate);
		if (FAILED(hr))
			return hr;
		if (in->ulAuthenticationPackage != negotiate) {
			// What Windows itself asks shall never be a prompt without a tile: the
			// filter has hidden the others.
			packageRefused = (flags & CREDUIWIN_AUTHPACKAGE_ONLY) != 0 && !runsAsSystem();
			return E_INVALIDARG;
		}
	}
	if (!deserialize(cpus, flags, *in, &inputAccount, &inputPassword))
		return cpus == CPUS_CREDUI && (flags & CREDUIWIN_AUTHPACKAGE_ONLY) != 0 ? S_FALSE : E_INVALIDARG;
	made = false;
	return S_OK;
}

HRESULT Provider::SetUserArray(ICredentialProviderUserArray *given)
{
	users = Ref<ICredentialProviderUserArray>::share(given);
	// The users of a living screen may change; a login under way keeps its tile.
	for (DWORD i = 0; i < tileCount; i++)
		if (tiles[i]->inLogin())
			return S_OK;
	made = false;
	return S_OK;
}

HRESULT Provider::Advise(ICredentialProviderEvents *events, UINT_PTR context)
{
	if (events == nullptr || !notifier)
		return E_INVALIDARG;
	notifier->advise(events, context);
	return S_OK;
}

HRESULT Provider::UnAdvise()
{
	if (notifier)
		notifier->unadvise();
	return S_OK;
}

// --- the fields ---

HRESULT Provider::GetFieldDescriptorCount(DWORD *n)
{
	if (n == nullptr)
		return E_INVALIDARG;
	*n = fieldCount;
	return S_OK;
}

HRESULT Provider::GetFieldDescriptorAt(DWORD index, CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR **out)
{
	CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR *d;

	if (out == nullptr)
		return E_INVALIDARG;
	*out = nullptr;
	if (index >= fieldCount)
		return E_INVALIDARG;
	d = static_cast<CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR *>(CoTaskMemAlloc(sizeof *d));
	if (d == nullptr)
		return E_OUTOFMEMORY;
	d->dwFieldID = index;
	d->cpft = fields[index].type;
	d->guidFieldType = fields[index].meaning != nullptr ? *fields[index].meaning : GUID_NULL;
	if (HRESULT hr = giveText(fields[index].label, &d->pszLabel); FAILED(hr)) {
		CoTaskMemFree(d);
		return hr;
	}
	*out = d;
	return S_OK;
}

// --- the tiles ---

void Provider::addTile(const Credential::Owner &owner)
{
	if (tileCount == tilesMax)
		return;
	Ref<Credential> tile = Credential::make(cpus, flags, owner, home, settings, notifier);
	if (tile)
		tiles[tileCount++].swap(tile);
}

// A tile for each user on the screen; LogonUI puts it under the user with its SID.
void Provider::addUsers()
{
	DWORD n = 0;

	if (!users || FAILED(users->GetCount(&n)))
		return;
	for (DWORD i = 0; i < n; i++) {
		Ref<ICredentialProviderUser> user;
		Credential::Owner owner = {};
		Text sid, name, display;

		if (FAILED(users->GetAt(i, user.out())) || FAILED(user->GetSid(sid.out())) ||
		    FAILED(user->GetStringValue(PKEY_Identity_QualifiedUserName, name.out())) || sid.get()[0] == 0 ||
		    !wideCopy(owner.sid, ARRAYSIZE(owner.sid), sid.get(), wcslen(sid.get())) ||
		    parseAccount(name.get(), wcslen(name.get()), home.domain, home.computer, &owner.account) != Named::Good)
			continue;
		if (FAILED(user->GetStringValue(PKEY_Identity_DisplayName, display.out())) || display.get()[0] == 0 ||
		    !wideCopy(owner.shown, ARRAYSIZE(owner.shown), display.get(), wcslen(display.get())))
			(void)wideCopy(owner.shown, ARRAYSIZE(owner.shown), name.get(), wcslen(name.get()));
		addTile(owner);
	}
}

// "Other user", where one may type a name: as Windows' own provider has it, in a domain
// always, else if Windows wants it; and if there is nobody else.
bool Provider::wantsOther() const
{
	CREDENTIAL_PROVIDER_ACCOUNT_OPTIONS options = CPAO_NONE;

	if (tileCount == 0)
		return true;
	// The session is its user's.
	if (cpus == CPUS_UNLOCK_WORKSTATION || (cpus == CPUS_CREDUI && (flags & CREDUIWIN_ENUMERATE_CURRENT_USER) != 0))
		return false;
	return joined || (users && SUCCEEDED(users->GetAccountOptions(&options)) && options != CPAO_NONE);
}

// Puts what came in into the tile of its user, or into "Other user".
void Provider::placeInput()
{
	bool only = cpus == CPUS_CREDUI && (flags & CREDUIWIN_IN_CRED_ONLY) != 0;
	DWORD at = 0;

	while (at < tileCount && (tiles[at]->isOther() || !sameText(tiles[at]->whose().account.user, inputAccount.user) ||
				  !sameText(tiles[at]->whose().account.domain, inputAccount.domain)))
		at++;
	if (at == tileCount)
		for (at = 0; at < tileCount && !tiles[at]->isOther(); at++)
			;
	if (at == tileCount)
		addTile(otherOwner());
	if (at == tileCount)
		return;
	// CredUI's caller has given it to be looked at first.
	tiles[at]->fill(inputAccount, inputPassword, cpus != CPUS_CREDUI);
	tiles[at].swap(tiles[0]);
	if (only)
		while (tileCount > 1)
			tiles[--tileCount].reset();
}

Credential::Owner Provider::otherOwner()
{
	Credential::Owner other = {};

	(void)MultiByteToWideChar(CP_UTF8, 0, texts::otherUser, -1, other.shown, ARRAYSIZE(other.shown));
	return other;
}

void Provider::makeTiles()
{
	while (tileCount > 0)
		tiles[--tileCount].reset();
	made = true;
	if (packageRefused)
		return;
	addUsers();
	if (wantsOther())
		addTile(otherOwner());
	if (!inputAccount.empty())
		placeInput();
	else if (cpus == CPUS_CREDUI && (flags & CREDUIWIN_IN_CRED_ONLY) != 0)
		while (tileCount > 0)
			tiles[--tileCount].reset();
}

HRESULT Provider::GetCredentialCount(DWORD *n, DWORD *preselected, BOOL *autoLogon)
{
	if (n == nullptr || preselected == nullptr || autoLogon == nullptr)
		return E_INVALIDARG;
	*preselected = CREDENTIAL_PROVIDER_NO_DEFAULT;
	*autoLogon = FALSE;
	if (!made)
		makeTiles();
	*n = tileCount;
	if (!inputAccount.empty() && tileCount > 0)
		*preselected = 0;
	for (DWORD i = 0; i < tileCount; i++) {
		if (tiles[i]->inLogin())
			*preselected = i;
		if (tiles[i]->submits()) {
			*preselected = i;
			*autoLogon = TRUE;
		}
	}
	return S_OK;
}

HRESULT Provider::GetCredentialAt(DWORD index, ICredentialProviderCredential **out)
{
	if (out == nullptr)
		return E_INVALIDARG;
	*out = nullptr;
	if (index >= tileCount)
		return E_INVALIDARG;
	tiles[index]->refresh();
	return tiles[index]->QueryInterface(IID_ICredentialProviderCredential, reinterpret_cast<void **>(out));
}
