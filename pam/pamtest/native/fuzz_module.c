/*
 * libFuzzer plays the agent against the whole module; stubpam.c looks at what
 * the module shows and logs.
 */
#define _GNU_SOURCE /* memmem */

#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "stubpam.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum stub_answer answers[] = { STUB_TYPES, STUB_EMPTY, STUB_PASSWORD, STUB_FAILS };
	static const char *argv[] = { "socket=/memory", "timeout=1", "debug" };
	uint8_t how = input_read(data, size);
	struct pam_handle pam = {
		.answer = answers[(how & INPUT_ANSWERS) >> 4],
		.canary_known = size > 0 && memmem(data, size, STUB_CANARY, strlen(STUB_CANARY)) != NULL,
	};
	int flags = how & INPUT_SILENT ? (int)PAM_SILENT : 0;
	int code;

	if (how & INPUT_ACCOUNT) {
		code = pam_sm_acct_mgmt(&pam, flags, 3, argv);
		if (code != PAM_IGNORE && code != PAM_PERM_DENIED)
			abort();
		if (pam.prompts > 0)
			abort();
	} else {
		code = pam_sm_authenticate(&pam, flags, 3, argv);
		if (code != PAM_SUCCESS && code != PAM_IGNORE && code != PAM_AUTH_ERR)
			abort();
		/* Whoever gave no answer that is one proves no factor after it. */
		if (pam.answer == STUB_FAILS && pam.prompts > 0 && code != PAM_AUTH_ERR)
			abort();
		if (code == PAM_AUTH_ERR && pam.logged == 0)
			abort();
		/* Account repeats it without asking again: the agent is not there. */
		memory_agent.len = 0;
		if (pam_sm_acct_mgmt(&pam, flags, 3, argv) !=
		    (code == PAM_AUTH_ERR ? PAM_PERM_DENIED : code))
			abort();
	}
	stub_end(&pam);
	return 0;
}
