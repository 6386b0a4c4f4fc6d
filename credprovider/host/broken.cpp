// A credential provider with one fault, to show that the host sees it. The fault is
// named in the environment (FAULT); without one it is a plain provider: a password
// and a button, and what is typed is handed on as it is.
#include "host.h"

#include <initguid.h>

// {D1B0C6F2-6B0E-4C0B-8B1D-0C5A9B9D1F27}
DEFINE_GUID(CLSID_Broken, 0xd1b0c6f2, 0x6b0e, 0x4c0b, 0x8b, 0x1d, 0x0c, 0x5a, 0x9b, 0x9d, 0x1f, 0x27);

enum { fieldPassword, fieldButton, fieldCount };

static LONG objects;

static bool fault(const char *name)
{
	char text[64] = "";
	GetEnvironmentVariableA("FAULT", text, sizeof text);
	return strcmp(text, name) == 0;
}

static HRESULT give(const wchar_t *text, LPWSTR *out)
{
	size_t size = (wcslen(text) + 1) * sizeof *text;
	*out = static_cast<LPWSTR>(fault("string of another allocator") ? HeapAlloc(HeapCreate(0, 0, 0), 0, size) : CoTaskMemAlloc(size));
	memcpy(*out, text, size);
	return S_OK;
}

template <class Interface> class Counted : public Interface {
public:
	Counted() { InterlockedIncrement(&objects); }
	virtual ~Counted() { InterlockedDecrement(&objects); }

	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override
	{
		bool known = iid == __uuidof(IUnknown) || iid == __uuidof(Interface);
		*out = known ? this : nullptr;
		if (known)
			AddRef();
		return known || fault("every interface") ? S_OK : E_NOINTERFACE;
	}
	IFACEMETHODIMP_(ULONG) AddRef() override { return InterlockedIncrement(&references); }
	IFACEMETHODIMP_(ULONG) Release() override
	{
		LONG left = InterlockedDecrement(&references);
		if (!left)
			delete this;
		return left;
	}

private:
	LONG references = 1;
};

class Credential final : public Counted<ICredentialProviderCredential> {
public:
	~Credential()
	{
		SecureZeroMemory(password, sizeof password);
		if (fault("event after UnAdvise"))
			events->SetFieldString(this, fieldPassword, L"");
	}

	IFACEMETHODIMP Advise(ICredentialProviderCredentialEvents *e) override
	{
		events = e;
		events->AddRef();
		return S_OK;
	}
	IFACEMETHODIMP UnAdvise() override
	{
		if (!fault("events held"))
			events->Release();
		return S_OK;
	}
	IFACEMETHODIMP SetSelected(BOOL *automatic) override
	{
		*automatic = FALSE;
		if (fault("crash"))
			*reinterpret_cast<volatile int *>(16) = 0;
		if (fault("state without an event"))
			state = CPFS_HIDDEN;
		if (fault("event of a field that is not there"))
			events->SetFieldString(this, fieldCount, L"");
		if (fault("event from another thread")) {
			HANDLE thread = CreateThread(nullptr, 0, elsewhere, this, 0, nullptr);
			WaitForSingleObject(thread, INFINITE);
			CloseHandle(thread);
		}
		return S_OK;
	}
	IFACEMETHODIMP SetDeselected() override
	{
		if (!fault("password kept"))
			SecureZeroMemory(password, sizeof password);
		events->SetFieldString(this, fieldPassword, password);
		return S_OK;
	}
	IFACEMETHODIMP GetFieldState(DWORD, CREDENTIAL_PROVIDER_FIELD_STATE *out, CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE *interactive) override
	{
		*out = state;
		*interactive = CPFIS_NONE;
		return S_OK;
	}
	IFACEMETHODIMP GetStringValue(DWORD, LPWSTR *out) override { return give(password, out); }
	IFACEMETHODIMP GetBitmapValue(DWORD, HBITMAP *) override { return E_NOTIMPL; }
	IFACEMETHODIMP GetCheckboxValue(DWORD, BOOL *, LPWSTR *) override { return E_NOTIMPL; }
	IFACEMETHODIMP GetSubmitButtonValue(DWORD, DWORD *beside) override
	{
		*beside = fieldPassword;
		return S_OK;
	}
	IFACEMETHODIMP GetComboBoxValueCount(DWORD, DWORD *, DWORD *) override { return E_NOTIMPL; }
	IFACEMETHODIMP GetComboBoxValueAt(DWORD, DWORD, LPWSTR *) override { return E_NOTIMPL; }
	IFACEMETHODIMP SetStringValue(DWORD, LPCWSTR text) override
	{
		SecureZeroMemory(password, sizeof password);
		wcsncpy(password, text, ARRAYSIZE(password) - 1);
		LPWSTR copy;
		if (fault("password in a lost string"))
			give(text, &copy);
		return S_OK;
	}
	IFACEMETHODIMP SetCheckboxValue(DWORD, BOOL) override { return E_NOTIMPL; }
	IFACEMETHODIMP SetComboBoxSelectedValue(DWORD, DWORD) override { return E_NOTIMPL; }
	IFACEMETHODIMP CommandLinkClicked(DWORD) override { return E_NOTIMPL; }
	IFACEMETHODIMP GetSerialization(CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE *response, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *out, LPWSTR *,
					CREDENTIAL_PROVIDER_STATUS_ICON *) override
	{
		if (fault("finished without a credential")) {
			*response = CPGSR_RETURN_CREDENTIAL_FINISHED;
			return S_OK;
		}
		LPWSTR copy;
		give(password, &copy);
		*response = CPGSR_RETURN_CREDENTIAL_FINISHED;
		*out = {0, CLSID_Broken, DWORD(wcslen(password) * sizeof *password), reinterpret_cast<BYTE *>(copy)};
		return S_OK;
	}
	IFACEMETHODIMP ReportResult(NTSTATUS, NTSTATUS, LPWSTR *, CREDENTIAL_PROVIDER_STATUS_ICON *) override { return S_OK; }

private:
	ICredentialProviderCredentialEvents *events = nullptr;
	CREDENTIAL_PROVIDER_FIELD_STATE state = CPFS_DISPLAY_IN_SELECTED_TILE;
	wchar_t password[256] = L"";

