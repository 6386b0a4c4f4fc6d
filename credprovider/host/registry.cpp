#include "registry.h"

static const wchar_t authentication[] = L"Software\\Microsoft\\Windows\\CurrentVersion\\Authentication\\";

// readText returns the string of a value, "" when there is none.
static std::wstring readText(HKEY root, const std::wstring &path, const wchar_t *value)
{
	wchar_t text[1024];
	DWORD size = sizeof text;
	// Expands REG_EXPAND_SZ, as COM does.
	if (RegGetValueW(root, path.c_str(), value, RRF_RT_REG_SZ, nullptr, text, &size) != ERROR_SUCCESS)
		return L"";
	return text;
}

// checkServer is what COM and the documentation want of the class: a full path to
// a file that is there, and a threading model that LogonUI's thread can use.
static void checkServer(const std::wstring &key, const Registered &r)
{
	std::string id = guidText(r.clsid);
	if (r.dll.size() < 3 || r.dll[1] != L':' || r.dll[2] != L'\\')
		breach("%s: InprocServer32 is not a full path: %s", id.c_str(), utf8(r.dll.c_str()).c_str());
	else if (GetFileAttributesW(r.dll.c_str()) == INVALID_FILE_ATTRIBUTES)
		breach("%s: InprocServer32 names a file that is not there: %s", id.c_str(), utf8(r.dll.c_str()).c_str());
	std::wstring model = readText(HKEY_LOCAL_MACHINE, key, L"ThreadingModel");
	if (model != L"Apartment" && model != L"Both")
		breach("%s: ThreadingModel is \"%s\"", id.c_str(), utf8(model.c_str()).c_str());
}

static std::vector<Registered> registered(const wchar_t *kind)
{
	std::vector<Registered> list;
	std::wstring path = std::wstring(authentication) + kind;
	HKEY key;
	if (RegOpenKeyExW(HKEY_LOCAL_MACHINE, path.c_str(), 0, KEY_READ, &key) != ERROR_SUCCESS)
		return list;
	wchar_t name[64];
	for (DWORD i = 0, n = 64; RegEnumKeyExW(key, i, name, &n, nullptr, nullptr, nullptr, nullptr) == ERROR_SUCCESS; i++, n = 64) {
		Registered r;
		if (FAILED(CLSIDFromString(name, &r.clsid)))
			continue;
		std::wstring own = path + L"\\" + name;
		DWORD disabled = 0, size = sizeof disabled;
		RegGetValueW(HKEY_LOCAL_MACHINE, own.c_str(), L"Disabled", RRF_RT_REG_DWORD, nullptr, &disabled, &size);
		if (disabled == 1)
			continue;
		r.name = readText(HKEY_LOCAL_MACHINE, own, nullptr);
		std::wstring server = std::wstring(L"Software\\Classes\\CLSID\\") + name + L"\\InprocServer32";
		r.dll = readText(HKEY_LOCAL_MACHINE, server, nullptr);
		if (!r.dll.empty())
			checkServer(server, r);
		list.push_back(r);
	}
	RegCloseKey(key);
	return list;
}

std::vector<Registered> registeredProviders() { return registered(L"Credential Providers"); }
std::vector<Registered> registeredFilters() { return registered(L"Credential Provider Filters"); }
