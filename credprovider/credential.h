// One tile: a user, or "Other user".
//
//	the tile        shows                                    submit
//	Password        user name (other user), password         begins a login
//	Code            what the agent asks, with the number     answers it; without a code:
//	                for the phone; a field for a code        asks the phone again
//	Change          the password, and a new one twice        changes it
//
// Connect waits for the agent, with a text and a way to cancel, and GetSerialization
// brings the tile up to date: only there, and in what the screen calls otherwise, is the
// screen told anything, as its events belong to its thread. A host that knows no Connect
// gets the same from GetSerialization, which then waits for the agent itself.
//
// Nobody waits for a person but the login, which listens on its own thread while the
// tile is looked at. When the phone was answered, or whatever else the agent says then,
// LogonUI is asked to look again: an approval logs in by itself. So nothing depends on
// when LogonUI lets one cancel Connect, and on what it does then, which is nowhere
// written.
#pragma once

#include "account.h"
#include "com.h"
#include "login.h"
#include "notifier.h"
#include "secret.h"
#include "settings.h"

#include <credentialprovider.h>

enum FieldId : DWORD {
	fieldLogo,
	fieldLabel,
	fieldHeading,
	fieldUser,
	fieldPassword,
	fieldStatus,
	fieldCode,
	fieldHiddenCode,
	fieldNewPassword,
	fieldRepeat,
	fieldSubmit,
	fieldCount,
};

struct FieldInfo {
	CREDENTIAL_PROVIDER_FIELD_TYPE type;
	const char *label;
	const GUID *meaning; // nullptr: none that Windows knows
};

extern const FieldInfo fields[fieldCount];

