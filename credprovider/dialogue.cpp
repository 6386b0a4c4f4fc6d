#include "dialogue.h"

#include <string.h>

#include "text.h"

// An enum's number, which the agent may have sent any of: in C++ to read one that has
// no name is undefined, in C, which decoded it, it is not.
template <class Enum> static uint32_t numberOf(const Enum &e)
{
	static_assert(sizeof e == sizeof(uint32_t), "as nanopb has them");
	uint32_t n;
	memcpy(&n, &e, sizeof n);
	return n;
}

// A prompt's text is made for a terminal, where the answer follows it.
static void trimEnd(char *text)
{
	size_t n = strlen(text);
	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == ':' || text[n - 1] == '\n'))
		n--;
	text[n] = '\0';
}

void Dialogue::take(const sallyport_login_v1_Directive &d, int64_t now)
{
	if (over())
		return;
	switch (d.which_directive) {
	case sallyport_login_v1_Directive_prompt_tag: {
		const sallyport_login_v1_Prompt &p = d.directive.prompt;
		stage = Stage::Asking;
		prompt = p.id;
		visible = numberOf(p.echo) == sallyport_login_v1_Prompt_Echo_ECHO_VISIBLE;
		emptyAllowed = p.empty_allowed;
		text_for_person(text, sizeof text, p.text.bytes, p.text.size);
		trimEnd(text);
		return;
	}
	case sallyport_login_v1_Directive_waiting_tag: {
		const sallyport_login_v1_Waiting &w = d.directive.waiting;
		int64_t ms = w.expires_in_ms;
		phone = true;
		number = w.number;
		phoneUntil = now + (ms < phoneMaxMs ? ms : phoneMaxMs);
		text_for_person(device, sizeof device, w.device.bytes, w.device.size);
		return;
	}
	case sallyport_login_v1_Directive_notice_tag: {
		const sallyport_login_v1_Notice &n = d.directive.notice;
		if (numberOf(n.kind) != sallyport_login_v1_Notice_Kind_KIND_QR) // we did not say that we can
			text_for_person(notice, sizeof notice, n.text.bytes, n.text.size);
		return;
	}
	case sallyport_login_v1_Directive_close_prompt_tag:
		if (stage == Stage::Asking && d.directive.close_prompt.id == prompt)
			answered();
		return;
	case sallyport_login_v1_Directive_verdict_tag: {
		const sallyport_login_v1_Verdict &v = d.directive.verdict;
		uint32_t decision = numberOf(v.decision);
		bool allowed = decision == sallyport_login_v1_Verdict_Decision_DECISION_ALLOW ||
			       decision == sallyport_login_v1_Verdict_Decision_DECISION_SKIP;
		answered();
		stage = allowed ? Stage::Allowed : Stage::Refused;
		text_for_person(text, sizeof text, v.text.bytes, v.text.size);
		return;
	}
	default:
		refuse("");
	}
}

void Dialogue::answered()
{
	stage = Stage::Working;
	prompt = 0;
	phone = false;
	hc_wipe(text, sizeof text);
	hc_wipe(notice, sizeof notice);
}

void Dialogue::refuse(const char *why)
{
	if (over())
		return;
	answered();
	stage = Stage::Refused;
	// Cut, if it must be, between characters.
	text_for_person(text, sizeof text, reinterpret_cast<const uint8_t *>(why), strlen(why));
}
