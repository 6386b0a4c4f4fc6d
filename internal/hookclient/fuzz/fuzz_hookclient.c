/* libFuzzer plays the agent against the client alone. */
#include <stdlib.h>
#include <string.h>

#include "hookclient.h"
#include "input.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	sallyport_login_v1_Begin begin = sallyport_login_v1_Begin_init_zero;
	const sallyport_login_v1_Directive *d = NULL;
	enum hc_status status;
	struct hc_client *c;
	uint8_t how = input_read(data, size);

	begin.protocol_version = HC_PROTOCOL_VERSION;
	begin.user.size = 5;
	memcpy(begin.user.bytes, "alice", 5);

	c = hc_new(NULL, NULL);
	if (c == NULL)
		return 0;
	status = hc_connect(c, "memory", 1000);
	if (status == HC_OK)
		status = hc_begin(c, &begin);
	while (status == HC_OK && (status = hc_next(c, 1000, &d)) == HC_OK) {
		if (d->which_directive == sallyport_login_v1_Directive_verdict_tag) {
			/* Nothing but these three may ever come out. */
			switch (d->directive.verdict.decision) {
			case sallyport_login_v1_Verdict_Decision_DECISION_ALLOW:
			case sallyport_login_v1_Verdict_Decision_DECISION_DENY:
			case sallyport_login_v1_Verdict_Decision_DECISION_SKIP:
				break;
			default:
				abort();
			}
			break;
		}
		if (d->which_directive != sallyport_login_v1_Directive_prompt_tag)
			continue;
		switch (how & INPUT_ANSWERS) {
		case INPUT_ANSWER_PASSWORD:
			status = hc_answer_is_password(c, d->directive.prompt.id);
			break;
		case INPUT_ANSWER_FAILS:
			hc_cancel(c);
			break;
		default:
			status = hc_answer(c, d->directive.prompt.id, "123456", 6);
		}
	}
	/* A failure that the log cannot explain is one that nobody can mend. */
	if (status == HC_FAILED && hc_failure(c)[0] == '\0')
		abort();
	hc_free(c);
	return 0;
}
