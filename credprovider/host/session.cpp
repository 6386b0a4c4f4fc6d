#include "session.h"
#include "place.h"

#include <ntsecapi.h>

// final releases a pointer that the host took, and returns how many are left.
template <class T> static ULONG final(T *&p)
{
	ULONG left = p ? p->Release() : 0;
	p = nullptr;
	return left;
}

template <class T> static T *as(IUnknown *p)
{
	T *out = nullptr;
	HRESULT hr = p->QueryInterface(__uuidof(T), reinterpret_cast<void **>(&out));
	if (FAILED(hr) && out)
		breach("QueryInterface failed with %s and gave a pointer", resultText(hr).c_str());
	if (SUCCEEDED(hr) && !same(p, out))
		breach("QueryInterface gave another object");
	return SUCCEEDED(hr) ? out : nullptr;
}

// checkUnknown is what every object must say to an interface it cannot have heard of.
static void checkUnknown(const char *what, IUnknown *p)
{
	static const GUID nobodys = {0x5d1c7f0e, 0x3f57, 0x4c1b, {0x9c, 0x4d, 0x0a, 0x66, 0x42, 0x1e, 0x77, 0x10}};
	void *out = &out;
	if (HRESULT hr = p->QueryInterface(nobodys, &out); hr != E_NOINTERFACE || out)
		breach("%s: QueryInterface for an unknown interface gave %s", what, resultText(hr).c_str());
}

static const char *fieldType(CREDENTIAL_PROVIDER_FIELD_TYPE type)
{
	static const char *const names[] = {"invalid", "large", "small", "link", "edit", "password", "image", "checkbox", "combobox", "submit"};
	return size_t(type) < ARRAYSIZE(names) ? names[type] : "invalid";
}

static const char *interactiveState(CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE state)
{
	static const char *const names[] = {"", "readonly", "disabled", "focused"};
	return size_t(state) < ARRAYSIZE(names) ? names[state] : "invalid";
}

static const char *icon(CREDENTIAL_PROVIDER_STATUS_ICON icon)
{
	static const char *const names[] = {"", "error", "warning", "success"};
	return size_t(icon) < ARRAYSIZE(names) ? names[icon] : "invalid";
}

static bool hasText(CREDENTIAL_PROVIDER_FIELD_TYPE type)
{
	return type == CPFT_LARGE_TEXT || type == CPFT_SMALL_TEXT || type == CPFT_COMMAND_LINK || type == CPFT_EDIT_TEXT || type == CPFT_PASSWORD_TEXT;
}

static bool shown(const Field &f, bool selected)
{
	return f.state == CPFS_DISPLAY_IN_BOTH || f.state == (selected ? CPFS_DISPLAY_IN_SELECTED_TILE : CPFS_DISPLAY_IN_DESELECTED_TILE);
}

Field *Tile::field(DWORD id)
{
	for (Field &f : events->fields)
		if (f.id == id)
			return &f;
	return nullptr;
}

// ask reads a field's state and text from the credential itself.
static Field ask(ICredentialProviderCredential *c, Field f)
{
	if (FAILED(c->GetFieldState(f.id, &f.state, &f.interactive)))
		breach("GetFieldState(%lu) fails", f.id);
	if (hasText(f.type)) {
		LPWSTR text = nullptr;
		if (HRESULT hr = c->GetStringValue(f.id, &text); FAILED(hr))
			breach("GetStringValue(%lu) gives %s", f.id, resultText(hr).c_str());
		f.text = taken("GetStringValue's string", text, f.type == CPFT_PASSWORD_TEXT);
	} else if (f.type == CPFT_SUBMIT_BUTTON) {
		if (FAILED(c->GetSubmitButtonValue(f.id, &f.beside)))
			breach("GetSubmitButtonValue(%lu) fails", f.id);
	} else if (f.type == CPFT_CHECKBOX) {
		BOOL checked = FALSE;
		LPWSTR label = nullptr;
		if (FAILED(c->GetCheckboxValue(f.id, &checked, &label)))
			breach("GetCheckboxValue(%lu) fails", f.id);
		f.checked = checked;
		f.text = taken("GetCheckboxValue's label", label);
	} else if (f.type == CPFT_TILE_IMAGE) {
		HBITMAP bitmap = nullptr; // E_NOTIMPL leaves Windows its own picture
		if (SUCCEEDED(c->GetBitmapValue(f.id, &bitmap)) && !DeleteObject(bitmap))
			breach("GetBitmapValue(%lu) gave no bitmap", f.id);
	}
	return f;
}

