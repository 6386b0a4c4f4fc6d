#include "dialogue.h"

#include <stdio.h>
#include <string.h>

#include "platform.h"
#include "text.h"
#include "texts.h"

/* The longest that a phone rings, whatever the agent says. */
static const int64_t phone_max_ms = 5 * 60 * 1000;

bool dialogue_over(const struct dialogue *d)
{
	return d->stage == STAGE_ALLOWED || d->stage == STAGE_REFUSED;
}

/* A prompt's text is made for a terminal, where the answer follows it. */
static void trim_end(char *text)
{
	size_t n = strlen(text);

	while (n > 0 && (text[n - 1] == ' ' || text[n - 1] == ':' || text[n - 1] == '\n'))
		n--;
	text[n] = '\0';
}

void dialogue_take(struct dialogue *d, const sallyport_login_v1_Directive *directive, int64_t now)
{
	if (dialogue_over(d))
		return;
	switch (directive->which_directive) {
	case sallyport_login_v1_Directive_prompt_tag: {
		const sallyport_login_v1_Prompt *p = &directive->directive.prompt;

		d->stage = STAGE_ASKING;
		d->prompt = p->id;
		d->question++;
		d->visible = p->echo == sallyport_login_v1_Prompt_Echo_ECHO_VISIBLE;
		d->may_be_empty = p->empty_allowed;
		text_for_person(d->text, sizeof(d->text), p->text.bytes, p->text.size);
		trim_end(d->text);
		return;
	}
	case sallyport_login_v1_Directive_waiting_tag: {
		const sallyport_login_v1_Waiting *w = &directive->directive.waiting;
		int64_t ms = w->expires_in_ms;

		d->ringing = true;
		d->number = w->number;
		d->until = now + (ms < phone_max_ms ? ms : phone_max_ms);
		text_for_person(d->phone, sizeof(d->phone), w->device.bytes, w->device.size);
		return;
	}
	case sallyport_login_v1_Directive_notice_tag: {
		const sallyport_login_v1_Notice *n = &directive->directive.notice;

		if (n->kind == sallyport_login_v1_Notice_Kind_KIND_QR)
			text_for_person(d->qr, sizeof(d->qr), n->text.bytes, n->text.size);
		else
			text_for_person(d->notice, sizeof(d->notice), n->text.bytes, n->text.size);
		return;
	}
	case sallyport_login_v1_Directive_close_prompt_tag:
		if (d->stage == STAGE_ASKING && directive->directive.close_prompt.id == d->prompt)
			dialogue_answered(d);
		return;
	case sallyport_login_v1_Directive_verdict_tag: {
		const sallyport_login_v1_Verdict *v = &directive->directive.verdict;
		bool allowed = v->decision == sallyport_login_v1_Verdict_Decision_DECISION_ALLOW ||
			       v->decision == sallyport_login_v1_Verdict_Decision_DECISION_SKIP;
		bool answered = d->answered;

		dialogue_answered(d);
		d->answered = answered;
		d->stage = allowed ? STAGE_ALLOWED : STAGE_REFUSED;
		text_for_person(d->text, sizeof(d->text), v->text.bytes, v->text.size);
		(void)text_for_log(d->reason, sizeof(d->reason), v->reason.bytes, v->reason.size);
		return;
	}
	default:
		dialogue_refuse(d, "");
	}
}

void dialogue_answered(struct dialogue *d)
{
	d->stage = STAGE_WORKING;
	d->prompt = 0;
	d->ringing = false;
	d->answered = true;
	/* A prompt may show a new key, or recovery codes. */
	hc_wipe(d->text, sizeof(d->text));
	hc_wipe(d->notice, sizeof(d->notice));
	hc_wipe(d->qr, sizeof(d->qr));
}

void dialogue_refuse(struct dialogue *d, const char *text)
{
	if (dialogue_over(d))
		return;
	dialogue_answered(d);
	d->answered = false;
	d->stage = STAGE_REFUSED;
	(void)snprintf(d->text, sizeof(d->text), "%s", text);
}

void dialogue_break_glass(struct dialogue *d)
{
	if (!dialogue_over(d))
		d->stage = STAGE_ALLOWED;
}

bool dialogue_may_repeat(const struct dialogue *d)
{
	/* The last three in the words of a wrong code: who is enrolled is not for a
	 * guesser to learn, and the prompt's own time was over. */
	static const char *const reasons[] = {
		"wrong_code", "code_already_used", "code_expired", "malformed_code",
		"password_typed_as_code", "not_enrolled", "unknown_user", "timed_out",
	};

	if (d->stage != STAGE_REFUSED || !d->answered)
		return false;
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		if (strcmp(d->reason, reasons[i]) == 0)
			return true;
	}
	return false;
}

void dialogue_repeat(struct dialogue *d)
{
	uint32_t question = d->question;
	char why[sizeof(d->notice)];

	memcpy(why, d->text, sizeof(why));
	hc_wipe(d, sizeof(*d));
	memcpy(d->notice, why, sizeof(d->notice));
	d->question = question;
}

/*
 * Beside a phone that rings the view says number and time in its own words, in place of
 * the agent's. What the agent says before "Type 42 on your phone ..." must not be lost,
 * such as "Not approved yet, 9 s left.": up to the time, which goes by.
 */
static void keep_remark(char *notice, size_t size, const char *text)
{
	size_t n = strcspn(text, ",.\n");

	if (strncmp(text, "Type ", 5) != 0 && n > 0)
		(void)snprintf(notice, size, "%.*s.", (int)n, text);
}

void dialogue_show(const struct dialogue *d, struct screen *s)
{
	switch (d->stage) {
	case STAGE_ASKING:
		s->kind = SCREEN_ASK;
		break;
	case STAGE_ALLOWED:
		s->kind = SCREEN_NONE;
		return;
	case STAGE_WORKING:
	case STAGE_REFUSED:
		s->kind = SCREEN_TELL;
		(void)snprintf(s->text, sizeof(s->text), "%s", d->text[0] != '\0' ? d->text : TEXT_REFUSED);
		return;
	}
	s->visible = d->visible;
	s->may_be_empty = d->may_be_empty;
	s->ringing = d->ringing;
	s->number = d->ringing ? d->number : 0;
	s->until_ms = d->ringing ? d->until : 0;
	if (d->ringing)
		memcpy(s->phone, d->phone, sizeof(s->phone));
	memcpy(s->text, d->text, sizeof(s->text));
	memcpy(s->notice, d->notice, sizeof(s->notice));
	if (d->ringing)
		keep_remark(s->notice, sizeof(s->notice), d->text);
	memcpy(s->qr, d->qr, sizeof(s->qr));
}
