#include "credential.h"

#include <shlguid.h>
#include <stdio.h>
#include <string.h>

#include "logo.h"
#include "newpassword.h"
#include "serialize.h"
#include "texts.h"

namespace {

enum : DWORD {
	// How often Connect asks whether to go on.
	pollMs = 200,
	// How long GetSerialization waits where nobody called Connect: longer than the agent
	// takes over a password. Beyond it the login goes on by itself.
	serializeMs = 33 * 1000,
};

// ntstatus.h cannot be had together with windows.h.
constexpr NTSTATUS nt(uint32_t status)
{
	return static_cast<NTSTATUS>(status);
}

struct Reason {
	NTSTATUS status;
	const char *text;
};

constexpr NTSTATUS accountRestriction = nt(0xc000006e);

constexpr NTSTATUS passwordMustChange = nt(0xc0000224);
constexpr NTSTATUS passwordExpired = nt(0xc0000071);

constexpr Reason reasons[] = {
	{nt(0xc000006d), texts::wrongPassword},	 // STATUS_LOGON_FAILURE
	{nt(0xc000006a), texts::wrongPassword},	 // STATUS_WRONG_PASSWORD
	{nt(0xc0000064), texts::wrongPassword},	 // STATUS_NO_SUCH_USER
	{passwordMustChange, texts::mustChange},
	{passwordExpired, texts::expired},
	{nt(0xc0000072), texts::disabled},	 // STATUS_ACCOUNT_DISABLED
	{nt(0xc0000193), texts::accountExpired}, // STATUS_ACCOUNT_EXPIRED
	{nt(0xc0000234), texts::lockedOut},	 // STATUS_ACCOUNT_LOCKED_OUT
	{nt(0xc000006f), texts::wrongTime},	 // STATUS_INVALID_LOGON_HOURS
	{nt(0xc0000070), texts::wrongComputer},	 // STATUS_INVALID_WORKSTATION
	{nt(0xc000015b), texts::notGranted},	 // STATUS_LOGON_TYPE_NOT_GRANTED
	{nt(0xc000005e), texts::noDomain},	 // STATUS_NO_LOGON_SERVERS
};

// WideText is a text of ours as Windows wants it.
class WideText {
public:
	explicit WideText(const char *text)
	{
		if (MultiByteToWideChar(CP_UTF8, 0, text, -1, data, ARRAYSIZE(data)) == 0)
			data[0] = 0;
	}
	~WideText() { SecureZeroMemory(data, sizeof data); }
	const wchar_t *get() const { return data; }

private:
	wchar_t data[Dialogue::textMax * 2 + 2]; // all that a tile may say
};

// ClockIn is the time of day so many milliseconds from now, as the user writes it: a
// text that need not change while it is read, aloud too.
struct ClockIn {
	explicit ClockIn(int64_t ms)
	{
		union {
			FILETIME file;
			ULONGLONG ticks; // of 100 ns
		} at;
		FILETIME local;
		SYSTEMTIME time;
		wchar_t wide[64];

		GetSystemTimeAsFileTime(&at.file);
		at.ticks += static_cast<ULONGLONG>(ms) * 10000;
		if (!FileTimeToLocalFileTime(&at.file, &local) || !FileTimeToSystemTime(&local, &time) ||
		    GetTimeFormatEx(LOCALE_NAME_USER_DEFAULT, 0, &time, nullptr, wide, ARRAYSIZE(wide)) == 0 ||
		    WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, sizeof text, nullptr, nullptr) == 0)
			(void)snprintf(text, sizeof text, "%lld s", static_cast<long long>(ms / 1000));
	}
	char text[192];
};

// " (Pixel)", or nothing.
struct InBrackets {
	explicit InBrackets(const Dialogue &d)
	{
		if (d.device[0] != '\0')
			(void)snprintf(text, sizeof text, " (%s)", d.device);
	}
	char text[Dialogue::deviceMax + 4] = {};
};

const char *whyRefused(const Dialogue &d)
{
	return d.text[0] != '\0' ? d.text : texts::refused;
}

} // namespace

