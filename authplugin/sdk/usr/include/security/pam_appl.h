/*
 * What programs and modules call of OpenPAM (pam(3)), the part that the module
 * uses. For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_PAM_APPL_H
#define SALLYPORT_SDK_PAM_APPL_H

#include <security/pam_constants.h>

typedef struct pam_handle pam_handle_t;

struct pam_message {
	int msg_style;
	char *msg;
};

struct pam_response {
	char *resp;
	int resp_retcode;
};

struct pam_conv {
	int (*conv)(int count, const struct pam_message **messages, struct pam_response **responses, void *data);
	void *appdata_ptr;
};

int pam_get_item(const pam_handle_t *pamh, int item, const void **value);
const char *pam_getenv(pam_handle_t *pamh, const char *name);
const char *pam_strerror(const pam_handle_t *pamh, int error);

#endif
