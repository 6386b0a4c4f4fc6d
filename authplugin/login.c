#define _GNU_SOURCE /* getentropy */

#include "login.h"

#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __APPLE__
#include <sys/random.h>
#endif
#include <unistd.h>

#include "breakglass.h"
#include "log.h"
#include "platform.h"
#include "text.h"
#include "texts.h"

#ifndef SALLYPORT_SOCKET
#define SALLYPORT_SOCKET "/var/run/sallyport/login.sock"
#endif
/* Tests have less time than people. */
#ifndef SALLYPORT_ABSENT_MS
#define SALLYPORT_ABSENT_MS (5 * 1000)
#endif
#ifndef SALLYPORT_STEP_MS
#define SALLYPORT_STEP_MS (15 * 1000)
#endif
#ifndef SALLYPORT_INTERRUPT_MS
#define SALLYPORT_INTERRUPT_MS (2 * 1000)
#endif

enum {
	CONNECT_MS = 3000,
	/* The agent may be on its way up, or away while it is updated. */
	ABSENT_MS = SALLYPORT_ABSENT_MS,
	RETRY_MS = 250,
	/* The agent's time for a step; a phone that it asks is the longest. */
	STEP_MS = SALLYPORT_STEP_MS,
	/* The agent bounds the person's time (limits.prompt_time, at most 10 min); this is
	 * for an agent that forgot, and for a window that nobody looks at. */
	PERSON_MS = 11 * 60 * 1000,
	/* How long begin may take to be invoked again. */
	INTERRUPT_MS = SALLYPORT_INTERRUPT_MS,
	/* How long authd may take to have begin's result. */
	SETTLED_MS = INTERRUPT_MS / 10,
	/* How long a verdict is good until verify takes it: the person may have to press
	 * the button, if authd does not bring begin back. */
	REDEEM_MS = 60 * 1000,
	/* All of it. */
	TOTAL_MS = 30 * 60 * 1000,
	/* How often one password is good for an answer. */
	ANSWERS = 3,
};

struct login {
	struct login *next;
	struct plugin *plugin;
	uint8_t id[SCREEN_LOGIN_SIZE];
	struct login_request request;
	char name[4 * USER_MAX + 1]; /* for the log */

	/* With the lock, as all below. NULL: destroyed, or it wants no more of this. */
	struct mechanism *begin, *verify;
	struct dialogue dialogue;
	int64_t until;
	uint32_t shown;   /* the number of the last screen */
	int64_t shown_at; /* when begin's result was set with it */
	bool stopped;
	bool interrupted; /* begin was asked for again, and has yet to come */
	bool looked_at;   /* begin came, and is for this login */
	bool break_glass;
	bool cancelled;   /* by the person */
	bool silent;      /* refused, and there is nobody to tell why */
	bool listening;   /* within hc_next while the person may answer too */

	bool has_answer, is_password;
	struct answer answer;
};

/* --- what the mechanisms ask --- */

static void *run(void *arg);

bool login_start(struct mechanism *begin, const struct login_request *request)
{
	struct plugin *p = begin->plugin;
	struct login *l = calloc(1, sizeof(*l));

	if (l == NULL)
		return false;
	l->plugin = p;
	l->request = *request;
	(void)text_for_log(l->name, sizeof(l->name), (const uint8_t *)request->who.user, strlen(request->who.user));
	l->begin = begin;
	l->looked_at = true;
	l->until = hc_now_ms() + TOTAL_MS;
	if (p->closed || getentropy(l->id, sizeof(l->id)) != 0 || !plugin_thread(p, run, l)) {
		free(l);
		return false;
	}
	l->next = p->logins;
	p->logins = l;
	begin->login = l;
	return true;
}

bool login_continues(struct login *l, const struct login_request *request)
{
	if (!l->interrupted || l->stopped || l->request.scenario != request->scenario ||
	    !who_equal(&l->request.who, &request->who))
		return false;
	l->looked_at = true;
	plugin_changed(l->plugin);
	return true;
}

void login_stop(struct login *l)
{
	l->stopped = true;
	hc_wipe(&l->answer, sizeof(l->answer));
	l->has_answer = false;
	plugin_changed(l->plugin);
}

void login_leave(struct login *l, bool destroyed)
{
	l->looked_at = false;
	/* It was us who wanted it to come back. */
	if (!destroyed && l->interrupted)
		return;
	if (l->begin != NULL)
		l->begin->login = NULL;
	l->begin = NULL;
	login_stop(l);
}

void login_stop_all(struct plugin *p)
{
	for (struct login *l = p->logins; l != NULL; l = l->next)
		login_stop(l);
}

