/*
 * What OpenPAM has beyond pam(3), the part that the module uses: pam_prompt(3).
 * For systems without Apple's SDK.
 */
#ifndef SALLYPORT_SDK_OPENPAM_H
#define SALLYPORT_SDK_OPENPAM_H

#include <security/pam_appl.h>

int pam_prompt(const pam_handle_t *pamh, int style, char **response, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#endif