void Tile::describe(Json &answer)
{
	answer.text("sid", utf8(sid.c_str()));
	answer.array("fields");
	if (events->updates)
		breach("BeginFieldUpdates without EndFieldUpdates");
	for (const Field &f : events->fields) {
		// What was said in events is what the credential says when asked.
		Field now = ask(credential, f);
		if (now.state != f.state || (now.text != f.text && !f.refused) || now.beside != f.beside || now.checked != f.checked)
			breach("field %lu (%s) is not as its events had it: state %d, text \"%s\"; asked, it says %d, \"%s\"", f.id, utf8(f.label.c_str()).c_str(), f.state,
			       utf8(f.text.c_str()).c_str(), now.state, utf8(now.text.c_str()).c_str());
		answer.open();
		answer.number("id", f.id);
		answer.text("type", fieldType(f.type));
		answer.text("label", utf8(f.label.c_str()));
		answer.boolean("shown", shown(f, true));
		answer.boolean("shownUnselected", shown(f, false));
		answer.text("interactive", interactiveState(f.interactive));
		answer.text("text", utf8(f.text.c_str()));
		if (f.type == CPFT_SUBMIT_BUTTON)
			answer.number("beside", f.beside);
		answer.close();
	}
	answer.end();
}

void Session::scenario(CREDENTIAL_PROVIDER_USAGE_SCENARIO scenario, DWORD flags, Json &answer)
{
	cpus = scenario;
	for (const Registered &r : registeredProviders()) {
		Provider p;
		static_cast<Registered &>(p) = r;
		providers.push_back(p);
	}
	filter(flags);
	answer.array("providers");
	for (Provider &p : providers) {
		if (p.allowed && !p.dll.empty()) {
			dlls.push_back(p.dll);
			p.created = CoCreateInstance(p.clsid, nullptr, CLSCTX_INPROC_SERVER, __uuidof(ICredentialProvider), reinterpret_cast<void **>(&p.provider));
			if (SUCCEEDED(p.created)) {
				tell(GetModuleHandleW(p.dll.c_str()));
				checkUnknown("the provider", p.provider);
				p.usage = p.provider->SetUsageScenario(cpus, flags);
			}
			if (FAILED(p.usage) && p.provider && final(p.provider))
				breach("the provider that does not serve this scenario is held by itself");
		}
		answer.open();
		answer.text("clsid", guidText(p.clsid));
		answer.text("name", utf8(p.name.c_str()));
		answer.boolean("allowed", p.allowed);
		answer.boolean("ready", p.provider != nullptr);
		answer.text("created", p.created == E_PENDING ? "" : resultText(p.created));
		answer.text("usage", p.usage == E_PENDING ? "" : resultText(p.usage));
		answer.close();
	}
	answer.end();
}

// filter has every registered filter look at the list, before any provider is made.
void Session::filter(DWORD flags)
{
	std::vector<CLSID> ids;
	for (const Provider &p : providers)
		ids.push_back(p.clsid);
	for (const Registered &r : registeredFilters()) {
		if (r.dll.empty())
			continue;
		dlls.push_back(r.dll);
		ICredentialProviderFilter *f = nullptr;
		HRESULT hr = CoCreateInstance(r.clsid, nullptr, CLSCTX_INPROC_SERVER, __uuidof(ICredentialProviderFilter), reinterpret_cast<void **>(&f));
		if (FAILED(hr)) {
			breach("the filter %s cannot be made: %s", guidText(r.clsid).c_str(), resultText(hr).c_str());
			continue;
		}
		tell(GetModuleHandleW(r.dll.c_str()));
		checkUnknown("the filter", f);
		filters.push_back(f);
		// With one more of each than there are: what stands behind must stay as it is.
		std::vector<BOOL> allow(ids.size() + 1, TRUE);
		std::vector<CLSID> given = ids;
		given.push_back(GUID_NULL);
		if (FAILED(f->Filter(cpus, flags, given.data(), allow.data(), DWORD(ids.size()))))
			continue; // then it has no say
		for (size_t i = 0; i < ids.size(); i++) {
			if (given[i] != ids[i])
				breach("Filter changed the list of providers");
			providers[i].allowed = providers[i].allowed && allow[i];
		}
		if (allow.back() != TRUE)
			breach("Filter wrote behind its list");
	}
}

