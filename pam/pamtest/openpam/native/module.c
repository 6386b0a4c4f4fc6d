/*
 * The modules of macOS's policies, as far as a chain sees them. Compiled once for each:
 *
 *	NAME	"pam_tid": what the environment calls it
 *	RESULT	what its functions return, unless $NAME is a number
 *	ASKS	it takes the password (pam_opendirectory(8)), which is "correct horse"
 */
#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static int result(void)
{
	const char *value = getenv(NAME);

	return value == NULL ? RESULT : atoi(value);
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)flags;
	(void)argc;
	(void)argv;
#ifdef ASKS
	const char *user = NULL, *password = NULL;

	if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS || user == NULL)
		return PAM_AUTH_ERR;
	if (pam_get_authtok(pamh, PAM_AUTHTOK, &password, "Password:") != PAM_SUCCESS)
		return PAM_AUTH_ERR;
	if (strcmp(password, "correct horse") != 0)
		return PAM_AUTH_ERR;
#else
	(void)pamh;
#endif
	return result();
}

EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return result();
}

/* Of Apple's, only pam_deny has an opinion on credentials. */
EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return strcmp(NAME, "pam_deny") == 0 ? PAM_CRED_ERR : PAM_SUCCESS;
}
