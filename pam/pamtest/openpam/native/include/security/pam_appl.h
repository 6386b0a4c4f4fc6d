/*
 * What programs call of OpenPAM (pam_start(3), pam_end(3), pam_authenticate(3),
 * pam_setcred(3), pam_acct_mgmt(3), pam_set_item(3), pam_putenv(3)), and Apple's own
 * modules (pam_get_authtok(3), openpam_get_option(3)); beside what ours does, which
 * authplugin/sdk has.
 */
#ifndef SALLYPORT_PAMTEST_PAM_APPL_H
#define SALLYPORT_PAMTEST_PAM_APPL_H

#include_next <security/pam_appl.h>

int pam_end(pam_handle_t *pamh, int status);
int pam_authenticate(pam_handle_t *pamh, int flags);
int pam_setcred(pam_handle_t *pamh, int flags);
int pam_acct_mgmt(pam_handle_t *pamh, int flags);
int pam_set_item(pam_handle_t *pamh, int item, const void *value);
int pam_putenv(pam_handle_t *pamh, const char *pair);
int pam_get_authtok(pam_handle_t *pamh, int item, const char **token, const char *prompt);
const char *openpam_get_option(pam_handle_t *pamh, const char *option);

/* pam_start(3), with policies and modules in directories of the caller's. */
int pam_start_confdir(const char *service, const char *user, const struct pam_conv *conv, const char *confdir,
		      pam_handle_t **pamh);

#endif