// release wipes and frees what a provider packed, as LogonUI does once LSA has it.
static void release(const char *what, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION &out)
{
	if (out.rgbSerialization)
		SecureZeroMemory(out.rgbSerialization, out.cbSerialization);
	if (allocated(what, out.rgbSerialization))
		CoTaskMemFree(out.rgbSerialization);
}

// negotiate is the number that LSA has for the package that takes passwords.
static ULONG negotiate()
{
	char text[] = "Negotiate";
	LSA_STRING name = {sizeof text - 1, sizeof text, text};
	HANDLE lsa;
	ULONG package = 0;
	if (LsaConnectUntrusted(&lsa) < 0)
		return 0;
	LsaLookupAuthenticationPackage(lsa, &name, &package);
	LsaDeregisterLogonProcess(lsa);
	return package;
}

// Fenced is a copy of a blob that comes from elsewhere, with a page behind it that is
// not there: who reads on crashes.
class Fenced {
public:
	Fenced(const BYTE *blob, DWORD size) : size(size)
	{
		const size_t page = 4096, pages = (size + page - 1) / page;
		room = static_cast<BYTE *>(VirtualAlloc(nullptr, (pages + 1) * page, MEM_RESERVE, PAGE_NOACCESS));
		VirtualAlloc(room, pages * page, MEM_COMMIT, PAGE_READWRITE);
		start = room + pages * page - size;
		memcpy(start, blob, size);
	}
	~Fenced()
	{
		SecureZeroMemory(start, size);
		VirtualFree(room, 0, MEM_RELEASE);
	}
	Fenced(const Fenced &) = delete;
	Fenced &operator=(const Fenced &) = delete;

	BYTE *start;
	const DWORD size;

private:
	BYTE *room;
};

void Session::remote(const CLSID &from, const BYTE *blob, DWORD size, Json &answer)
{
	Fenced fenced(blob, size);
	CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION in = {negotiate(), from, size, fenced.start};
	for (ICredentialProviderFilter *f : filters) {
		CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION out = {};
		HRESULT hr = f->UpdateRemoteCredential(&in, &out);
		answer.text("updated", resultText(hr));
		if (FAILED(hr)) {
			if (out.rgbSerialization)
				breach("UpdateRemoteCredential failed and left a buffer");
			continue;
		}
		answer.text("to", guidText(out.clsidCredentialProvider));
		answer.hex("blob", out.rgbSerialization, out.cbSerialization);
		if (out.rgbSerialization == fenced.start) {
			breach("UpdateRemoteCredential gave back the buffer it was lent");
			return;
		}
		take(out, answer);
		release("UpdateRemoteCredential's buffer", out);
		return;
	}
	take(in, answer); // no filter wanted it
}

void Session::input(const BYTE *blob, DWORD size, ULONG package, Json &answer)
{
	Fenced fenced(blob, size);
	// CredUI offers it to all providers, each by its own name.
	for (Provider &p : providers)
		if (p.provider)
			take({package ? package : negotiate(), p.clsid, size, fenced.start}, answer);
}

// take hands a serialization to the provider whose it is.
void Session::take(const CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION &in, Json &answer)
{
	for (Provider &p : providers)
		if (p.provider && p.clsid == in.clsidCredentialProvider)
			answer.text("taken", resultText(p.provider->SetSerialization(&in)));
}

void Session::user(const std::wstring &sid, const std::wstring &qualified, const std::wstring &display)
{
	users->list.push_back(new User(sid, qualified, display));
}