struct login *login_find(struct plugin *p, const uint8_t id[SCREEN_LOGIN_SIZE])
{
	for (struct login *l = p->logins; l != NULL; l = l->next) {
		if (memcmp(l->id, id, sizeof(l->id)) == 0)
			return l;
	}
	return NULL;
}

bool login_verify(struct login *l, struct mechanism *verify, const struct answer *answer, bool is_password)
{
	if (l->stopped || mechanism_waits(l->verify))
		return false;
	l->verify = verify;
	if (l->begin != NULL)
		l->begin->verified = true;
	l->answer = *answer;
	l->is_password = is_password;
	l->has_answer = true;
	plugin_changed(l->plugin);
	return true;
}

void login_forget(struct plugin *p, const struct mechanism *verify)
{
	for (struct login *l = p->logins; l != NULL; l = l->next) {
		if (l->verify != verify)
			continue;
		l->verify = NULL;
		l->has_answer = false;
		hc_wipe(&l->answer, sizeof(l->answer));
	}
	plugin_changed(p);
}

const struct login_request *login_request(const struct login *l)
{
	return &l->request;
}

bool login_is_break_glass(const struct login *l)
{
	return l->break_glass;
}

/* --- the login's own thread; with the lock unless it says so --- */

static void lock(struct login *l)
{
	(void)pthread_mutex_lock(&l->plugin->lock);
}

static void unlock(struct login *l)
{
	(void)pthread_mutex_unlock(&l->plugin->lock);
}

/* Whether begin owes a result that is this login's to give: an invocation is not
 * before begin has seen whom it is about. */
static bool begin_waits(const struct login *l)
{
	return l->looked_at && mechanism_waits(l->begin);
}

/* Whether verify brings something that nobody has looked at. */
static bool wants(const struct login *l)
{
	return l->has_answer && mechanism_waits(l->verify);
}

/* Without the lock. Says whether the person or the host wants something. */
static bool tick(void *arg)
{
	struct login *l = arg;
	bool wanted;

	lock(l);
	wanted = l->stopped || (l->listening && (wants(l) || begin_waits(l)));
	unlock(l);
	return wanted;
}

static int least(int64_t ms, int64_t most)
{
	return (int)(ms < 0 ? 0 : ms < most ? ms : most);
}

/* Ends begin's invocation, which lets pass in any case, with how the login stands. */
static void answer_begin(struct login *l)
{
	struct screen s = { .version = SCREEN_VERSION };
	struct hint hint = { SCREEN_HINT, &s, sizeof(s) };

	memcpy(s.login, l->id, sizeof(s.login));
	text_for_person(s.user, sizeof(s.user), (const uint8_t *)l->request.who.user, strlen(l->request.who.user));
	dialogue_show(&l->dialogue, &s);
	s.prompt = ++l->shown;
	l->interrupted = l->looked_at = false;
	mechanism_answer(l->begin, OUTCOME_ALLOW, &hint);
	l->shown_at = hc_now_ms();
	hc_wipe(&s, sizeof(s));
}

/*
 * Has begin invoked again; it may be here, or never come, when this returns.
 *
 * authd (agent.c, engine.m) drops a result that an interrupt overtakes, and ends the
 * evaluation. And where an interrupt comes between two mechanisms, it goes on with what
 * those behind begin said before, and does not ask them: not verify either, if it has
 * been asked before. So that moment must be nobody's to choose, and what verify said
 * before must not have been Allow.
 */
static bool interrupt(struct login *l)
{
	int64_t until = l->shown_at + SETTLED_MS, now = hc_now_ms();
	uint16_t chance = 0;

	if (l->begin != NULL && l->begin->verified) {
		if (getentropy(&chance, sizeof(chance)) != 0)
			return false;
		until = now + SETTLED_MS + chance % INTERRUPT_MS / 2;
	}
	while (l->begin != NULL && !l->stopped && now < until && !(now >= l->shown_at + SETTLED_MS && mechanism_waits(l->verify))) {
		plugin_wait(l->plugin, until - now);
		now = hc_now_ms();
	}
	if (l->begin == NULL || l->stopped || (l->begin->passed && !mechanism_waits(l->verify)))
		return false;
	l->interrupted = true;
	if (mechanism_interrupt(l->begin))
		return true;
	l->interrupted = false;
	return false;
}

