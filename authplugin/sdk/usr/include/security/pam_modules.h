/*
 * What a module of OpenPAM is (pam_sm_authenticate(3)) and calls (pam_get_user(3),
 * pam_set_data(3)), the part that ours uses. For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_PAM_MODULES_H
#define SALLYPORT_SDK_PAM_MODULES_H

#include <security/pam_appl.h>

#define PAM_EXTERN

PAM_EXTERN int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv);
PAM_EXTERN int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv);
PAM_EXTERN int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv);

int pam_get_data(const pam_handle_t *pamh, const char *name, const void **data);
int pam_set_data(pam_handle_t *pamh, const char *name, void *data,
		 void (*cleanup)(pam_handle_t *pamh, void *data, int status));
int pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt);

#endif