void Session::show(Json &answer)
{
	for (size_t i = 0; i < providers.size(); i++) {
		Provider &p = providers[i];
		if (!p.provider)
			continue;
		if (auto *set = as<ICredentialProviderSetUserArray>(p.provider)) {
			if (HRESULT hr = set->SetUserArray(users); FAILED(hr))
				breach("SetUserArray gives %s", resultText(hr).c_str());
			set->Release();
		}
		p.events = new ProviderEvents(0x5a11 + i);
		HRESULT hr = p.provider->Advise(p.events, p.events->context);
		if (FAILED(hr) && hr != E_NOTIMPL)
			breach("Advise gives %s", resultText(hr).c_str());
		describe(p);
		enumerate(i);
	}
	for (Tile &t : list)
		greet(t);
	tiles(answer);
}

// describe reads the provider's field descriptors.
void Session::describe(Provider &p)
{
	DWORD n = 0;
	if (HRESULT hr = p.provider->GetFieldDescriptorCount(&n); FAILED(hr) || !n)
		breach("GetFieldDescriptorCount gives %s and %lu", resultText(hr).c_str(), n);
	for (DWORD i = 0; i < n; i++) {
		CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR *d = nullptr;
		if (HRESULT hr = p.provider->GetFieldDescriptorAt(i, &d); FAILED(hr) || !d) {
			breach("GetFieldDescriptorAt(%lu) gives %s", i, resultText(hr).c_str());
			continue;
		}
		allocated("a field descriptor", d);
		Field f = {};
		f.id = d->dwFieldID;
		f.type = d->cpft;
		f.label = taken("a field's label", d->pszLabel);
		for (const Field &other : p.fields)
			if (other.id == f.id)
				breach("two fields have the id %lu", f.id);
		if (f.label.empty() && f.type != CPFT_LARGE_TEXT && f.type != CPFT_SMALL_TEXT) // texts are read themselves
			breach("field %lu has no label for Narrator", f.id);
		p.fields.push_back(f);
		CoTaskMemFree(d);
	}
	CREDENTIAL_PROVIDER_FIELD_DESCRIPTOR *behind = nullptr;
	if (SUCCEEDED(p.provider->GetFieldDescriptorAt(n, &behind)) || behind)
		breach("GetFieldDescriptorAt(%lu) gives a field, of %lu", n, n);
}

// enumerate asks a provider for its tiles, which nobody has greeted yet.
void Session::enumerate(size_t index)
{
	Provider &p = providers[index];
	p.count = 0;
	p.preselected = CREDENTIAL_PROVIDER_NO_DEFAULT;
	p.automatic = FALSE;
	if (p.events)
		p.events->changed = false;
	if (HRESULT hr = p.provider->GetCredentialCount(&p.count, &p.preselected, &p.automatic); FAILED(hr)) {
		breach("GetCredentialCount gives %s", resultText(hr).c_str());
		return;
	}
	if (p.preselected != CREDENTIAL_PROVIDER_NO_DEFAULT && p.preselected >= p.count)
		breach("GetCredentialCount: the default is %lu, of %lu", p.preselected, p.count);
	for (DWORD i = 0; i < p.count; i++) {
		Tile t;
		t.provider = index;
		if (HRESULT hr = p.provider->GetCredentialAt(i, &t.credential); FAILED(hr) || !t.credential) {
			breach("GetCredentialAt(%lu) gives %s", i, resultText(hr).c_str());
			continue;
		}
		list.push_back(t);
	}
	ICredentialProviderCredential *behind = nullptr;
	if (SUCCEEDED(p.provider->GetCredentialAt(p.count, &behind)) || behind)
		breach("GetCredentialAt(%lu) gives a credential, of %lu", p.count, p.count);
}

