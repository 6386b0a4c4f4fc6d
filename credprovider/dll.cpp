// The DLL: what COM calls, the class factory, and what C++ wants of a library that is
// not there. Who registers it is the installer and the agent (`sallyport doctor` shows
// it): the DLL writes nothing.
#include <initguid.h>

#include "com.h"

#include <credentialprovider.h>
#include <propkey.h>
#include <shlguid.h>

#include "filter.h"
#include "provider.h"

#include <string.h>

const CLSID clsidSallyport = {0x7c4b3e1a, 0x52d8, 0x4f6b, {0x9a, 0x0e, 0x3d, 0x1f, 0x5b, 0x8c, 0x2e, 0x47}};

static HMODULE module;
static LONG held;

void moduleAdd()
{
	(void)InterlockedIncrement(&held);
}

void moduleRemove()
{
	(void)InterlockedDecrement(&held);
}

HMODULE moduleHandle()
{
	return module;
}

HRESULT giveWide(const wchar_t *text, size_t length, LPWSTR *out)
{
	*out = static_cast<LPWSTR>(CoTaskMemAlloc((length + 1) * sizeof(wchar_t)));
	if (*out == nullptr)
		return E_OUTOFMEMORY;
	memcpy(*out, text, length * sizeof(wchar_t));
	(*out)[length] = 0;
	return S_OK;
}

HRESULT giveText(const char *text, LPWSTR *out)
{
	int size = MultiByteToWideChar(CP_UTF8, 0, text, -1, nullptr, 0);

	*out = nullptr;
	if (size <= 0)
		return HRESULT_FROM_WIN32(GetLastError());
	*out = static_cast<LPWSTR>(CoTaskMemAlloc(static_cast<size_t>(size) * sizeof(wchar_t)));
	if (*out == nullptr)
		return E_OUTOFMEMORY;
	(void)MultiByteToWideChar(CP_UTF8, 0, text, -1, *out, size);
	return S_OK;
}

namespace {

// Factory makes the provider, or the filter for whoever asks for that: both have one
// CLSID.
class Factory final : public IClassFactory, public Heap {
public:
	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override
	{
		if (out == nullptr)
			return E_POINTER;
		*out = nullptr;
		if (iid != IID_IUnknown && iid != IID_IClassFactory)
			return E_NOINTERFACE;
		*out = static_cast<IClassFactory *>(this);
		AddRef();
		return S_OK;
	}
	IFACEMETHODIMP_(ULONG) AddRef() override { return count.add(); }
	IFACEMETHODIMP_(ULONG) Release() override
	{
		ULONG left = count.drop();
		if (left == 0)
			delete this;
		return left;
	}

	IFACEMETHODIMP CreateInstance(IUnknown *outer, REFIID iid, void **out) override
	{
		if (out == nullptr)
			return E_POINTER;
		*out = nullptr;
		if (outer != nullptr)
			return CLASS_E_NOAGGREGATION;
		if (iid == IID_ICredentialProviderFilter)
			return make<ProviderFilter>(iid, out);
		return make<Provider>(iid, out);
	}
	IFACEMETHODIMP LockServer(BOOL lock) override
	{
		lock ? moduleAdd() : moduleRemove();
		return S_OK;
	}

private:
	~Factory() = default;

	template <class T> static HRESULT make(REFIID iid, void **out)
	{
		Ref<T> made = Ref<T>::adopt(new T);
		return made ? made->QueryInterface(iid, out) : E_OUTOFMEMORY;
	}

	Count count;
};

} // namespace

STDAPI DllGetClassObject(REFCLSID clsid, REFIID iid, void **out)
{
	if (out == nullptr)
		return E_POINTER;
	*out = nullptr;
	if (clsid != clsidSallyport)
		return CLASS_E_CLASSNOTAVAILABLE;
	Ref<Factory> factory = Ref<Factory>::adopt(new Factory);
	return factory ? factory->QueryInterface(iid, out) : E_OUTOFMEMORY;
}

STDAPI DllCanUnloadNow()
{
	return InterlockedCompareExchange(&held, 0, 0) == 0 ? S_OK : S_FALSE;
}

extern "C" BOOL WINAPI DllMain(HINSTANCE instance, DWORD reason, void *)
{
	if (reason == DLL_PROCESS_ATTACH) {
		module = instance;
		(void)DisableThreadLibraryCalls(instance);
	}
	return TRUE;
}

// A call that cannot be: end here rather than anywhere.
extern "C" [[noreturn]] void __cxa_pure_virtual()
{
	__builtin_trap();
}
