// What Windows gives to a provider: the users, and what the provider calls back.
// Every object counts its references and tells when it is used out of turn.
#pragma once

#include "host.h"

// Object counts references for its owner, who deletes it: a provider that holds
// one too long, or lets go once too often, is found and harms nothing.
template <class Interface> class Object : public Interface {
public:
	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override
	{
		if (!out)
			return E_POINTER;
		*out = nullptr;
		if (!is(iid))
			return E_NOINTERFACE;
		AddRef();
		*out = static_cast<Interface *>(this);
		return S_OK;
	}
	IFACEMETHODIMP_(ULONG) AddRef() override { return InterlockedIncrement(&references); }
	IFACEMETHODIMP_(ULONG) Release() override
	{
		LONG left = InterlockedDecrement(&references);
		if (left < 1)
			breach("%s was released more often than it was taken", name);
		return left;
	}

	// finish is called when nobody may hold the object any more.
	void finish()
	{
		if (references != 1)
			breach("%s is still held: %ld references", name, references - 1);
	}

protected:
	explicit Object(const char *name) : name(name) {}
	virtual ~Object() = default;
	virtual bool is(REFIID iid) { return iid == __uuidof(IUnknown) || iid == __uuidof(Interface); }

	const char *name;

private:
	LONG references = 1;
};

// User is one of the people on the screen.
class User final : public Object<ICredentialProviderUser> {
public:
	User(const std::wstring &sid, const std::wstring &qualified, const std::wstring &display)
	    : Object("ICredentialProviderUser"), sid(sid), qualified(qualified), display(display) {}

	IFACEMETHODIMP GetSid(LPWSTR *out) override;
	IFACEMETHODIMP GetProviderID(GUID *out) override;
	IFACEMETHODIMP GetStringValue(REFPROPERTYKEY key, LPWSTR *out) override;
	IFACEMETHODIMP GetValue(REFPROPERTYKEY key, PROPVARIANT *out) override;

	const std::wstring sid, qualified, display;
};

// Users is everybody on the screen, and whether "Other user" is.
class Users final : public Object<ICredentialProviderUserArray> {
public:
	Users() : Object("ICredentialProviderUserArray") {}
	~Users();

	IFACEMETHODIMP SetProviderFilter(REFGUID provider) override;
	IFACEMETHODIMP GetAccountOptions(CREDENTIAL_PROVIDER_ACCOUNT_OPTIONS *out) override;
	IFACEMETHODIMP GetCount(DWORD *out) override;
	IFACEMETHODIMP GetAt(DWORD index, ICredentialProviderUser **out) override;

	void finishAll();
	bool has(const wchar_t *sid) const;

	std::vector<User *> list;
	CREDENTIAL_PROVIDER_ACCOUNT_OPTIONS options = CPAO_NONE;
};

// ProviderEvents hears that a provider's tiles have changed.
class ProviderEvents final : public Object<ICredentialProviderEvents> {
public:
	explicit ProviderEvents(UINT_PTR context) : Object("ICredentialProviderEvents"), context(context) {}

	IFACEMETHODIMP CredentialsChanged(UINT_PTR given) override;

	const UINT_PTR context;
	bool advised = true;
	volatile bool changed = false; // set on any thread

private:
	const DWORD thread = GetCurrentThreadId();
};

// Field is one of a tile's, as the screen has it.
struct Field {
	DWORD id;
	CREDENTIAL_PROVIDER_FIELD_TYPE type;
	std::wstring label;
	CREDENTIAL_PROVIDER_FIELD_STATE state;
	CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE interactive;
	std::wstring text;  // of a password only that there is one: its dots
	DWORD beside = 0;   // of the submit button
	bool checked = false;
	bool refused = false; // the provider did not take what was typed
};

// CredentialEvents is the screen of one tile.
class CredentialEvents final : public Object<ICredentialProviderCredentialEvents2> {
public:
	explicit CredentialEvents(ICredentialProviderCredential *credential) : Object("ICredentialProviderCredentialEvents"), credential(credential) {}

	IFACEMETHODIMP SetFieldState(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_FIELD_STATE state) override;
	IFACEMETHODIMP SetFieldInteractiveState(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE state) override;
	IFACEMETHODIMP SetFieldString(ICredentialProviderCredential *c, DWORD id, LPCWSTR text) override;
	IFACEMETHODIMP SetFieldCheckbox(ICredentialProviderCredential *c, DWORD id, BOOL checked, LPCWSTR label) override;
	IFACEMETHODIMP SetFieldBitmap(ICredentialProviderCredential *c, DWORD id, HBITMAP bitmap) override;
	IFACEMETHODIMP SetFieldComboBoxSelectedItem(ICredentialProviderCredential *c, DWORD id, DWORD item) override;
	IFACEMETHODIMP DeleteFieldComboBoxItem(ICredentialProviderCredential *c, DWORD id, DWORD item) override;
	IFACEMETHODIMP AppendFieldComboBoxItem(ICredentialProviderCredential *c, DWORD id, LPCWSTR item) override;
	IFACEMETHODIMP SetFieldSubmitButton(ICredentialProviderCredential *c, DWORD id, DWORD beside) override;
	IFACEMETHODIMP OnCreatingWindow(HWND *owner) override;
	IFACEMETHODIMP BeginFieldUpdates() override;
	IFACEMETHODIMP EndFieldUpdates() override;
	IFACEMETHODIMP SetFieldOptions(ICredentialProviderCredential *c, DWORD id, CREDENTIAL_PROVIDER_CREDENTIAL_FIELD_OPTIONS options) override;

	ICredentialProviderCredential *const credential;
	std::vector<Field> fields;
	bool advised = true;
	int updates = 0; // BeginFieldUpdates without its end
	// The one thread that may call: the screen's, and during Connect also the one it runs on.
	DWORD thread = GetCurrentThreadId(), connectThread = 0;

protected:
	bool is(REFIID iid) override { return Object::is(iid) || iid == __uuidof(ICredentialProviderCredentialEvents); }

private:
	// field checks a call, and returns the field it is about; nullptr when none.
	Field *field(const char *call, ICredentialProviderCredential *c, DWORD id);
	HRESULT unused(const char *call);
};

// beats is a clock in ms for what must not take long: a thread of ours keeps it going, so
// that it stands still with the others while a busy machine has no time for this process.
ULONGLONG beats();
bool startBeats();

// Wait is what Connect asks whether to go on, and tells what to show.
class Wait final : public Object<IQueryContinueWithStatus> {
public:
	Wait() : Object("IQueryContinueWithStatus") {}

	IFACEMETHODIMP QueryContinue() override;
	IFACEMETHODIMP SetStatusMessage(LPCWSTR text) override;

	std::wstring cancelOn;  // the person cancels when a message has this in it
	std::wstring cancelOnce; // or once there is this file
	ULONGLONG began = GetTickCount64(), lastAsked = beats(), longestSilence = 0;
	bool cancelled = false, over = false;
	std::vector<std::string> messages;

protected:
	bool is(REFIID iid) override { return Object::is(iid) || iid == __uuidof(IQueryContinue); }

private:
	void heard();
};

// same says whether two pointers are of one object, by COM's rule of identity.
bool same(IUnknown *a, IUnknown *b);

// taken turns what a provider allocated into a string and frees it, wiped; it is a
// breach when it is not from the task allocator.
std::wstring taken(const char *what, LPWSTR text, bool secret = false);

// allocated says whether p is from the task allocator, as every out parameter must be.
bool allocated(const char *what, void *p);
