#include "sinks.h"

#include <initguid.h>
#include <propkey.h>

#include <atomic>

static std::atomic<ULONGLONG> beaten;

static DWORD WINAPI beat(void *)
{
	enum { beatMs = 10 };

	for (;;) {
		Sleep(beatMs);
		beaten += beatMs;
	}
}

ULONGLONG beats() { return beaten; }

bool startBeats()
{
	HANDLE thread = CreateThread(nullptr, 0, beat, nullptr, 0, nullptr);
	return thread && CloseHandle(thread);
}

bool same(IUnknown *a, IUnknown *b)
{
	IUnknown *one = nullptr, *other = nullptr;
	bool equal = a && b && SUCCEEDED(a->QueryInterface(__uuidof(IUnknown), reinterpret_cast<void **>(&one))) &&
		     SUCCEEDED(b->QueryInterface(__uuidof(IUnknown), reinterpret_cast<void **>(&other))) && one == other;
	if (one)
		one->Release();
	if (other)
		other->Release();
	return equal;
}

bool allocated(const char *what, void *p)
{
	IMalloc *allocator;
	if (!p || FAILED(CoGetMalloc(1, &allocator)))
		return false;
	bool did = allocator->DidAlloc(p) != 0;
	allocator->Release();
	if (!did)
		breach("%s is not from CoTaskMemAlloc", what);
	return did;
}

std::wstring taken(const char *what, LPWSTR text, bool secret)
{
	if (!text)
		return L"";
	std::wstring copy = secret ? std::wstring(wcslen(text), L'*') : std::wstring(text);
	SecureZeroMemory(text, wcslen(text) * sizeof *text);
	if (allocated(what, text))
		CoTaskMemFree(text);
	return copy;
}

static HRESULT give(const std::wstring &text, LPWSTR *out)
{
	if (!out)
		return E_POINTER;
	size_t size = (text.size() + 1) * sizeof(wchar_t);
	*out = static_cast<LPWSTR>(CoTaskMemAlloc(size));
	if (!*out)
		return E_OUTOFMEMORY;
	memcpy(*out, text.c_str(), size);
	return S_OK;
}

HRESULT User::GetSid(LPWSTR *out) { return give(sid, out); }

HRESULT User::GetProviderID(GUID *out)
{
	if (!out)
		return E_POINTER;
	*out = Identity_LocalUserProvider;
	return S_OK;
}

HRESULT User::GetStringValue(REFPROPERTYKEY key, LPWSTR *out)
{
	if (!out)
		return E_POINTER;
	*out = nullptr;
	if (IsEqualPropertyKey(key, PKEY_Identity_QualifiedUserName))
		return give(qualified, out);
	if (IsEqualPropertyKey(key, PKEY_Identity_UserName))
		return give(qualified.substr(qualified.find(L'\\') + 1), out);
	if (IsEqualPropertyKey(key, PKEY_Identity_DisplayName))
		return give(display, out);
	if (IsEqualPropertyKey(key, PKEY_Identity_PrimarySid))
		return give(sid, out);
	return E_INVALIDARG; // Windows has more of them; a provider must live without
}

HRESULT User::GetValue(REFPROPERTYKEY, PROPVARIANT *) { return E_NOTIMPL; }

Users::~Users()
{
	for (User *u : list)
		delete u;
}

void Users::finishAll()
{
	for (User *u : list)
		u->finish();
	finish();
}

bool Users::has(const wchar_t *sid) const
{
	for (User *u : list)
		if (u->sid == sid)
			return true;
	return false;
}

HRESULT Users::SetProviderFilter(REFGUID) { return S_OK; }

HRESULT Users::GetAccountOptions(CREDENTIAL_PROVIDER_ACCOUNT_OPTIONS *out)
{
	if (!out)
		return E_POINTER;
	*out = options;
	return S_OK;
}

HRESULT Users::GetCount(DWORD *out)
{
	if (!out)
		return E_POINTER;
	*out = DWORD(list.size());
	return S_OK;
}

HRESULT Users::GetAt(DWORD index, ICredentialProviderUser **out)
{
	if (!out)
		return E_POINTER;
	*out = nullptr;
	if (index >= list.size())
		return E_INVALIDARG;
	*out = list[index];
	list[index]->AddRef();
	return S_OK;
}

HRESULT ProviderEvents::CredentialsChanged(UINT_PTR given)
{
	if (!advised)
		breach("CredentialsChanged after UnAdvise");
	if (given != context)
		breach("CredentialsChanged with a context that nobody gave");
	changed = true;
	PostThreadMessageW(thread, WM_NULL, 0, 0); // whoever waits for it looks again
	return S_OK;
}

Field *CredentialEvents::field(const char *call, ICredentialProviderCredential *c, DWORD id)
{
	if (!advised) { // c may be gone
		breach("%s after UnAdvise", call);
		return nullptr;
	}
	if (!same(c, credential))
		breach("%s for another credential", call);
	if (GetCurrentThreadId() != thread && GetCurrentThreadId() != connectThread)
		breach("%s from a thread that is not the screen's", call);
	for (Field &f : fields)
		if (f.id == id)
			return &f;
	breach("%s of field %lu, which there is not", call, id);
	return nullptr;
}