/* Brings how the login stands before the person. */
static bool show(struct login *l)
{
	int64_t until = 0, now;

	while (!l->stopped) {
		now = hc_now_ms();
		if (begin_waits(l)) {
			answer_begin(l);
			return true;
		}
		if (until == 0) {
			if (!interrupt(l))
				break;
			until = hc_now_ms() + INTERRUPT_MS;
			continue;
		}
		if (now >= until)
			break;
		plugin_wait(l->plugin, until - now);
	}
	if (!l->stopped)
		log_line(LOG_ERROR, TEXT_LOG_NOT_SHOWN, l->name);
	return false;
}

/* --- the agent --- */

/* Connects; *agent is NULL when memory is short. */
static enum hc_status reach(struct login *l, struct hc_client **agent)
{
	int64_t until = hc_now_ms() + ABSENT_MS;

	for (;;) {
		enum hc_status status = HC_FAILED;

		unlock(l);
		*agent = hc_new(tick, l);
		if (*agent != NULL)
			status = hc_connect(*agent, SALLYPORT_SOCKET, CONNECT_MS);
		lock(l);
		if (status != HC_AGENT_ABSENT || hc_now_ms() >= until)
			return status;
		hc_free(*agent);
		if (!l->stopped)
			plugin_wait(l->plugin, least(until - hc_now_ms(), RETRY_MS));
	}
}

#define PUT(field, text) put((field).bytes, sizeof((field).bytes), &(field).size, (text))

/* Text that is bounded where it comes from. */
static void put(uint8_t *bytes, size_t size, pb_size_t *length, const char *text)
{
	size_t n = strlen(text);

	if (n > size)
		return;
	memcpy(bytes, text, n);
	*length = (pb_size_t)n;
}

/* Without the lock. */
static enum hc_status send_begin(const struct login *l, struct hc_client *agent)
{
	sallyport_login_v1_Begin *b = calloc(1, sizeof(*b));
	enum hc_status status;

	if (b == NULL)
		return HC_FAILED;
	b->protocol_version = HC_PROTOCOL_VERSION;
	b->hook = sallyport_login_v1_HookKind_HOOK_KIND_AUTHORIZATION_PLUGIN;
	b->stage = sallyport_login_v1_Stage_STAGE_AUTHENTICATE;
	b->scenario = l->request.scenario;
	b->has_capabilities = true;
	b->capabilities.live_notices = true;
	b->capabilities.cancel_prompt = true;
	b->capabilities.qr = true;
	b->capabilities.choices = true;
	PUT(b->user, l->request.who.user);
	PUT(b->service, l->request.service);
	PUT(b->session, l->request.session);
	status = hc_begin(agent, b);
	free(b);
	return status;
}

/* What the next wait for the agent brings. */
static enum hc_status next(struct login *l, struct hc_client *agent, int64_t ms)
{
	const sallyport_login_v1_Directive *directive;
	int wait_ms = least(l->until - hc_now_ms(), ms);
	enum hc_status status;

	unlock(l);
	status = hc_next(agent, wait_ms, &directive);
	lock(l);
	if (status == HC_OK)
		dialogue_take(&l->dialogue, directive, hc_now_ms());
	return status;
}

/* Carries out what the person did at the prompt. */
static enum hc_status carry_out(struct login *l, struct hc_client *agent)
{
	struct answer a = l->answer;
	uint32_t prompt = l->dialogue.prompt;
	enum hc_status status = HC_OK;
	bool stale = a.prompt != l->shown && a.kind != ANSWER_NONE, is_password = l->is_password;

	hc_wipe(&l->answer, sizeof(l->answer));
	l->has_answer = false;
	if (stale) {
		if (!show(l)) /* an answer to another screen: ask again */
			l->silent = true;
	} else if (a.kind == ANSWER_CANCEL) {
		l->cancelled = true;
	} else if (a.kind == ANSWER_TEXT) {
		dialogue_answered(&l->dialogue);
	} else {
		log_line(LOG_ERROR, TEXT_LOG_NO_VIEW, l->name);
		l->silent = true;
	}
	unlock(l);
	if (l->cancelled || l->silent)
		hc_cancel(agent);
	else if (!stale)
		status = is_password ? hc_answer_is_password(agent, prompt)
				     : hc_answer(agent, prompt, a.text, a.length);
	lock(l);
	if (l->cancelled || l->silent)
		dialogue_refuse(&l->dialogue, "");
	hc_wipe(&a, sizeof(a));
	return status;
}

/* Waits for the person, and for the phone if one rings: until the prompt is answered,
 * or closed, or another. */
static enum hc_status attend(struct login *l, struct hc_client *agent)
{
	int64_t until = hc_now_ms() + PERSON_MS;
	uint32_t question = l->dialogue.question;
	enum hc_status status;