class Credential final : public ICredentialProviderCredential2,
			 public IConnectableCredentialProviderCredential,
			 public ICredentialProviderCredentialWithFieldOptions,
			 public Heap {
public:
	struct Owner {
		wchar_t sid[Settings::sidMax + 1]; // empty: the tile is "Other user"
		Account account;
		wchar_t shown[256]; // the name for the heading
	};
	// Places that names without a domain belong to.
	struct Home {
		wchar_t domain[Account::domainMax + 1];
		wchar_t computer[Account::domainMax + 1];
	};

	// make gives nullptr when memory is short.
	static Ref<Credential> make(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags, const Owner &owner, const Home &home,
				    const Ref<Settings> &settings, const Ref<Notifier> &notifier);

	const Owner &whose() const { return owner; }
	bool isOther() const { return owner.sid[0] == 0; }

	// fill types name and password for the person; submit says that it shall log in
	// with them at once, which it does once.
	void fill(const Account &account, Password &password, bool submit);
	// refresh brings the tile up to date before the screen asks for it again.
	void refresh();
	// submits says whether LogonUI shall log in with this tile by itself.
	bool submits();
	bool inLogin();

	// IUnknown
	IFACEMETHODIMP QueryInterface(REFIID iid, void **out) override;
	IFACEMETHODIMP_(ULONG) AddRef() override { return count.add(); }
	IFACEMETHODIMP_(ULONG) Release() override;

	// ICredentialProviderCredential
	IFACEMETHODIMP Advise(ICredentialProviderCredentialEvents *given) override;
	IFACEMETHODIMP UnAdvise() override;
	IFACEMETHODIMP SetSelected(BOOL *autoLogon) override;
	IFACEMETHODIMP SetDeselected() override;
	IFACEMETHODIMP GetFieldState(DWORD field, CREDENTIAL_PROVIDER_FIELD_STATE *state, CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE *interactive) override;
	IFACEMETHODIMP GetStringValue(DWORD field, LPWSTR *text) override;
	IFACEMETHODIMP GetBitmapValue(DWORD field, HBITMAP *bitmap) override;
	IFACEMETHODIMP GetCheckboxValue(DWORD field, BOOL *checked, LPWSTR *label) override;
	IFACEMETHODIMP GetComboBoxValueCount(DWORD field, DWORD *items, DWORD *selected) override;
	IFACEMETHODIMP GetComboBoxValueAt(DWORD field, DWORD item, LPWSTR *text) override;
	IFACEMETHODIMP GetSubmitButtonValue(DWORD field, DWORD *beside) override;
	IFACEMETHODIMP SetStringValue(DWORD field, LPCWSTR text) override;
	IFACEMETHODIMP SetCheckboxValue(DWORD field, BOOL checked) override;
	IFACEMETHODIMP SetComboBoxSelectedValue(DWORD field, DWORD item) override;
	IFACEMETHODIMP CommandLinkClicked(DWORD field) override;
	IFACEMETHODIMP GetSerialization(CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE *response, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization,
					LPWSTR *text, CREDENTIAL_PROVIDER_STATUS_ICON *icon) override;
	IFACEMETHODIMP ReportResult(NTSTATUS status, NTSTATUS substatus, LPWSTR *text, CREDENTIAL_PROVIDER_STATUS_ICON *icon) override;

	// ICredentialProviderCredential2
	IFACEMETHODIMP GetUserSid(LPWSTR *sid) override;

	// IConnectableCredentialProviderCredential
	IFACEMETHODIMP Connect(IQueryContinueWithStatus *host) override;
	IFACEMETHODIMP Disconnect() override;

	// ICredentialProviderCredentialWithFieldOptions
	IFACEMETHODIMP GetFieldOptions(DWORD field, CREDENTIAL_PROVIDER_CREDENTIAL_FIELD_OPTIONS *options) override;

private:
	enum class Face : uint8_t { Password, Code, Change };

	// A notice and a prompt, each with all that it says.
	enum : size_t { statusMax = 2 * Dialogue::textMax + 1 };

	struct State {
		CREDENTIAL_PROVIDER_FIELD_STATE state;
		CREDENTIAL_PROVIDER_FIELD_INTERACTIVE_STATE interactive;
	};

	Credential() = default;
	~Credential() = default;

	// What a submit does: Connect's part, on whatever thread that is.
	void submit(IQueryContinueWithStatus *host);
	void beginLogin();
	void answerPrompt(const Dialogue &d);
	void change(IQueryContinueWithStatus *host);
	Named whoseLogin(Account *account) const;
	void watch(IQueryContinueWithStatus *host);
	void stopLogin();

	// What the screen's thread does.
	HRESULT finish(CREDENTIAL_PROVIDER_GET_SERIALIZATION_RESPONSE *response, CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization, LPWSTR *text,
		       CREDENTIAL_PROVIDER_STATUS_ICON *icon);
	HRESULT pack(CREDENTIAL_PROVIDER_CREDENTIAL_SERIALIZATION *serialization);
	void showPrompt(const Dialogue &d);
	void turn(Face to, const char *status);
	void reset();
	void clearTyped();
	void tellTyped();
	State stateOf(DWORD field) const;
	DWORD submitBeside() const;
	void tell();
	void tellText(DWORD field, const char *text);

	Count count;
	CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus = CPUS_INVALID;
	DWORD flags = 0;
	Owner owner = {};
	Home home = {};
	Ref<Settings> settings;
	Ref<Notifier> notifier;

	// The screen's thread only: what it has been told, and how to tell it.
	// older: the screen made its new tile before it let go of the old one.
	Ref<ICredentialProviderCredentialEvents> events, older;
	bool lastWord = false; // the status is why a login ended, and nobody has read it
	Face face = Face::Password; // set under the lock
	bool visibleCode = true;    // the open prompt shows what is typed
	bool userFilled = false;    // nobody has to type the name first
	char status[statusMax + 1] = {};
	State told[fieldCount] = {};
	DWORD toldBeside = fieldPassword;

	// Connect may be on another thread than the rest.
	Lock lock;
	Secret<accountNameMax> user;
	Password password, newPassword, repeat;
	Code code;
	bool longUser = false, longPassword = false, longNew = false, longCode = false;
	Ref<Login> login;
	const char *problem = nullptr; // what stopped the submit before the agent was asked
	bool connected = false;        // Connect did this submit's work
	bool gone = false;             // the person has turned away: nothing begins
	bool autoSubmit = false;
	bool changed = false; // the password, by this submit
	int64_t unanswered = -1; // the number for which Enter was pressed too early
};
