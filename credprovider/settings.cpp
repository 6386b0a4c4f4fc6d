#include "settings.h"

#include <sddl.h>
#include <stdio.h>
#include <string.h>
#include <wincred.h>

#include "place.h"
#include "text.h"

namespace {

constexpr wchar_t policies[] = L"SOFTWARE\\Policies\\Sallyport\\CredentialProvider";
constexpr wchar_t installed[] = L"SOFTWARE\\Sallyport\\CredentialProvider";
constexpr char defaultPipe[] = "\\\\.\\pipe\\ProtectedPrefix\\Administrators\\sallyport\\login";

enum class Found : uint8_t { No = 0, Bad, Yes };

class Key {
public:
	Key(HKEY parent, const wchar_t *path)
	{
		// One view for all, whatever the program that loaded us.
		LSTATUS status = RegOpenKeyExW(parent, path, 0, KEY_QUERY_VALUE | KEY_ENUMERATE_SUB_KEYS | KEY_WOW64_64KEY, &key);
		if (status != ERROR_SUCCESS)
			key = nullptr;
		found = status == ERROR_SUCCESS      ? Found::Yes
			: status == ERROR_FILE_NOT_FOUND ? Found::No
							 : Found::Bad;
	}
	~Key()
	{
		if (key != nullptr)
			(void)RegCloseKey(key);
	}
	Key(const Key &) = delete;
	Key &operator=(const Key &) = delete;

	HKEY key = nullptr;
	Found found;
};

Found foundBy(LSTATUS status)
{
	return status == ERROR_SUCCESS ? Found::Yes : status == ERROR_FILE_NOT_FOUND ? Found::No : Found::Bad;
}

} // namespace

// Source is the two keys, asked in their order.
struct Settings::Source {
	Key first{HKEY_LOCAL_MACHINE, policies}, second{HKEY_LOCAL_MACHINE, installed};

	// ask calls read for each key until one has what is asked for. A key that cannot
	// be read ends it: behind it may be what somebody wanted.
	template <class Read> Found ask(Read read) const
	{
		const Key *const keys[] = {&first, &second};
		for (const Key *k : keys) {
			Found found = k->found == Found::Yes ? read(k->key) : k->found;
			if (found != Found::No)
				return found;
		}
		return Found::No;
	}

	bool boolean(const wchar_t *name, bool otherwise) const
	{
		DWORD value = 0;
		Found found = ask([&](HKEY key) {
			DWORD size = sizeof value;
			return foundBy(RegGetValueW(key, nullptr, name, RRF_RT_REG_DWORD, nullptr, &value, &size));
		});
		return found == Found::Yes && value <= 1 ? value == 1 : otherwise;
	}

	bool text(const wchar_t *name, wchar_t *out, size_t max) const
	{
		Found found = ask([&](HKEY key) {
			DWORD size = static_cast<DWORD>((max + 1) * sizeof *out);
			return foundBy(RegGetValueW(key, nullptr, name, RRF_RT_REG_SZ, nullptr, out, &size));
		});
		return found == Found::Yes;
	}

	// list calls add for each entry: the values of the subkey, as the policy editor
	// writes them, or the lines of one value. A subkey without values is no list: a
	// policy that was taken back may leave one behind.
	template <class Add> void list(const wchar_t *name, Add add) const
	{
		(void)ask([&](HKEY key) {
			Found inKey = listOfKey(key, name, add);
			Found inValue = listOfValue(key, name, add);
			return inKey == Found::No ? inValue : inKey;
		});
	}

private:
	template <class Add> static Found listOfKey(HKEY parent, const wchar_t *name, Add add)
	{
		Key list(parent, name);
		Found found = list.found == Found::Yes ? Found::No : list.found;

		for (DWORD i = 0; list.found == Found::Yes; i++) {
			wchar_t valueName[256];
			wchar_t value[256];
			DWORD nameLength = ARRAYSIZE(valueName), size = sizeof value, type = 0;
			LSTATUS status = RegEnumValueW(list.key, i, valueName, &nameLength, nullptr, &type, reinterpret_cast<BYTE *>(value), &size);

			if (status == ERROR_NO_MORE_ITEMS)
				break;
			found = Found::Yes;
			// What cannot be an entry is none; an unreadable list ends here.
			if (status == ERROR_MORE_DATA)
				continue;
			if (status != ERROR_SUCCESS)
				return Found::Bad;
			if (type != REG_SZ || size % sizeof *value != 0 || size >= sizeof value)
				continue;
			value[size / sizeof *value] = 0; // the registry does not promise one
			add(value);
		}
		return found;
	}