const FieldInfo fields[fieldCount] = {
	{CPFT_TILE_IMAGE, texts::logo, &CPFG_CREDENTIAL_PROVIDER_LOGO},
	{CPFT_SMALL_TEXT, texts::product, &CPFG_CREDENTIAL_PROVIDER_LABEL},
	{CPFT_LARGE_TEXT, texts::heading, nullptr},
	{CPFT_EDIT_TEXT, texts::userName, &CPFG_LOGON_USERNAME},
	{CPFT_PASSWORD_TEXT, texts::password, &CPFG_LOGON_PASSWORD},
	{CPFT_SMALL_TEXT, texts::status, nullptr},
	{CPFT_EDIT_TEXT, texts::code, nullptr},
	{CPFT_PASSWORD_TEXT, texts::code, nullptr},
	{CPFT_PASSWORD_TEXT, texts::newPassword, nullptr},
	{CPFT_PASSWORD_TEXT, texts::repeat, nullptr},
	{CPFT_SUBMIT_BUTTON, texts::submit, nullptr},
};

Ref<Credential> Credential::make(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const Owner &owner, const Home &home,
				 const Ref<Settings> &settings, const Ref<Notifier> &notifier)
{
	Ref<Credential> c = Ref<Credential>::adopt(new Credential);

	if (!c)
		return {};
	c->cpus = cpus;
	c->flags = flags;
	c->owner = owner;
	c->home = home;
	c->settings = settings;
	c->notifier = notifier;
	c->tell();
	return c;
}

void Credential::fill(const Account &account, Password &given, bool submit)
{
	wchar_t name[accountNameMax + 1];

	accountName(account, name);
	Hold hold(lock);
	(void)user.set(name, wcslen(name));
	userFilled = true;
	longUser = false;
	autoSubmit = submit && !given.empty();
	password.take(given);
	longPassword = false;
}

// --- IUnknown ---

HRESULT Credential::QueryInterface(REFIID iid, void **out)
{
	if (out == nullptr)
		return E_POINTER;
	*out = nullptr;
	if (iid == IID_IUnknown || iid == IID_ICredentialProviderCredential || iid == IID_ICredentialProviderCredential2)
		*out = static_cast<ICredentialProviderCredential2 *>(this);
	else if (iid == IID_IConnectableCredentialProviderCredential)
		*out = static_cast<IConnectableCredentialProviderCredential *>(this);
	else if (iid == IID_ICredentialProviderCredentialWithFieldOptions)
		*out = static_cast<ICredentialProviderCredentialWithFieldOptions *>(this);
	else
		return E_NOINTERFACE;
	AddRef();
	return S_OK;
}

ULONG Credential::Release()
{
	ULONG left = count.drop();
	if (left == 0) {
		stopLogin();
		delete this;
	}
	return left;
}

// --- the screen comes and goes ---

HRESULT Credential::Advise(ICredentialProviderCredentialEvents *given)
{
	if (given == nullptr)
		return E_INVALIDARG;
	older = events;
	events = Ref<ICredentialProviderCredentialEvents>::share(given);
	Hold hold(lock);
	gone = false;
	return S_OK;
}

HRESULT Credential::UnAdvise()
{
	if (older) {
		older.reset();
		return S_OK;
	}
	events.reset();
	return SetDeselected();
}

HRESULT Credential::SetSelected(BOOL *autoLogon)
{
	if (autoLogon == nullptr)
		return E_INVALIDARG;
	// GetCredentialCount says when to log in by itself.
	*autoLogon = FALSE;
	lastWord = false;
	Hold hold(lock);
	gone = false;
	if (login)
		login->found();
	return S_OK;
}

HRESULT Credential::SetDeselected()
{
	bool back;
	{
		// LogonUI was asked to look again, and takes the tile away to do so. It has
		// some seconds for that; the login needs nothing that is still in a field.
		Hold hold(lock);
		back = login && login->announced();
		gone = !back; // also for a Connect that is about to begin
	}
	clearTyped();
	if (back)
		return S_OK;
	stopLogin();
	turn(lastWord ? face : Face::Password, lastWord ? status : "");
	return S_OK;
}