	if (until > l->until)
		until = l->until;
	while (l->dialogue.stage == STAGE_ASKING && l->dialogue.question == question) {
		int64_t left = until - hc_now_ms();

		if (l->stopped)
			return HC_CANCELLED;
		if (begin_waits(l)) {
			answer_begin(l);
		} else if (wants(l)) {
			if ((status = carry_out(l, agent)) != HC_OK)
				return status;
		} else if (mechanism_waits(l->verify)) {
			/* begin came again and verify stayed: it has no answer to bring. */
			l->silent = true;
			return HC_CANCELLED;
		} else if (left <= 0) {
			dialogue_refuse(&l->dialogue, TEXT_TOO_LATE);
			unlock(l);
			hc_cancel(agent);
			lock(l);
		} else if (l->dialogue.ringing) {
			l->listening = true;
			status = next(l, agent, left);
			l->listening = false;
			if (status != HC_OK && status != HC_CANCELLED)
				return status;
		} else {
			plugin_wait(l->plugin, left);
		}
	}
	return HC_OK;
}

static void no_verdict(struct login *l, struct hc_client *agent, enum hc_status status)
{
	const char *why = hc_failure(agent);

	switch (status) {
	case HC_CANCELLED:
		unlock(l);
		hc_cancel(agent);
		lock(l);
		dialogue_refuse(&l->dialogue, "");
		return;
	case HC_AGENT_ABSENT:
		log_line(LOG_LOUD, TEXT_LOG_AGENT_ABSENT, why);
		dialogue_refuse(&l->dialogue, TEXT_AGENT_ABSENT);
		return;
	case HC_TIMEOUT:
		log_line(LOG_LOUD, TEXT_LOG_AGENT_FAILED, why);
		dialogue_refuse(&l->dialogue, TEXT_AGENT_SILENT);
		return;
	default:
		log_line(LOG_LOUD, TEXT_LOG_AGENT_FAILED, why[0] != '\0' ? why : "memory is short");
		dialogue_refuse(&l->dialogue, TEXT_AGENT_BROKEN);
	}
}

/* One conversation with the agent, to its verdict or to what stands for one. */
static void converse(struct login *l)
{
	struct hc_client *agent;
	enum hc_status status = reach(l, &agent);

	if (agent == NULL) {
		dialogue_refuse(&l->dialogue, TEXT_NO_MEMORY);
		return;
	}
	if (status == HC_OK) {
		unlock(l);
		status = send_begin(l, agent);
		lock(l);
	}
	while (status == HC_OK && !dialogue_over(&l->dialogue)) {
		if (l->dialogue.stage == STAGE_WORKING)
			status = next(l, agent, STEP_MS);
		else if (show(l))
			status = attend(l, agent);
		else {
			l->silent = true; /* there is no way to tell */
			status = HC_CANCELLED;
		}
	}
	if (status != HC_OK)
		no_verdict(l, agent, status);
	unlock(l);
	hc_free(agent);
	lock(l);
}

/* --- the end --- */

static enum outcome outcome(const struct login *l)
{
	bool cancelled = l->cancelled || (l->has_answer && l->answer.kind == ANSWER_CANCEL);

	/* At the login window a cancelled login is one that failed: there is nothing to
	 * go back to. */
	if (cancelled)
		return l->request.scenario == sallyport_login_v1_Scenario_SCENARIO_LOGIN ? OUTCOME_DENY : OUTCOME_CANCEL;
	if (l->stopped || hc_now_ms() >= l->until)
		return OUTCOME_DENY;
	return l->dialogue.stage == STAGE_ALLOWED ? OUTCOME_ALLOW : OUTCOME_DENY;
}

/* Whether verify brings an answer to a screen before the last: authd has not asked
 * prompt for the last one, nor will it ask those before begin, until it is interrupted
 * while verify is invoked (see interrupt). */
static bool was_skipped(const struct login *l)
{
	return wants(l) && l->answer.prompt != 0 && l->answer.prompt != l->shown;
}

