#include "serialize.h"

#include <ntsecapi.h>
#include <string.h>
#include <wincred.h>

#include "logon.h"

// security.h would bring much more.
#define NEGOTIATE_NAME "Negotiate"

namespace {

// What CredProtect makes of a password is several times as long.
using Protected = Secret<2048>;

// The two are of Windows Vista, and not in every stand-in for it.
template <class Function> Function credentials(const char *name)
{
	HMODULE module = GetModuleHandleW(L"advapi32.dll");
	return module == nullptr ? nullptr : reinterpret_cast<Function>(reinterpret_cast<void *>(GetProcAddress(module, name)));
}

// Encrypts the password for this computer until its next start, as Windows' own
// provider does, so that it is nowhere in clear between LogonUI and LSA. LSA takes it
// either way.
bool protect(const Password &password, Protected *out)
{
	auto credProtect = credentials<decltype(&CredProtectW)>("CredProtectW");
	wchar_t room[2048 + 1];
	DWORD length = ARRAYSIZE(room);
	bool ok;

	if (credProtect == nullptr || password.empty())
		return false;
	ok = credProtect(FALSE, const_cast<wchar_t *>(password.text()), static_cast<DWORD>(password.length() + 1), room, &length, nullptr) &&
	     wcsnlen(room, ARRAYSIZE(room)) < ARRAYSIZE(room) && out->set(room, wcsnlen(room, ARRAYSIZE(room)));
	SecureZeroMemory(room, sizeof room);
	return ok;
}

// The opposite, for what came in; text without protection stays as it is.
bool unprotect(const Protected &in, Password *out)
{
	auto isProtected = credentials<decltype(&CredIsProtectedW)>("CredIsProtectedW");
	auto credUnprotect = credentials<decltype(&CredUnprotectW)>("CredUnprotectW");
	CRED_PROTECTION_TYPE type = CredUnprotected;
	wchar_t *text = const_cast<wchar_t *>(in.text());
	wchar_t room[2048 + 1];
	bool ok = false;

	if (isProtected == nullptr || credUnprotect == nullptr || !isProtected(text, &type) || type == CredUnprotected)
		return out->set(in.text(), in.length());
	constexpr BOOL both[] = {FALSE, TRUE};
	for (BOOL asSelf : both) {
		DWORD length = ARRAYSIZE(room);
		if (credUnprotect(asSelf, text, static_cast<DWORD>(in.length() + 1), room, &length)) {
			size_t n = wcsnlen(room, ARRAYSIZE(room));
			ok = n < ARRAYSIZE(room) && out->set(room, n);
			break;
		}
	}
	SecureZeroMemory(room, sizeof room);
	return ok;
}

Layout layoutFor(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags)
{
	return cpus == CPUS_CREDUI && (flags & CREDUIWIN_PACK_32_WOW) != 0 ? Layout::Wow : Layout::Native;
}

LogonText logonText(const wchar_t *text)
{
	return {text, wcslen(text)};
}

} // namespace

HRESULT negotiatePackage(ULONG *package)
{
	char text[] = NEGOTIATE_NAME;
	LSA_STRING name = {sizeof text - 1, sizeof text, text};
	HANDLE lsa;
	NTSTATUS status = LsaConnectUntrusted(&lsa);

	if (status < 0)
		return HRESULT_FROM_WIN32(LsaNtStatusToWinError(status));
	status = LsaLookupAuthenticationPackage(lsa, &name, package);
	(void)LsaDeregisterLogonProcess(lsa);
	return status < 0 ? HRESULT_FROM_WIN32(LsaNtStatusToWinError(status)) : S_OK;
}

HRESULT serialize(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const Account &account, const Password &password,
		  CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *out)
{
	Layout layout = layoutFor(cpus, flags);
	LogonParts parts = {};
	Protected hidden;
	ULONG package;
	HRESULT hr = negotiatePackage(&package);
	size_t size;
	BYTE *bytes;

	*out = {};
	if (FAILED(hr))
		return hr;
	// The type says nothing in CredUI. A program that asked there may not know what to
	// do with a protected password.
	parts.type = cpus == CPUS_CREDUI ? logonNoType : cpus == CPUS_UNLOCK_WORKSTATION ? logonUnlock : logonInteractive;
	parts.domain = logonText(account.domain);
	parts.user = logonText(account.user);
	if (cpus != CPUS_CREDUI && protect(password, &hidden))
		parts.password = {hidden.text(), hidden.length()};
	else
		parts.password = {password.text(), password.length()};

	size = logonSize(layout, parts);
	if (size == 0)
		return E_INVALIDARG;
	bytes = static_cast<BYTE *>(CoTaskMemAlloc(size));
	if (bytes == nullptr)
		return E_OUTOFMEMORY;
	(void)packLogon(layout, parts, bytes, size);
	out->ulAuthenticationPackage = package;
	out->clsidCredentialProvider = clsidSallyport;
	out->cbSerialization = static_cast<ULONG>(size);
	out->rgbSerialization = bytes;
	return S_OK;
}

bool deserialize(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION &in, Account *account,
		 Password *password)
{
	wchar_t room[2048 + 1];
	LogonRanges ranges;
	Protected hidden;

	*account = {};
	password->wipe();
	if (!unpackLogon(layoutFor(cpus, flags), in.rgbSerialization, in.cbSerialization, &ranges) || ranges.user.length == 0 ||
	    !readLogon(in.rgbSerialization, ranges.domain, account->domain, Account::domainMax) ||
	    !readLogon(in.rgbSerialization, ranges.user, account->user, Account::userMax)) {
		*account = {};
		return false;
	}
	if (readLogon(in.rgbSerialization, ranges.password, room, ARRAYSIZE(room) - 1) && hidden.set(room, ranges.password.length))
		(void)unprotect(hidden, password);
	SecureZeroMemory(room, sizeof room);
	return true;
}