// Back to where the tile began, and nothing secret left.
void Credential::reset()
{
	stopLogin();
	clearTyped();
	turn(Face::Password, "");
}

void Credential::clearTyped()
{
	{
		Hold hold(lock);
		password.wipe();
		newPassword.wipe();
		repeat.wipe();
		code.wipe();
		longPassword = longNew = longCode = autoSubmit = connected = changed = false;
		problem = nullptr;
	}
	tellTyped();
}

void Credential::stopLogin()
{
	Ref<Login> old;
	{
		Hold hold(lock);
		old.swap(login);
	}
	if (old)
		old->stop();
}

void Credential::refresh()
{
	Ref<Login> l;
	Dialogue d;
	LONG seen;
	{
		Hold hold(lock);
		l = login;
	}
	if (!l || !l->announced())
		return;
	l->look(&d, &seen);
	if (d.stage == Stage::Asking)
		return showPrompt(d);
	if (d.stage != Stage::Refused)
		return;
	stopLogin();
	clearTyped();
	turn(Face::Password, whyRefused(d));
	lastWord = true;
}

bool Credential::submits()
{
	Dialogue d;
	LONG seen;
	Hold hold(lock);

	if (autoSubmit)
		return true;
	if (!login || !login->announced())
		return false;
	login->look(&d, &seen);
	return d.stage == Stage::Allowed;
}

bool Credential::inLogin()
{
	Hold hold(lock);
	return static_cast<bool>(login);
}

// --- what the fields show ---

Credential::State Credential::stateOf(DWORD field) const
{
	constexpr State hidden = {CPFS_HIDDEN, CPFIS_NONE};
	constexpr State plain = {CPFS_DISPLAY_IN_SELECTED_TILE, CPFIS_NONE};
	constexpr State focused = {CPFS_DISPLAY_IN_SELECTED_TILE, CPFIS_FOCUSED};
	constexpr State dimmed = {CPFS_DISPLAY_IN_SELECTED_TILE, CPFIS_DISABLED};
	bool typesName = isOther() && !userFilled;

	switch (field) {
	case fieldLogo:
		return {CPFS_DISPLAY_IN_BOTH, CPFIS_NONE};
	case fieldHeading:
		// LogonUI has the user's name above the tile, CredUI has not.
		return {cpus == CPUS_CREDUI ? CPFS_DISPLAY_IN_BOTH : CPFS_DISPLAY_IN_DESELECTED_TILE, CPFIS_NONE};
	case fieldUser:
		return !isOther() ? hidden : face != Face::Password ? dimmed : typesName ? focused : plain;
	case fieldPassword:
		return face == Face::Code ? hidden : typesName && face == Face::Password ? plain : focused;
	case fieldStatus:
		return status[0] != '\0' ? plain : hidden;
	case fieldCode:
		return face == Face::Code && visibleCode ? focused : hidden;
	case fieldHiddenCode:
		return face == Face::Code && !visibleCode ? focused : hidden;
	case fieldNewPassword:
	case fieldRepeat:
		return face == Face::Change ? plain : hidden;
	case fieldSubmit:
		return plain;
	default: // fieldLabel: Windows has it for "Sign-in options"
		return hidden;
	}
}

DWORD Credential::submitBeside() const
{
	switch (face) {
	case Face::Change:
		return fieldRepeat;
	case Face::Code:
		return visibleCode ? fieldCode : fieldHiddenCode;
	default:
		return fieldPassword;
	}
}

// Shows another face, with what there is to say.
void Credential::turn(Face to, const char *text)
{
	{
		Hold hold(lock);
		face = to;
	}
	if (strcmp(status, text) != 0) {
		hc_wipe(status, sizeof status); // it may have shown a new key
		(void)snprintf(status, sizeof status, "%s", text);
		tellText(fieldStatus, status);
	}
	tell();
}

