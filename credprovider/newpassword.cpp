#include "newpassword.h"

#include "platform.h"
#include "texts.h"

#include <windows.h>

#include <lmaccess.h>
#include <lmerr.h>

namespace {

struct Reason {
	DWORD error;
	const char *text;
};

constexpr Reason reasons[] = {
	{ERROR_INVALID_PASSWORD, texts::wrongOld},
	{ERROR_LOGON_FAILURE, texts::wrongOld},
	{ERROR_ACCOUNT_LOCKED_OUT, texts::lockedOut},
	{ERROR_ACCESS_DENIED, texts::mayNotChange},
	{NERR_PasswordTooShort, texts::badNew},
	{ERROR_PASSWORD_RESTRICTION, texts::badNew},
	{ERROR_ILL_FORMED_PASSWORD, texts::badNew},
	{NERR_InvalidComputer, texts::noDomainForChange},
	{ERROR_NO_SUCH_DOMAIN, texts::noDomainForChange},
	{ERROR_DOMAIN_CONTROLLER_NOT_FOUND, texts::noDomainForChange},
	{ERROR_NO_LOGON_SERVERS, texts::noDomainForChange},
	{RPC_S_SERVER_UNAVAILABLE, texts::noDomainForChange},
};

// NetUserChangePassword knows no user@domain.
bool inTwoParts(const Account &account, wchar_t (&domain)[Account::domainMax + 1], wchar_t (&user)[Account::userMax + 1])
{
	union {
		SID sid;
		BYTE room[SECURITY_MAX_SID_SIZE];
	} found;
	DWORD sidSize = sizeof found, domainSize = ARRAYSIZE(domain), userSize = ARRAYSIZE(user);
	SID_NAME_USE use;

	if (account.domain[0] != 0)
		return wideCopy(domain, ARRAYSIZE(domain), account.domain, wcslen(account.domain)) &&
		       wideCopy(user, ARRAYSIZE(user), account.user, wcslen(account.user));
	if (!LookupAccountNameW(nullptr, account.user, &found.sid, &sidSize, domain, &domainSize, &use) || use != SidTypeUser)
		return false;
	domainSize = ARRAYSIZE(domain);
	return LookupAccountSidW(nullptr, &found.sid, user, &userSize, domain, &domainSize, &use);
}

} // namespace

const char *changePassword(const Account &account, const Password &old, const Password &fresh)
{
	wchar_t domain[Account::domainMax + 1], user[Account::userMax + 1];
	DWORD error;

	if (!inTwoParts(account, domain, user))
		return texts::noDomainForChange;
	error = NetUserChangePassword(domain, user, old.text(), fresh.text());
	if (error == NERR_Success)
		return nullptr;
	for (const Reason &r : reasons)
		if (r.error == error)
			return r.text;
	return texts::notChanged;
}