/* Brings the verdict to verify, once; who was refused is told why before that. */
static void conclude(struct login *l)
{
	bool allowed = l->dialogue.stage == STAGE_ALLOWED;
	bool told = l->cancelled || l->silent; /* or nothing is to be told */
	bool asked = told, tried = false, again = false;
	int64_t until = hc_now_ms() + (allowed ? REDEEM_MS : PERSON_MS);
	int64_t comes = 0; /* until when begin may take to come back */

	if (until > l->until)
		until = l->until;
	while (!l->stopped) {
		int64_t now = hc_now_ms();

		if (now >= until)
			break;
		if (begin_waits(l)) {
			answer_begin(l);
			told = asked = true;
		} else if (told && !again && was_skipped(l)) {
			again = true;
			told = false;
			comes = interrupt(l) ? hc_now_ms() + INTERRUPT_MS : now;
		} else if (mechanism_waits(l->verify) && (told || (allowed && !asked) || (asked && now >= comes))) {
			/* Once asked for, begin is waited for even by who is let in: authd
			 * throws a result away that crosses an interrupt. */
			break;
		} else if (!asked && (!tried || mechanism_waits(l->verify))) {
			/* For a window that is still open, or for verify, which waits to
			 * say no until the person was told why. */
			tried = true;
			asked = interrupt(l);
			comes = asked ? hc_now_ms() + INTERRUPT_MS : now;
			asked = asked || mechanism_waits(l->verify);
		} else {
			plugin_wait(l->plugin, mechanism_waits(l->verify) && comes > now ? comes - now : until - now);
		}
	}
	/* Whoever comes now finds the login gone; the list of mechanisms starts again. */
	if (!l->stopped && mechanism_waits(l->verify)) {
		struct mechanism *verify = l->verify;
		enum outcome o = outcome(l);

		l->verify = NULL;
		l->stopped = true;
		if (o == OUTCOME_ALLOW && l->begin != NULL)
			l->begin->passed = true;
		mechanism_answer(verify, o, NULL);
	}
}

/* Nobody may be left waiting. */
static void dismiss(struct login *l)
{
	l->stopped = true;
	if (!dialogue_over(&l->dialogue))
		dialogue_refuse(&l->dialogue, TEXT_TOO_LATE);
	while (begin_waits(l) || mechanism_waits(l->verify)) {
		struct mechanism *verify = l->verify;

		if (l->plugin->closed)
			break;
		if (begin_waits(l)) {
			l->dialogue.stage = STAGE_REFUSED;
			answer_begin(l);
			continue;
		}
		l->verify = NULL;
		mechanism_answer(verify, OUTCOME_DENY, NULL);
	}
	if (l->begin != NULL)
		l->begin->login = NULL;
	for (struct login **at = &l->plugin->logins; *at != NULL; at = &(*at)->next) {
		if (*at == l) {
			*at = l->next;
			break;
		}
	}
}

/*
 * The name and the uid have to be one account's: the agent goes by the name, and authd
 * logs in whom the uid says. A mechanism in front of ours can have set either. A name
 * that nobody has is the agent's to refuse.
 */
static bool refuse_two_people(struct login *l)
{
	enum { ROOM = 64 * 1024 }; /* more than any account's line has */
	struct passwd account, *found = NULL;
	int error = ENOMEM;
	bool two;
	char *room;

	if (!l->request.who.has_uid)
		return false;
	unlock(l);
	room = malloc(ROOM);
	if (room != NULL)
		error = getpwnam_r(l->request.who.user, &account, room, ROOM, &found);
	two = found != NULL && account.pw_uid != l->request.who.uid;
	free(room);
	lock(l);
	if (error != 0) {
		log_line(LOG_LOUD, TEXT_LOG_NO_ACCOUNT, l->name, strerror(error), l->name);
		dialogue_refuse(&l->dialogue, TEXT_NO_ACCOUNT);
	} else if (two) {
		log_line(LOG_LOUD, TEXT_LOG_TWO_PEOPLE, l->name, (unsigned)l->request.who.uid);
		dialogue_refuse(&l->dialogue, TEXT_BAD_USER);
	}
	return error != 0 || two;
}

static bool lists(struct login *l)
{
	bool listed;

	if (!l->request.who.has_uid)
		return false;
	unlock(l);
	listed = breakglass_lists(l->request.who.uid);
	lock(l);
	return listed;
}

static void *run(void *arg)
{
	struct login *l = arg;
	struct plugin *p = l->plugin;

	lock(l);
	if (lists(l)) {
		log_line(LOG_LOUD, TEXT_LOG_BREAK_GLASS, l->name, (unsigned)l->request.who.uid, l->request.service);
		l->break_glass = true;
		dialogue_break_glass(&l->dialogue);
	} else if (!refuse_two_people(l)) {
		for (int answers = 1; !l->stopped; answers++) {
			converse(l);
			if (answers >= ANSWERS || !dialogue_may_repeat(&l->dialogue))
				break;
			dialogue_repeat(&l->dialogue);
		}
	}
	conclude(l);
	dismiss(l);
	hc_wipe(l, sizeof(*l));
	free(l);
	plugin_thread_end(p);
	return NULL;
}