// Tells the screen what is not as it knows it.
void Credential::tell()
{
	ICredentialProviderCredential *self = static_cast<ICredentialProviderCredential2 *>(this);
	Ref<ICredentialProviderCredentialEvents2> batch;

	if (events && SUCCEEDED(events->QueryInterface(IID_ICredentialProviderCredentialEvents2, batch.outVoid())))
		(void)batch->BeginFieldUpdates();
	for (DWORD f = 0; f < fieldCount; f++) {
		State now = stateOf(f);
		if (events && now.state != told[f].state)
			(void)events->SetFieldState(self, f, now.state);
		if (events && (now.interactive != told[f].interactive || now.interactive == CPFIS_FOCUSED))
			(void)events->SetFieldInteractiveState(self, f, now.interactive);
		told[f] = now;
	}
	if (events && toldBeside != submitBeside())
		(void)events->SetFieldSubmitButton(self, fieldSubmit, submitBeside());
	toldBeside = submitBeside();
	if (batch)
		(void)batch->EndFieldUpdates();
}

void Credential::tellText(DWORD field, const char *text)
{
	if (events)
		(void)events->SetFieldString(static_cast<ICredentialProviderCredential2 *>(this), field, WideText(text).get());
}

// What was typed and is gone is gone from the screen too.
void Credential::tellTyped()
{
	bool noPassword, noNew, noCode;
	{
		Hold hold(lock);
		noPassword = password.empty();
		noNew = newPassword.empty() && repeat.empty();
		noCode = code.empty();
	}
	if (noPassword)
		tellText(fieldPassword, "");
	if (noNew) {
		tellText(fieldNewPassword, "");
		tellText(fieldRepeat, "");
	}
	if (noCode) {
		tellText(fieldCode, "");
		tellText(fieldHiddenCode, "");
	}
}

HRESULT Credential::GetFieldState(DWORD field, CREDENTIAL_PROVIDER_FIELD_STATE *state, CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE *interactive)
{
	if (field >= fieldCount || state == nullptr || interactive == nullptr)
		return E_INVALIDARG;
	*state = told[field].state;
	*interactive = told[field].interactive;
	return S_OK;
}

HRESULT Credential::GetStringValue(DWORD field, LPWSTR *text)
{
	if (text == nullptr)
		return E_INVALIDARG;
	*text = nullptr;
	switch (field) {
	case fieldLabel:
		return giveText(texts::product, text);
	case fieldHeading:
		return giveWide(owner.shown, wcslen(owner.shown), text);
	case fieldStatus:
		return giveText(status, text);
	case fieldUser: {
		Hold hold(lock);
		return giveWide(user.text(), user.length(), text);
	}
	case fieldPassword: {
		// What is in the box: the screen asks when it makes the tile.
		Hold hold(lock);
		return giveWide(password.text(), password.length(), text);
	}
	case fieldNewPassword:
	case fieldRepeat: {
		Hold hold(lock);
		const Password &typed = field == fieldRepeat ? repeat : newPassword;
		return giveWide(typed.text(), typed.length(), text);
	}
	case fieldCode:
	case fieldHiddenCode: {
		Hold hold(lock);
		bool here = (field == fieldCode) == visibleCode;
		return giveWide(code.text(), here ? code.length() : 0, text);
	}
	default:
		return E_INVALIDARG;
	}
}

HRESULT Credential::SetStringValue(DWORD field, LPCWSTR text)
{
	size_t length = text == nullptr ? 0 : wcslen(text);
	Hold hold(lock);

	if (text == nullptr)
		return E_INVALIDARG;
	switch (field) {
	case fieldUser:
		if (!isOther())
			return E_INVALIDARG;
		// A name that is cut short would be somebody else's.
		longUser = !user.set(text, length);
		gone = false;
		return longUser ? E_INVALIDARG : S_OK;
	case fieldPassword:
		longPassword = !password.set(text, length);
		autoSubmit = gone = false;
		return longPassword ? E_INVALIDARG : S_OK;
	case fieldNewPassword:
	case fieldRepeat: {
		bool fits = (field == fieldRepeat ? repeat : newPassword).set(text, length);
		longNew = longNew || !fits;
		return fits ? S_OK : E_INVALIDARG;
	}
	case fieldCode:
	case fieldHiddenCode:
		longCode = !code.set(text, length);
		return longCode ? E_INVALIDARG : S_OK;
	default:
		return E_INVALIDARG;
	}
}