// greet gets to know a tile.
void Session::greet(Tile &t)
{
	checkUnknown("the credential", t.credential);
	t.connectable = as<IConnectableCredentialProviderCredential>(t.credential);
	if (auto *second = as<ICredentialProviderCredential2>(t.credential)) {
		LPWSTR sid = nullptr;
		HRESULT hr = second->GetUserSid(&sid);
		if ((hr == S_OK) != (sid != nullptr) || (hr == S_OK && !users->has(sid)))
			breach("GetUserSid gives %s and \"%s\"", resultText(hr).c_str(), utf8(sid ? sid : L"").c_str());
		t.sid = taken("GetUserSid's string", sid);
		second->Release();
	}
	t.events = new CredentialEvents(t.credential);
	for (const Field &f : providers[t.provider].fields)
		t.events->fields.push_back(ask(t.credential, f));
	if (auto *options = as<ICredentialProviderCredentialWithFieldOptions>(t.credential)) {
		for (const Field &f : t.events->fields) {
			CREDENTIAL_PROVIDER_CREDENTIAL_FIELD_OPTIONS o = CPCFO_NONE;
			if (HRESULT hr = options->GetFieldOptions(f.id, &o); FAILED(hr))
				breach("GetFieldOptions(%lu) gives %s", f.id, resultText(hr).c_str());
		}
		options->Release();
	}
	HRESULT hr = t.credential->Advise(t.events);
	if (FAILED(hr) && hr != E_NOTIMPL)
		breach("the credential's Advise gives %s", resultText(hr).c_str());
}

void Session::await(DWORD ms, Json &answer)
{
	ULONGLONG end = GetTickCount64() + ms;
	for (ULONGLONG now; (now = GetTickCount64()) < end;) {
		for (const Provider &p : providers)
			if (p.events && p.events->changed)
				return tiles(answer);
		// CredentialsChanged wakes this thread.
		MsgWaitForMultipleObjects(0, nullptr, FALSE, DWORD(end - now), QS_ALLINPUT);
		MSG message;
		while (PeekMessageW(&message, nullptr, 0, 0, PM_REMOVE))
			DispatchMessageW(&message);
	}
	answer.text("error", "nothing has changed");
}

void Session::refresh(bool newFirst, bool deselects, Json &answer)
{
	std::vector<Tile> old;
	old.swap(list);
	if (!newFirst)
		drop(old, deselects);
	for (size_t i = 0; i < providers.size(); i++)
		if (providers[i].provider)
			enumerate(i);
	if (newFirst)
		drop(old, deselects);
	for (Tile &t : list)
		greet(t);
	tiles(answer);
}

void Session::tiles(Json &answer)
{
	size_t first = 0;
	for (const Provider &p : providers) {
		if (p.preselected != CREDENTIAL_PROVIDER_NO_DEFAULT) {
			answer.number("default", first + p.preselected);
			answer.boolean("automatic", p.automatic);
		}
		first += p.count;
		if (p.events && p.events->changed)
			answer.boolean("changed", true);
	}
	answer.array("tiles");
	for (Tile &t : list) {
		answer.open();
		answer.text("provider", guidText(providers[t.provider].clsid));
		answer.boolean("selected", &t == selected);
		answer.boolean("connectable", t.connectable != nullptr);
		t.describe(answer);
		answer.close();
	}
	answer.end();
}

Tile *Session::tileOf(Json &answer)
{
	if (!selected)
		answer.text("error", "no tile is selected");
	return selected;
}

void Session::select(size_t n, Json &answer)
{
	if (n >= list.size())
		return answer.text("error", "there is no such tile");
	if (selected)
		deselect(answer);
	selected = &list[n];
	BOOL automatic = FALSE;
	if (HRESULT hr = selected->credential->SetSelected(&automatic); FAILED(hr))
		breach("SetSelected gives %s", resultText(hr).c_str());
	answer.boolean("automatic", automatic);
	selected->describe(answer);
}

void Session::deselect(Json &answer)
{
	Tile *t = tileOf(answer);
	if (!t)
		return;
	if (HRESULT hr = t->credential->SetDeselected(); FAILED(hr))
		breach("SetDeselected gives %s", resultText(hr).c_str());
	selected = nullptr;
}

// usable is whether a person could use the field now.
static bool usable(Field *f, Json &answer)
{
	if (!f)
		answer.text("error", "there is no such field");
	else if (!shown(*f, true))
		answer.text("error", "the field is hidden");
	else if (f->interactive == CPFIS_DISABLED || f->interactive == CPFIS_READONLY)
		answer.text("error", "the field is disabled");
	else
		return true;
	return false;
}

