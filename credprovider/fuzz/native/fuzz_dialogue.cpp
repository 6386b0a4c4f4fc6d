// libFuzzer plays the agent: each directive is two bytes of length and its protobuf.
// Only ALLOW and SKIP let anybody in, and every text ends.
#include "dialogue.h"

#include <pb_decode.h>
#include <stdlib.h>
#include <string.h>

static void check(bool condition)
{
	if (!condition)
		abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	bool allowed = false, over = false;
	int64_t now = 0;
	Dialogue d;

	while (size >= 2) {
		static sallyport_login_v1_Directive directive;
		size_t length = static_cast<size_t>(data[0]) << 8 | data[1];

		data += 2, size -= 2;
		if (length > size)
			length = size;
		pb_istream_t in = pb_istream_from_buffer(data, length);
		data += length, size -= length;
		if (!pb_decode(&in, sallyport_login_v1_Directive_fields, &directive))
			break;
		if (!over && directive.which_directive == sallyport_login_v1_Directive_verdict_tag) {
			uint32_t decision; // any number, which an enum of C++ may not have
			memcpy(&decision, &directive.directive.verdict.decision, sizeof decision);
			allowed = decision == sallyport_login_v1_Verdict_Decision_DECISION_ALLOW ||
				  decision == sallyport_login_v1_Verdict_Decision_DECISION_SKIP;
		}
		d.take(directive, now);
		now += 1000;
		over = d.over();
		check((d.stage == Stage::Allowed) == (allowed && over));
		check(strnlen(d.text, sizeof d.text) < sizeof d.text && strnlen(d.notice, sizeof d.notice) < sizeof d.notice &&
		      strnlen(d.device, sizeof d.device) < sizeof d.device);
		check(d.phoneMs(now) <= Dialogue::phoneMaxMs);
		if (d.stage == Stage::Asking && length % 2 == 0)
			d.answered();
	}
	return 0;
}
