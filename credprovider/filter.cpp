#include "filter.h"

#include <string.h>

#include "eventlog.h"
#include "logon.h"
#include "provider.h"
#include "settings.h"
#include "texts.h"

namespace {

// Whether Windows offers our tiles here, and they can be made.
bool oursIsReady(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const GUID *providers, const BOOL *allow, DWORD n)
{
	for (DWORD i = 0; i < n; i++) {
		if (!IsEqualGUID(providers[i], clsidSallyport))
			continue;
		Ref<Provider> ours = Ref<Provider>::adopt(new Provider);
		return allow[i] && ours && ours->SetUsageScenario(cpus, flags) == S_OK;
	}
	return false;
}

} // namespace

HRESULT ProviderFilter::QueryInterface(REFIID iid, void **out)
{
	if (out == nullptr)
		return E_POINTER;
	*out = nullptr;
	if (iid != IID_IUnknown && iid != IID_ICredentialProviderFilter)
		return E_NOINTERFACE;
	*out = static_cast<ICredentialProviderFilter *>(this);
	AddRef();
	return S_OK;
}

ULONG ProviderFilter::Release()
{
	ULONG left = count.drop();
	if (left == 0)
		delete this;
	return left;
}

HRESULT ProviderFilter::Filter(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, GUID *providers, BOOL *allow, DWORD n)
{
	Ref<Settings> settings = Settings::read();

	if (providers == nullptr || allow == nullptr)
		return E_INVALIDARG;
	if (!settings)
		return E_OUTOFMEMORY;
	if (!settings->enabled && cpus == CPUS_LOGON)
		logEvent(LogId::SwitchedOff, EVENTLOG_WARNING_TYPE, texts::logSwitchedOff);
	if (!settings->guards(cpus, flags))
		return S_OK;
	if (!oursIsReady(cpus, flags, providers, allow, n)) {
		logEvent(LogId::NotListed, EVENTLOG_ERROR_TYPE, texts::logNotListed);
		return S_OK;
	}
	// Never TRUE where it was FALSE: other filters have a say too.
	for (DWORD i = 0; i < n; i++)
		if (!IsEqualGUID(providers[i], clsidSallyport) && !settings->allows(providers[i]))
			allow[i] = FALSE;
	return S_OK;
}

// With network level authentication the client has sent a name and a password, and they
// were checked. They are for the provider that the client named, which is hidden; ours
// takes them, so that nobody types them again.
HRESULT ProviderFilter::UpdateRemoteCredential(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *in,
					       CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *out)
{
	Ref<Settings> settings = Settings::read();
	LogonRanges ranges;
	BYTE *copy;

	if (in == nullptr || out == nullptr)
		return E_INVALIDARG;
	*out = {};
	if (!settings)
		return E_OUTOFMEMORY;
	// A smart card's, or what is not guarded, goes where it was sent.
	if (!settings->guards(CPUS_LOGON, 0) || settings->allows(in->clsidCredentialProvider) ||
	    !unpackLogon(Layout::Native, in->rgbSerialization, in->cbSerialization, &ranges))
		return E_NOTIMPL;
	copy = static_cast<BYTE *>(CoTaskMemAlloc(in->cbSerialization));
	if (copy == nullptr)
		return E_OUTOFMEMORY;
	memcpy(copy, in->rgbSerialization, in->cbSerialization);
	out->ulAuthenticationPackage = in->ulAuthenticationPackage;
	out->clsidCredentialProvider = clsidSallyport;
	out->cbSerialization = in->cbSerialization;
	out->rgbSerialization = copy;
	return S_OK;
}