void Session::type(DWORD id, wchar_t *text, bool anyway, Json &answer)
{
	Tile *t = tileOf(answer);
	Field *f = t ? t->field(id) : nullptr;
	if (!t || (!(f && anyway) && !usable(f, answer)))
		return;
	if (f->type != CPFT_EDIT_TEXT && f->type != CPFT_PASSWORD_TEXT)
		return answer.text("error", "nothing can be typed there");
	// The provider hears the whole text at each key.
	size_t length = wcslen(text);
	HRESULT hr = length ? S_OK : t->credential->SetStringValue(id, L"");
	for (size_t i = 1; i <= length; i++) {
		wchar_t next = text[i];
		text[i] = 0;
		hr = t->credential->SetStringValue(id, text);
		text[i] = next;
	}
	answer.text("set", resultText(hr));
	// It stands there, also when the provider does not take it.
	f->text = f->type == CPFT_PASSWORD_TEXT ? std::wstring(length, L'*') : std::wstring(text);
	f->refused = FAILED(hr);
	t->describe(answer);
}

struct Connecting {
	Tile *tile;
	Wait *wait;
	HRESULT hr;
};

static DWORD WINAPI connectThread(void *arg)
{
	auto *c = static_cast<Connecting *>(arg);
	CoInitializeEx(nullptr, COINIT_MULTITHREADED);
	c->hr = c->tile->connectable->Connect(c->wait);
	CoUninitialize();
	return 0;
}

// connect calls Connect, on this thread or on one of its own while this one keeps
// the screen alive: the documentation does not say which it is.
static HRESULT connect(Tile *tile, Wait &wait, bool worker)
{
	Connecting c = {tile, &wait, E_FAIL};
	if (!worker)
		return tile->connectable->Connect(&wait);
	DWORD id;
	HANDLE thread = CreateThread(nullptr, 0, connectThread, &c, CREATE_SUSPENDED, &id);
	if (!thread)
		return E_OUTOFMEMORY;
	tile->events->connectThread = id;
	ResumeThread(thread);
	while (MsgWaitForMultipleObjects(1, &thread, FALSE, INFINITE, QS_ALLINPUT) != WAIT_OBJECT_0) {
		MSG message;
		while (PeekMessageW(&message, nullptr, 0, 0, PM_REMOVE))
			DispatchMessageW(&message);
	}
	tile->events->connectThread = 0;
	CloseHandle(thread);
	return c.hr;
}

void Session::submit(Wait *wait, bool worker, Json &answer)
{
	Tile *t = tileOf(answer);
	if (!t)
		return;
	if (t->connectable && wait) {
		HRESULT hr = connect(t, *wait, worker);
		wait->over = true;
		ULONGLONG ended = GetTickCount64();
		answer.text("connect", resultText(hr));
		answer.number("connectMS", ended - wait->began);
		answer.number("silenceMS", std::max(wait->longestSilence, beats() - wait->lastAsked));
		answer.boolean("cancelled", wait->cancelled);
		answer.texts("messages", wait->messages);
		if (FAILED(hr)) {
			t->describe(answer);
			return;
		}
	}
	ULONGLONG began = GetTickCount64(), beganAt = beats();
	CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE response = CPGSR_NO_CREDENTIAL_NOT_FINISHED;
	CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION out = {};
	LPWSTR text = nullptr;
	CREDENTIAL_PROVIDER_STATUS_ICON status = CPSI_NONE;
	HRESULT hr = t->credential->GetSerialization(&response, &out, &text, &status);
	answer.number("serializeMS", GetTickCount64() - began);
	answer.number("blockedMS", beats() - beganAt);
	answer.text("serialize", resultText(hr));
	static const char *const responses[] = {"not finished", "finished without", "finished", "returned none"};
	answer.text("response", size_t(response) < ARRAYSIZE(responses) ? responses[response] : "invalid");
	answer.text("text", utf8(taken("GetSerialization's text", text).c_str()));
	answer.text("icon", icon(status));
	bool returned = SUCCEEDED(hr) && response == CPGSR_RETURN_CREDENTIAL_FINISHED;
	if (returned != (out.rgbSerialization != nullptr))
		breach("GetSerialization gives %s, response %d, and %s buffer", resultText(hr).c_str(), response, out.rgbSerialization ? "a" : "no");
	if (returned && out.rgbSerialization) {
		answer.object("credential");
		answer.text("clsid", guidText(out.clsidCredentialProvider));
		answer.boolean("negotiate", out.ulAuthenticationPackage == negotiate());
		answer.hex("blob", out.rgbSerialization, out.cbSerialization);
		answer.close();
		release("the serialization", out);
	}
	t->describe(answer);
}