HRESULT Credential::GetBitmapValue(DWORD field, HBITMAP *bitmap)
{
	BITMAPINFO info = {};
	void *pixels = nullptr;

	if (field != fieldLogo || bitmap == nullptr)
		return E_INVALIDARG;
	info.bmiHeader.biSize = sizeof info.bmiHeader;
	info.bmiHeader.biWidth = logoSize;
	info.bmiHeader.biHeight = -logoSize; // the top row first
	info.bmiHeader.biPlanes = 1;
	info.bmiHeader.biBitCount = 32;
	info.bmiHeader.biCompression = BI_RGB;
	*bitmap = CreateDIBSection(nullptr, &info, DIB_RGB_COLORS, &pixels, nullptr, 0);
	if (*bitmap == nullptr)
		return E_OUTOFMEMORY;
	drawLogo(static_cast<uint32_t *>(pixels));
	return S_OK;
}

HRESULT Credential::GetSubmitButtonValue(DWORD field, DWORD *beside)
{
	if (field != fieldSubmit || beside == nullptr)
		return E_INVALIDARG;
	*beside = toldBeside;
	return S_OK;
}

HRESULT Credential::GetFieldOptions(DWORD field, CREDENTIAL_PROVIDER_CREDENTIAL_FIELD_OPTIONS *options)
{
	if (field >= fieldCount || options == nullptr)
		return E_INVALIDARG;
	switch (field) {
	case fieldPassword:
	case fieldNewPassword:
	case fieldRepeat:
		*options = CPCFO_ENABLE_PASSWORD_REVEAL | CPCFO_ENABLE_TOUCH_KEYBOARD_AUTO_INVOKE;
		break;
	case fieldUser:
	case fieldCode: // not numbers only: recovery codes have letters
	case fieldHiddenCode:
		*options = CPCFO_ENABLE_TOUCH_KEYBOARD_AUTO_INVOKE;
		break;
	default:
		*options = CPCFO_NONE;
	}
	return S_OK;
}

HRESULT Credential::GetUserSid(LPWSTR *sid)
{
	if (sid == nullptr)
		return E_INVALIDARG;
	*sid = nullptr;
	return isOther() ? S_FALSE : giveWide(owner.sid, wcslen(owner.sid), sid);
}

// There are no check boxes, combo boxes or links.

HRESULT Credential::GetCheckboxValue(DWORD, BOOL *, LPWSTR *)
{
	return E_NOTIMPL;
}

HRESULT Credential::SetCheckboxValue(DWORD, BOOL)
{
	return E_NOTIMPL;
}

HRESULT Credential::GetComboBoxValueCount(DWORD, DWORD *, DWORD *)
{
	return E_NOTIMPL;
}

HRESULT Credential::GetComboBoxValueAt(DWORD, DWORD, LPWSTR *)
{
	return E_NOTIMPL;
}

HRESULT Credential::SetComboBoxSelectedValue(DWORD, DWORD)
{
	return E_NOTIMPL;
}

HRESULT Credential::CommandLinkClicked(DWORD)
{
	return E_NOTIMPL;
}

// --- a submit, on Connect's thread ---

void Credential::submit(IQueryContinueWithStatus *host)
{
	Dialogue d;
	LONG seen;
	bool changes;
	{
		Hold hold(lock);
		changes = face == Face::Change && !gone;
	}
	if (changes)
		return change(host);
	Hold hold(lock);

	problem = nullptr;
	// A tile that asks for a code has no password to begin with: its login was stopped,
	// and GetSerialization brings the tile back.
	if (!login && !gone && face == Face::Password)
		return beginLogin();
	password.wipe(); // the login has its own, and is about no other
	if (!login)
		return;
	login->attend();
	login->look(&d, &seen);
	if (d.stage == Stage::Asking)
		answerPrompt(d);
}

// Under the lock.
Named Credential::whoseLogin(Account *account) const
{
	if (isOther())
		return longUser ? Named::Bad : parseAccount(user.text(), user.length(), home.domain, home.computer, account);
	*account = owner.account;
	return account->empty() ? Named::Bad : Named::Good;
}

