#define _GNU_SOURCE

#include "agent.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "platform.h"

struct hc_client {
	hc_tick tick;
	void *arg;
	char script[256], word[64];
	const char *at;
	uint32_t prompt;
	bool answered, is_password;
	char answer[HC_ANSWER_MAX + 1];
	sallyport_login_v1_Directive directive;
	const char *failure;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static const char *const *scripts;
static unsigned phones; /* answers that no login has taken */
static int open_clients, cancels;
static sallyport_login_v1_Begin last;

void agent_play(const char *const *s)
{
	pthread_mutex_lock(&lock);
	scripts = s;
	phones = 0;
	cancels = 0;
	memset(&last, 0, sizeof(last));
	pthread_mutex_unlock(&lock);
}

void agent_phone(void)
{
	pthread_mutex_lock(&lock);
	phones++;
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&lock);
}

void agent_seen(sallyport_login_v1_Begin *begin, int *opened, int *cancelled)
{
	pthread_mutex_lock(&lock);
	if (begin != NULL)
		*begin = last;
	if (opened != NULL)
		*opened = open_clients;
	if (cancelled != NULL)
		*cancelled = cancels;
	pthread_mutex_unlock(&lock);
}

struct hc_client *hc_new(hc_tick tick, void *arg)
{
	struct hc_client *c = calloc(1, sizeof(*c));

	if (c == NULL)
		abort();
	c->tick = tick;
	c->arg = arg;
	c->failure = "";
	pthread_mutex_lock(&lock);
	open_clients++;
	pthread_mutex_unlock(&lock);
	return c;
}

static enum hc_status failed(struct hc_client *c, enum hc_status status, const char *why)
{
	c->failure = why;
	return status;
}

/* The next word of the script; "" behind the last. */
static const char *next_word(struct hc_client *c)
{
	size_t n = strcspn(c->at, " ");

	(void)snprintf(c->word, sizeof(c->word), "%.*s", (int)n, c->at);
	c->at += n;
	c->at += strspn(c->at, " ");
	return c->word;
}

enum hc_status hc_connect(struct hc_client *c, const char *address, int timeout_ms)
{
	(void)address;
	(void)timeout_ms;
	pthread_mutex_lock(&lock);
	if (scripts != NULL && *scripts != NULL)
		(void)snprintf(c->script, sizeof(c->script), "%s", *scripts++);
	else
		strcpy(c->script, "absent");
	pthread_mutex_unlock(&lock);
	c->at = c->script;
	if (strcmp(c->at, "absent") == 0)
		return failed(c, HC_AGENT_ABSENT, "nobody listens");
	if (strcmp(c->at, "full") == 0)
		return failed(c, HC_TIMEOUT, "no room");
	return HC_OK;
}

enum hc_status hc_begin(struct hc_client *c, const sallyport_login_v1_Begin *begin)
{
	(void)c;
	pthread_mutex_lock(&lock);
	last = *begin;
	pthread_mutex_unlock(&lock);
	return HC_OK;
}

/* One moment of a wait; why there is no other. */
static enum hc_status moment(struct hc_client *c, int64_t until)
{
	struct timespec t;

	if (c->tick != NULL && c->tick(c->arg))
		return HC_CANCELLED;
	if (hc_now_ms() >= until)
		return failed(c, HC_TIMEOUT, "the agent did not answer in time");
	(void)clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec += 2000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_sec++;
		t.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&lock);
	(void)pthread_cond_timedwait(&changed, &lock, &t);
	pthread_mutex_unlock(&lock);
	return HC_OK;
}

static bool take_phone(void)
{
	bool answered;

	pthread_mutex_lock(&lock);
	answered = phones > 0;
	if (answered)
		phones--;
	pthread_mutex_unlock(&lock);
	return answered;
}

#define SAY(field, words) \
	((field).size = (pb_size_t)strlen(words), memcpy((field).bytes, (words), strlen(words)))

static enum hc_status verdict(struct hc_client *c, sallyport_login_v1_Verdict_Decision decision, const char *reason)
{
	sallyport_login_v1_Verdict *v = &c->directive.directive.verdict;

	c->directive.which_directive = sallyport_login_v1_Directive_verdict_tag;
	v->decision = decision;
	SAY(v->reason, reason);
	if (decision == sallyport_login_v1_Verdict_Decision_DECISION_DENY && strcmp(reason, "no_text") != 0)
		SAY(v->text, "That is not right.");
	return HC_OK;
}

enum hc_status hc_next(struct hc_client *c, int timeout_ms, const sallyport_login_v1_Directive **directive)
{
	int64_t until = hc_now_ms() + timeout_ms;