	template <class Add> static Found listOfValue(HKEY key, const wchar_t *name, Add add)
	{
		enum : DWORD { sizeMax = 16 * 1024 };
		DWORD size = sizeMax;
		wchar_t *lines = static_cast<wchar_t *>(calloc(1, sizeMax));
		Found found = Found::Bad;

		if (lines != nullptr)
			// RegGetValue ends it with the two NULs that a list has.
			found = foundBy(RegGetValueW(key, nullptr, name, RRF_RT_REG_MULTI_SZ, nullptr, lines, &size));
		if (found == Found::Yes)
			for (const wchar_t *line = lines; *line != 0; line += wcslen(line) + 1)
				add(line);
		free(lines);
		return found;
	}
};

void Settings::addAllowed(const wchar_t *text)
{
	CLSID clsid;
	if (allowCount < listMax && SUCCEEDED(CLSIDFromString(text, &clsid)) && *text == L'{')
		allow[allowCount++] = clsid;
}

void Settings::addBreakGlass(const wchar_t *text)
{
	PSID sid = nullptr;
	wchar_t *spelled = nullptr;

	// Windows' own spelling, to compare with.
	if (breakGlassCount < listMax && ConvertStringSidToSidW(text, &sid) && ConvertSidToStringSidW(sid, &spelled) &&
	    wcslen(spelled) <= sidMax)
		wcscpy(breakGlass[breakGlassCount++], spelled);
	(void)LocalFree(spelled);
	(void)LocalFree(sid);
}

Ref<Settings> Settings::read()
{
	wchar_t text[pipeMax + 1];
	Settings *s = new Settings;

	if (s == nullptr)
		return {};
	Source source;
	s->enabled = source.boolean(L"enabled", true);
	s->logon = source.boolean(L"logon", true);
	s->unlock = source.boolean(L"unlock", true);
	s->credui = source.boolean(L"credui", true);
	source.list(L"allow", [s](const wchar_t *entry) { s->addAllowed(entry); });
	source.list(L"break_glass", [s](const wchar_t *entry) { s->addBreakGlass(entry); });
	if (source.text(L"message", text, messageMax)) {
		char raw[sizeof s->messageText] = {};
		(void)WideCharToMultiByte(CP_UTF8, 0, text, -1, raw, sizeof raw - 1, nullptr, nullptr);
		text_for_person(s->messageText, sizeof s->messageText, reinterpret_cast<const uint8_t *>(raw), strlen(raw));
	}
	if (!source.text(L"pipe", text, pipeMax) || text[0] == 0 ||
	    WideCharToMultiByte(CP_UTF8, WC_ERR_INVALID_CHARS, text, -1, s->pipeName, sizeof s->pipeName, nullptr, nullptr) == 0)
		memcpy(s->pipeName, defaultPipe, sizeof defaultPipe);
	return Ref<Settings>::adopt(s);
}

bool Settings::guards(CREDENTIAL_PROVIDER_USAGE_SCENARIO cpus, DWORD flags) const
{
	if (!enabled)
		return false;
	switch (cpus) {
	case CPUS_LOGON:
		// Windows 10 and later mostly unlock by it too, and do not say so (Remarks of
		// CREDENTIAL_PROVIDER_USAGE_SCENARIO).
		return logon || unlock;
	case CPUS_UNLOCK_WORKSTATION:
		return unlock;
	case CPUS_CREDUI:
		// Most programs ask for what is good on another computer, or plain text for
		// a purpose of their own; the agent can check neither. What is asked of a
		// user of this one says so, or comes from Windows itself. With one package
		// only (Windows Hello, security keys) we may have no tile to offer, and the
		// prompt is the program's own affair.
		if (!credui || (flags & CREDUIWIN_GENERIC) != 0)
			return false;
		return runsAsSystem() || ((flags & (CREDUIWIN_ENUMERATE_ADMINS | CREDUIWIN_ENUMERATE_CURRENT_USER)) != 0 &&
					  (flags & CREDUIWIN_AUTHPACKAGE_ONLY) == 0);
	default:
		return false;
	}
}

bool Settings::allows(const CLSID &provider) const
{
	for (size_t i = 0; i < allowCount; i++)
		if (IsEqualGUID(allow[i], provider))
			return true;
	return false;
}

bool Settings::isBreakGlass(const wchar_t *sid) const
{
	for (size_t i = 0; i < breakGlassCount; i++)
		if (wcscmp(breakGlass[i], sid) == 0)
			return true;
	return false;
}