// Changes the password, which Windows has just said has to be. It takes the old one, so
// that nobody has to keep it meanwhile.
void Credential::change(IQueryContinueWithStatus *host)
{
	Password old, fresh, again;
	Account account;
	const char *why = nullptr;
	{
		Hold hold(lock);
		old.take(password);
		fresh.take(newPassword);
		again.take(repeat);
		if (whoseLogin(&account) != Named::Good)
			why = texts::badUser;
		else if (longPassword || longNew)
			why = texts::longPassword;
		else if (old.empty())
			why = texts::noOld;
		else if (fresh.empty())
			why = texts::noNew;
		else if (!fresh.equals(again))
			why = texts::notTwice;
		longPassword = longNew = false;
	}
	if (why == nullptr) {
		// Windows cannot be stopped at it, so nobody is asked.
		if (host != nullptr)
			(void)host->SetStatusMessage(WideText(texts::changing).get());
		why = changePassword(account, old, fresh);
	}
	Hold hold(lock);
	problem = why;
	changed = why == nullptr;
}

// Under the lock.
void Credential::beginLogin()
{
	Login::Request request = {};
	Named named = whoseLogin(&request.account);

	request.cpus = cpus;
	wcscpy(request.sid, owner.sid);
	autoSubmit = false;
	unanswered = -1;
	if (named != Named::Good)
		problem = named == Named::Empty ? texts::noUser : texts::badUser;
	else if (longPassword)
		problem = texts::longPassword;
	if (problem != nullptr)
		return;
	login = Login::begin(request, password, settings, notifier);
	password.wipe();
	code.wipe();
	if (!login)
		problem = texts::noMemory;
}

// Under the lock.
void Credential::answerPrompt(const Dialogue &d)
{
	bool empty = code.empty() && !longCode;

	unanswered = empty && d.phoneMs(hc_now_ms()) > 0 ? static_cast<int64_t>(d.number) : -1;
	if (empty && !d.emptyAllowed)
		problem = texts::noCode;
	else if (longCode || !login->answer(code))
		problem = texts::longCode;
	code.wipe();
	longCode = false;
}

// Waits for the agent's next question, or for its verdict.
void Credential::watch(IQueryContinueWithStatus *host)
{
	int64_t until = hc_now_ms() + serializeMs;
	char shown[Dialogue::textMax + 1] = {};
	Ref<Login> l;
	{
		Hold hold(lock);
		if (problem != nullptr)
			return;
		l = login;
	}
	while (l) {
		Dialogue d;
		LONG seen;

		l->look(&d, &seen);
		if (d.stage != Stage::Working)
			return;
		const char *text = d.notice[0] != '\0' ? d.notice : texts::checking;
		if (host != nullptr && strcmp(text, shown) != 0) {
			(void)host->SetStatusMessage(WideText(text).get());
			(void)snprintf(shown, sizeof shown, "%s", text);
		}
		if (host != nullptr && host->QueryContinue() != S_OK)
			return stopLogin();
		// It is not stopped: the agent may have Windows check the password just now,
		// and a second time would count a wrong one twice.
		if (host == nullptr && hc_now_ms() >= until)
			return;
		l->wait(seen, pollMs);
	}
}

HRESULT Credential::Connect(IQueryContinueWithStatus *host)
{
	if (host == nullptr)
		return E_INVALIDARG;
	submit(host);
	watch(host);
	Hold hold(lock);
	connected = !gone;
	// GetSerialization says how it went, and follows only upon success.
	return S_OK;
}

HRESULT Credential::Disconnect()
{
	reset();
	return S_OK;
}

// --- a submit, on the screen's thread ---

HRESULT Credential::GetSerialization(CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE *response, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization,
				     LPWSTR *text, CREDENTIAL_PROVIDER_STATUS_ICON *icon)
{
	bool done;

	if (response == nullptr || serialization == nullptr || text == nullptr || icon == nullptr)
		return E_INVALIDARG;
	*response = CPGSR_NO_CREDENTIAL_NOT_FINISHED;
	*serialization = {};
	*text = nullptr;
	*icon = CPSI_NONE;
	{
		Hold hold(lock);
		done = connected;
		connected = false;
	}
	if (!done) {
		submit(nullptr);
		watch(nullptr);
	}
	return finish(response, serialization, text, icon);
}