	*directive = NULL;
	memset(&c->directive, 0, sizeof(c->directive));
	for (;;) {
		const char *before = c->at, *w = next_word(c);
		enum hc_status status;

		if (strncmp(w, "prompt", 6) == 0 || strcmp(w, "visible") == 0) {
			sallyport_login_v1_Prompt *p = &c->directive.directive.prompt;

			c->directive.which_directive = sallyport_login_v1_Directive_prompt_tag;
			p->id = ++c->prompt;
			p->echo = strcmp(w, "visible") == 0 ? sallyport_login_v1_Prompt_Echo_ECHO_VISIBLE
							    : sallyport_login_v1_Prompt_Echo_ECHO_SECRET;
			p->empty_allowed = strcmp(w, "prompt0") == 0;
			SAY(p->text, "Code from your authenticator app: ");
		} else if (strcmp(w, "ring") == 0) {
			sallyport_login_v1_Waiting *waiting = &c->directive.directive.waiting;

			c->directive.which_directive = sallyport_login_v1_Directive_waiting_tag;
			waiting->number = 42;
			waiting->expires_in_ms = 60000;
			SAY(waiting->device, "Pixel 8");
		} else if (strcmp(w, "notice") == 0 || strcmp(w, "qr") == 0) {
			sallyport_login_v1_Notice *n = &c->directive.directive.notice;

			c->directive.which_directive = sallyport_login_v1_Directive_notice_tag;
			n->kind = strcmp(w, "qr") == 0 ? sallyport_login_v1_Notice_Kind_KIND_QR
						       : sallyport_login_v1_Notice_Kind_KIND_INFO;
			SAY(n->text, strcmp(w, "qr") == 0 ? "\xe2\x96\x88\n\xe2\x96\x80" : "Your phone cannot be reached.");
		} else if (strcmp(w, "close") == 0) {
			c->directive.which_directive = sallyport_login_v1_Directive_close_prompt_tag;
			c->directive.directive.close_prompt.id = c->prompt;
		} else if (strcmp(w, "allow") == 0) {
			(void)verdict(c, sallyport_login_v1_Verdict_Decision_DECISION_ALLOW, "code_accepted");
		} else if (strcmp(w, "skip") == 0) {
			(void)verdict(c, sallyport_login_v1_Verdict_Decision_DECISION_SKIP, "not_asked");
		} else if (strcmp(w, "zero") == 0) {
			(void)verdict(c, sallyport_login_v1_Verdict_Decision_DECISION_UNSPECIFIED, "");
		} else if (strncmp(w, "deny:", 5) == 0) {
			(void)verdict(c, sallyport_login_v1_Verdict_Decision_DECISION_DENY, w + 5);
		} else if (w[0] == '=' && c->answered) {
			bool right = strcmp(w, "=?") == 0 ? c->is_password : !c->is_password && strcmp(w + 1, c->answer) == 0;

			c->answered = false;
			if (!right)
				return failed(c, HC_FAILED, "that is not the answer of the script");
			continue;
		} else if (strcmp(w, "phone") == 0 && take_phone()) {
			continue;
		} else if (w[0] == '=' || strcmp(w, "phone") == 0 || strcmp(w, "silence") == 0) {
			c->at = before;
			if ((status = moment(c, until)) != HC_OK)
				return status;
			continue;
		} else {
			return failed(c, HC_FAILED, "the agent closed the connection without a verdict");
		}
		*directive = &c->directive;
		return HC_OK;
	}
}

static enum hc_status take(struct hc_client *c, uint32_t id, const char *text, size_t len, bool is_password)
{
	if (id != c->prompt || c->answered || len > HC_ANSWER_MAX)
		return failed(c, HC_FAILED, "an answer to no question");
	c->answered = true;
	c->is_password = is_password;
	if (len > 0)
		memcpy(c->answer, text, len);
	c->answer[len] = '\0';
	return HC_OK;
}

enum hc_status hc_answer(struct hc_client *c, uint32_t id, const char *text, size_t len)
{
	return take(c, id, text, len, false);
}

enum hc_status hc_answer_is_password(struct hc_client *c, uint32_t id)
{
	return take(c, id, NULL, 0, true);
}

void hc_cancel(struct hc_client *c)
{
	(void)c;
	pthread_mutex_lock(&lock);
	cancels++;
	pthread_mutex_unlock(&lock);
}

const char *hc_failure(const struct hc_client *c)
{
	return c->failure;
}

const char *hc_agent_message(const struct hc_client *c)
{
	(void)c;
	return "";
}

void hc_free(struct hc_client *c)
{
	if (c == NULL)
		return;
	pthread_mutex_lock(&lock);
	open_clients--;
	pthread_mutex_unlock(&lock);
	free(c);
}

int64_t hc_now_ms(void)
{
	struct timespec now;

	if (clock_gettime(CLOCK_MONOTONIC, &now) != 0)
		return -1;
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void hc_wipe(void *p, size_t n)
{
	explicit_bzero(p, n);
}