void Session::result(NTSTATUS ntStatus, NTSTATUS substatus, Json &answer)
{
	Tile *t = tileOf(answer);
	if (!t)
		return;
	LPWSTR text = nullptr;
	CREDENTIAL_PROVIDER_STATUS_ICON status = CPSI_NONE;
	HRESULT hr = t->credential->ReportResult(ntStatus, substatus, &text, &status);
	answer.text("reported", resultText(hr));
	answer.text("text", utf8(taken("ReportResult's text", text).c_str()));
	answer.text("icon", icon(status));
	t->describe(answer);
}

void Session::disconnect(Json &answer)
{
	Tile *t = tileOf(answer);
	if (t && t->connectable)
		answer.text("disconnected", resultText(t->connectable->Disconnect()));
}

// drop takes tiles off the screen.
void Session::drop(std::vector<Tile> &tiles, bool deselects)
{
	if (selected && deselects) {
		if (HRESULT hr = selected->credential->SetDeselected(); FAILED(hr))
			breach("SetDeselected gives %s", resultText(hr).c_str());
	}
	selected = nullptr;
	for (Tile &t : tiles) {
		if (HRESULT hr = t.credential->UnAdvise(); FAILED(hr) && hr != E_NOTIMPL)
			breach("the credential's UnAdvise gives %s", resultText(hr).c_str());
		t.events->advised = false;
		t.events->finish();
		gone.push_back(t.events);
		final(t.connectable);
		final(t.credential);
	}
	tiles.clear();
}

void Session::letGo(Provider &p, Json &answer)
{
	if (!p.provider)
		return;
	if (p.events) {
		if (HRESULT hr = p.provider->UnAdvise(); FAILED(hr) && hr != E_NOTIMPL)
			breach("UnAdvise gives %s", resultText(hr).c_str());
		p.events->advised = false;
		p.events->finish();
		delete p.events;
	}
	answer.number("providerReferences", final(p.provider));
}

void Session::close(bool providersFirst, Json &answer)
{
	if (!providersFirst)
		drop(list, true);
	for (Provider &p : providers)
		letGo(p, answer);
	if (providersFirst)
		drop(list, true);
	ULONG left = 0;
	for (ICredentialProviderFilter *&f : filters)
		left += final(f);
	answer.number("filterReferences", left);
	users->finishAll();
	delete users;
	users = new Users;
	providers.clear();
	filters.clear();
	for (CredentialEvents *e : gone)
		delete e;
	gone.clear();

	// What nobody uses is unloaded, as DllCanUnloadNow says; a thread of the DLL's may
	// still be on its last instructions.
	bool can = false, loaded = true;
	for (ULONGLONG end = GetTickCount64() + 30000; loaded && GetTickCount64() < end; Sleep(5)) {
		can = true;
		loaded = false;
		for (const std::wstring &path : dlls) {
			HMODULE module = GetModuleHandleW(path.c_str());
			auto ask = module ? reinterpret_cast<HRESULT(WINAPI *)()>(reinterpret_cast<void *>(GetProcAddress(module, "DllCanUnloadNow"))) : nullptr;
			can = can && (!module || (ask && ask() == S_OK));
			loaded = loaded || module;
		}
		CoFreeUnusedLibrariesEx(0, 0);
	}
	dlls.clear();
	answer.boolean("canUnload", can);
	answer.boolean("unloaded", !loaded);
}