HRESULT Credential::finish(CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE *response, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization, LPWSTR *text,
			   CREDENTIAL_PROVIDER_STATUS_ICON *icon)
{
	const char *why;
	bool done;
	HRESULT hr = S_OK;
	Ref<Login> l;
	Dialogue d;
	LONG seen;

	lastWord = false;
	{
		Hold hold(lock);
		l = login;
		why = problem;
		problem = nullptr;
		done = changed;
		changed = false;
	}
	if (!l && face == Face::Change && !done) {
		turn(Face::Change, texts::chooseNew);
		tellTyped();
	} else if (!l) {
		turn(Face::Password, done ? texts::changed : "");
		tellTyped();
	} else {
		// The person's turn: what comes from here on is told to LogonUI.
		l->leave();
		l->look(&d, &seen);
		switch (d.stage) {
		case Stage::Asking:
			showPrompt(d);
			tellTyped();
			break;
		case Stage::Working: // the prompt was closed just now, or the agent takes long
			turn(face, texts::checking);
			tellTyped();
			break;
		case Stage::Allowed:
			hr = pack(serialization);
			if (SUCCEEDED(hr))
				*response = CPGSR_RETURN_CREDENTIAL_FINISHED;
			reset();
			break;
		case Stage::Refused:
			why = whyRefused(d);
			reset();
			break;
		}
	}
	if (why != nullptr && *why != '\0') {
		*icon = CPSI_ERROR;
		(void)giveText(why, text);
	}
	return hr;
}

HRESULT Credential::pack(CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization)
{
	Password secret;
	Account account;
	Ref<Login> l;
	{
		Hold hold(lock);
		l = login;
	}
	if (!l || !l->redeem(&account, &secret))
		return HRESULT_FROM_WIN32(ERROR_TIMEOUT);
	return serialize(cpus, flags, account, secret, serialization);
}

// Shows the agent's open prompt.
void Credential::showPrompt(const Dialogue &d)
{
	int64_t phoneMs = d.phoneMs(hc_now_ms());
	char question[Dialogue::textMax + 1], text[sizeof status];
	bool tooEarly;
	{
		Hold hold(lock);
		tooEarly = unanswered == static_cast<int64_t>(d.number);
	}
	visibleCode = d.visible;
	if (phoneMs > 0)
		(void)snprintf(question, sizeof question, texts::typeNumber, d.number, InBrackets(d).text, ClockIn(phoneMs).text);
	else
		(void)snprintf(question, sizeof question, "%s", d.phone ? texts::phoneOver : d.text);
	(void)snprintf(text, sizeof text, "%s%s%s%s", d.notice, d.notice[0] != '\0' ? "\n" : "", phoneMs > 0 && tooEarly ? texts::notYet : "", question);
	hc_wipe(question, sizeof question);
	turn(Face::Code, text);
	hc_wipe(text, sizeof text);
}

// --- what LSA said ---

HRESULT Credential::ReportResult(NTSTATUS ntStatus, NTSTATUS substatus, LPWSTR *text, CREDENTIAL_PROVIDER_STATUS_ICON *icon)
{
	NTSTATUS key = ntStatus == accountRestriction ? substatus : ntStatus;

	if (text == nullptr || icon == nullptr)
		return E_INVALIDARG;
	*text = nullptr;
	*icon = CPSI_NONE;
	reset();
	if (ntStatus >= 0)
		return S_OK;
	*icon = CPSI_ERROR;
	if (cpus != CPUS_CREDUI && (key == passwordMustChange || key == passwordExpired)) {
		// Windows' own provider would ask, and may not be there. It may take the tile
		// away and bring it back.
		turn(Face::Change, texts::chooseNew);
		lastWord = true;
	}
	// For anything else Windows has a text of its own.
	for (const Reason &r : reasons)
		if (r.status == key)
			return giveText(r.text, text);
	return S_OK;
}