HRESULT CredentialEvents::SetFieldState(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_FIELD_STATE state)
{
	Field *f = field("SetFieldState", c, id);
	if (!f || state < CPFS_HIDDEN || state > CPFS_DISPLAY_IN_BOTH)
		return E_INVALIDARG;
	f->state = state;
	return S_OK;
}

HRESULT CredentialEvents::SetFieldInteractiveState(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE state)
{
	Field *f = field("SetFieldInteractiveState", c, id);
	if (!f || state < CPFIS_NONE || state > CPFIS_FOCUSED)
		return E_INVALIDARG;
	if (state == CPFIS_FOCUSED) // one field has it
		for (Field &other : fields)
			if (other.interactive == CPFIS_FOCUSED)
				other.interactive = CPFIS_NONE;
	f->interactive = state;
	return S_OK;
}

HRESULT CredentialEvents::SetFieldString(ICredentialProviderCredential *c, DWORD id, LPCWSTR text)
{
	Field *f = field("SetFieldString", c, id);
	if (!f || !text)
		return E_INVALIDARG;
	f->text = f->type == CPFT_PASSWORD_TEXT ? std::wstring(wcslen(text), L'*') : std::wstring(text);
	f->refused = false;
	return S_OK;
}

HRESULT CredentialEvents::SetFieldCheckbox(ICredentialProviderCredential *c, DWORD id, BOOL checked, LPCWSTR label)
{
	Field *f = field("SetFieldCheckbox", c, id);
	if (!f || f->type != CPFT_CHECKBOX || !label)
		return E_INVALIDARG;
	f->checked = checked;
	f->text = label;
	return S_OK;
}

HRESULT CredentialEvents::SetFieldBitmap(ICredentialProviderCredential *c, DWORD id, HBITMAP)
{
	Field *f = field("SetFieldBitmap", c, id);
	return f && f->type == CPFT_TILE_IMAGE ? S_OK : E_INVALIDARG;
}

HRESULT CredentialEvents::unused(const char *call)
{
	breach("%s: the host has no combo boxes", call);
	return E_NOTIMPL;
}

HRESULT CredentialEvents::SetFieldComboBoxSelectedItem(ICredentialProviderCredential *, DWORD, DWORD) { return unused("SetFieldComboBoxSelectedItem"); }
HRESULT CredentialEvents::DeleteFieldComboBoxItem(ICredentialProviderCredential *, DWORD, DWORD) { return unused("DeleteFieldComboBoxItem"); }
HRESULT CredentialEvents::AppendFieldComboBoxItem(ICredentialProviderCredential *, DWORD, LPCWSTR) { return unused("AppendFieldComboBoxItem"); }

HRESULT CredentialEvents::SetFieldSubmitButton(ICredentialProviderCredential *c, DWORD id, DWORD beside)
{
	Field *f = field("SetFieldSubmitButton", c, id);
	if (!f || f->type != CPFT_SUBMIT_BUTTON || !field("SetFieldSubmitButton", c, beside))
		return E_INVALIDARG;
	f->beside = beside;
	return S_OK;
}

HRESULT CredentialEvents::OnCreatingWindow(HWND *owner)
{
	if (!owner)
		return E_POINTER;
	*owner = nullptr;
	return S_OK;
}

HRESULT CredentialEvents::BeginFieldUpdates()
{
	updates++;
	return S_OK;
}

HRESULT CredentialEvents::EndFieldUpdates()
{
	if (--updates < 0)
		breach("EndFieldUpdates without BeginFieldUpdates");
	return S_OK;
}

HRESULT CredentialEvents::SetFieldOptions(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_CREDENTIAL_FIELD_OPTIONS)
{
	return field("SetFieldOptions", c, id) ? S_OK : E_INVALIDARG;
}

void Wait::heard()
{
	if (over)
		breach("IQueryContinueWithStatus was used after Connect");
	ULONGLONG now = beats();
	if (now - lastAsked > longestSilence)
		longestSilence = now - lastAsked;
	lastAsked = now;
	if (!cancelOnce.empty() && GetFileAttributesW(cancelOnce.c_str()) != INVALID_FILE_ATTRIBUTES)
		cancelled = true;
}

HRESULT Wait::QueryContinue()
{
	heard();
	return cancelled ? S_FALSE : S_OK;
}

HRESULT Wait::SetStatusMessage(LPCWSTR text)
{
	heard();
	if (!text)
		return E_INVALIDARG;
	messages.push_back(utf8(text));
	if (!cancelOn.empty() && wcsstr(text, cancelOn.c_str()))
		cancelled = true;
	// At once, so that a test can act while Connect waits.
	Json line;
	line.text("shown", messages.back());
	emit(line.done());
	return S_OK;
}