	static DWORD WINAPI elsewhere(void *arg)
	{
		auto *c = static_cast<Credential *>(arg);
		c->events->SetFieldString(c, fieldPassword, L"");
		return 0;
	}
};

class Broken final : public Counted<ICredentialProvider> {
public:
	~Broken() { credential->Release(); }

	IFACEMETHODIMP SetUsageScenario(CREDENTIAL_PROVIDER_USAGE_SCENARIO, DWORD) override
	{
		if (fault("provider held by itself"))
			AddRef();
		return S_OK;
	}
	IFACEMETHODIMP SetSerialization(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *) override { return E_NOTIMPL; }
	IFACEMETHODIMP Advise(ICredentialProviderEvents *, UINT_PTR) override { return E_NOTIMPL; }
	IFACEMETHODIMP UnAdvise() override { return E_NOTIMPL; }
	IFACEMETHODIMP GetFieldDescriptorCount(DWORD *count) override
	{
		*count = fieldCount;
		return S_OK;
	}
	IFACEMETHODIMP GetFieldDescriptorAt(DWORD i, CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR **out) override
	{
		*out = nullptr;
		if (i >= fieldCount && !fault("fields without end"))
			return E_INVALIDARG;
		auto *d = static_cast<CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR *>(CoTaskMemAlloc(sizeof **out));
		*d = {};
		d->dwFieldID = i;
		d->cpft = i == fieldPassword ? CPFT_PASSWORD_TEXT : CPFT_SUBMIT_BUTTON;
		*out = d;
		return give(fault("field without a label") ? L"" : L"Password", &d->pszLabel);
	}
	IFACEMETHODIMP GetCredentialCount(DWORD *count, DWORD *preselected, BOOL *automatic) override
	{
		*count = 1;
		*preselected = fault("default that is not there") ? 1 : CREDENTIAL_PROVIDER_NO_DEFAULT;
		*automatic = FALSE;
		return S_OK;
	}
	IFACEMETHODIMP GetCredentialAt(DWORD i, ICredentialProviderCredential **out) override
	{
		*out = i ? nullptr : credential;
		if (*out)
			credential->AddRef();
		return *out ? S_OK : E_INVALIDARG;
	}

private:
	Credential *credential = new Credential;
};

class Factory final : public Counted<IClassFactory> {
public:
	IFACEMETHODIMP CreateInstance(IUnknown *, REFIID iid, void **out) override
	{
		auto *p = new Broken;
		HRESULT hr = p->QueryInterface(iid, out);
		p->Release();
		return hr;
	}
	IFACEMETHODIMP LockServer(BOOL) override { return S_OK; }
};

extern "C" __declspec(dllexport) HRESULT WINAPI DllGetClassObject(REFCLSID, REFIID iid, void **out)
{
	auto *f = new Factory;
	HRESULT hr = f->QueryInterface(iid, out);
	f->Release();
	return hr;
}

extern "C" __declspec(dllexport) HRESULT WINAPI DllCanUnloadNow() { return objects ? S_FALSE : S_OK; }
