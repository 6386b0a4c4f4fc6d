/*
 * unit: the core with a scripted agent (agent.h) and an engine driven by hand (host.h).
 *
 *	unit -list	the tests
 *	unit NAME	runs one; silent and 0 when it holds
 */
#define _GNU_SOURCE

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent.h"
#include "breakglass.h"
#include "dialogue.h"
#include "host.h"
#include "platform.h"

#define CHECK(what)                                                              \
	do {                                                                     \
		if (!(what)) {                                                   \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #what); \
			exit(1);                                                 \
		}                                                                \
	} while (0)

static struct evaluation eval;
static struct engine *const begin = &eval.engines[BEGIN], *const prompt = &eval.engines[PROMPT],
			    *const verify = &eval.engines[VERIFY];
static struct screen shown;
static unsigned interrupted; /* how often so far */

static void start_as(UInt32 version, const char *id)
{
	host_load(version);
	evaluation_new(&eval, id);
	interrupted = 0;
}

static void start(void)
{
	start_as(4, "begin");
}

#define PLAY(...)                                                             \
	do {                                                                  \
		static const char *const played[] = { __VA_ARGS__, NULL };    \
		agent_play(played);                                           \
	} while (0)

static void end(void)
{
	int open;

	evaluation_end(&eval);
	host_unload();
	agent_seen(NULL, &open, NULL);
	CHECK(open == 0);
}

/* Waits until so many logins have an agent. */
static void agent_wait(int clients)
{
	for (int open = -1; open != clients; agent_seen(NULL, &open, NULL))
		(void)usleep(1000);
}

/* begin lets pass. */
static void do_begin(void)
{
	unsigned had = begin->results;

	CHECK(engine_invoke(begin) == errAuthorizationSuccess);
	engine_wait_results(begin, had + 1);
	CHECK(begin->last == kAuthorizationResultAllow);
}

/* prompt shows a screen, the person does something, and it lets pass. */
static void do_prompt(enum screen_kind kind, enum answer_kind act, const char *text)
{
	unsigned had = prompt->results;

	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	if (kind != SCREEN_NONE) {
		view_wait(&shown);
		CHECK(shown.kind == kind);
		view_act(act, text);
	}
	engine_wait_results(prompt, had + 1);
	CHECK(prompt->last == kAuthorizationResultAllow);
	CHECK(!view_is_open());
}

static AuthorizationResult do_verify(void)
{
	unsigned had = verify->results;
	char hint[ITEM_MAX];

	CHECK(engine_invoke(verify) == errAuthorizationSuccess);
	engine_wait_results(verify, had + 1);
	/* Nothing of a login is left among the hints (engine.c, wipe_hint). */
	CHECK(item_get(eval.hints, SCREEN_HINT, hint, sizeof(hint)) <= 1);
	CHECK(item_get(eval.hints, ANSWER_HINT, hint, sizeof(hint)) <= 1);
	return verify->last;
}

/* verify does not decide, but has begin invoked again. */
static void do_interrupt(struct engine *current)
{
	unsigned results = current->results;

	if (current == verify)
		CHECK(engine_invoke(verify) == errAuthorizationSuccess);
	engine_wait_interrupts(begin, ++interrupted);
	CHECK(engine_deactivate(current) == errAuthorizationSuccess);
	CHECK(current->results == results);
	view_wait_closed();
}

/* --- logins --- */

static void right_code(void)
{
	sallyport_login_v1_Begin said;

	PLAY("prompt =123456 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "123456");
	CHECK(strcmp(shown.user, "ada") == 0 && strcmp(shown.text, "Code from your authenticator app") == 0);
	CHECK(do_verify() == kAuthorizationResultAllow);
	agent_seen(&said, NULL, NULL);
	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_LOGIN);
	CHECK(said.user.size == 3 && memcmp(said.user.bytes, "ada", 3) == 0);
	CHECK(said.service.size == 11 && memcmp(said.service.bytes, "loginwindow", 11) == 0);
	CHECK(said.session.size == 6 && memcmp(said.session.bytes, "100003", 6) == 0);
	CHECK(said.password.size == 0 && said.capabilities.cancel_prompt && said.capabilities.qr);
	end();
}

static void wrong_code_asks_again(void)
{
	PLAY("prompt =1 deny:wrong_code", "prompt =123456 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "123456");
	CHECK(strcmp(shown.notice, "That is not right.") == 0);
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void three_wrong_codes_deny(void)
{
	PLAY("prompt =1 deny:wrong_code", "prompt =2 deny:wrong_code", "prompt =3 deny:wrong_code", "prompt =4 allow");
	start();
	do_begin();
	for (const char *code = "123"; *code != '\0'; code++) {
		char text[2] = { *code, '\0' };

		do_prompt(SCREEN_ASK, ANSWER_TEXT, text);
		do_interrupt(verify);
		do_begin();
	}
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(strcmp(shown.text, "That is not right.") == 0);
	CHECK(do_verify() == kAuthorizationResultDeny);
	/* The list of mechanisms starts again, with the password. */
	PLAY("prompt =4 allow");
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "4");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void locked_is_told(void)
{
	PLAY("prompt =1 deny:locked", "prompt =2 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_CANCEL, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void interrupt_that_is_not_honoured_denies(void)
{
	PLAY("prompt =1 deny:wrong_code", "prompt =2 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultDeny);
	CHECK(begin->interrupts == 1);
	end();
}

static void interrupt_that_is_refused_denies(void)
{
	PLAY("prompt =1 deny:wrong_code", "prompt =2 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	host_interrupt_error = errAuthorizationInternal;
	CHECK(do_verify() == kAuthorizationResultDeny);
	host_interrupt_error = 0;
	end();
}

static void phone_approves_while_the_window_is_open(void)
{
	PLAY("ring prompt0 phone close allow");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	CHECK(shown.ringing && shown.number == 42 && strcmp(shown.phone, "Pixel 8") == 0 && shown.until_ms > 0);
	agent_phone();
	do_interrupt(prompt);
	do_begin();
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void what_is_said_beside_a_ringing_phone(void)
{
	static const struct {
		const char *text, *notice;
	} cases[] = {
		{ "Type 42 on your phone to approve, then press Enter here.\nOr type a code: ", "" },
		{ "Not approved yet, 9 s left. Type 42 on your phone, then press Enter.\nOr type a code: ", "Not approved yet." },
		{ "Nobody answered. Type 42 on your phone.", "Nobody answered." },
		{ "Another\nline", "Another." },
		{ "", "" },
		{ ".", "" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int ringing = 0; ringing < 2; ringing++) {
			struct dialogue d = { .stage = STAGE_ASKING, .ringing = ringing == 1 };
			struct screen s = { 0 };

			(void)snprintf(d.text, sizeof(d.text), "%s", cases[i].text);
			dialogue_show(&d, &s);
			CHECK(strcmp(s.notice, ringing == 1 ? cases[i].notice : "") == 0);
		}
	}
}

static void phone_approves_and_begin_never_comes(void)
{
	PLAY("ring prompt0 phone close allow");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	agent_phone();
	engine_wait_interrupts(begin, 1);
	view_act(ANSWER_TEXT, "");
	engine_wait_results(prompt, 1);
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void phone_denies_while_the_window_is_open(void)
{
	PLAY("ring prompt0 phone close deny:push_denied", "prompt =1 allow");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	agent_phone();
	do_interrupt(prompt);
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

/* The answer crosses an interrupt: authd invokes begin, and then verify with what
 * prompt left before. */
static void prompt_that_authd_skips(void)
{
	static const enum answer_kind acts[] = { ANSWER_TEXT, ANSWER_CANCEL };
	struct answer a;

	for (size_t i = 0; i < 2; i++) {
		PLAY("ring prompt0 phone close deny:push_denied");
		start();
		do_begin();
		CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
		view_wait(&shown);
		agent_phone();
		engine_wait_interrupts(begin, ++interrupted);
		view_act(acts[i], "");
		engine_wait_results(prompt, 1);
		CHECK(item_get(eval.hints, ANSWER_HINT, &a, sizeof(a)) == sizeof(a));
		do_begin();
		item_set(eval.hints, ANSWER_HINT, &a, sizeof(a));
		do_interrupt(verify);
		do_begin();
		do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
		CHECK(do_verify() == kAuthorizationResultDeny);
		end();
	}
}

/* authd must have begin's result before an interrupt, or the evaluation ends. */
static void no_interrupt_that_could_overtake_begins_result(void)
{
	int64_t before = hc_now_ms();

	PLAY("ring prompt0 close allow");
	start();
	do_begin();
	engine_wait_interrupts(begin, 1);
	CHECK(hc_now_ms() - before >= 300); /* SETTLED_MS of a test */
	end();
}

/* A mechanism behind ours denied: authd might take verify's word of before. */
static void no_interrupt_that_could_skip_an_allowing_verify(void)
{
	PLAY("skip", "ring prompt0 phone close deny:push_denied");
	start();
	do_begin();
	CHECK(do_verify() == kAuthorizationResultAllow);
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	agent_phone();
	agent_wait(0);
	view_act(ANSWER_TEXT, "");
	engine_wait_results(prompt, 1);
	CHECK(begin->interrupts == 0);
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void cancel_crosses_the_approval(void)
{
	PLAY("ring prompt0 phone close allow");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	agent_phone();
	engine_wait_interrupts(begin, 1);
	view_act(ANSWER_CANCEL, "");
	engine_wait_results(prompt, 1);
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void code_beside_the_phone(void)
{
	PLAY("ring prompt0 =123456 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "123456");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void empty_answer_asks_the_phone_again(void)
{
	PLAY("ring prompt0 = ring prompt0 =123456 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "");
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "123456");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void enrolment(void)
{
	PLAY("qr prompt =1 prompt =2 prompt0 = allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(strcmp(shown.qr, "\xe2\x96\x88\n\xe2\x96\x80") == 0);
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "2");
	CHECK(shown.qr[0] == '\0');
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "");
	CHECK(shown.may_be_empty == 1);
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void skip(void)
{
	PLAY("skip");
	start();
	do_begin();
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void password_typed_as_a_code(void)
{
	PLAY("prompt =? deny:password_typed_as_code", "prompt =1 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "her password");
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void cancelled_as(const char *id, AuthorizationResult want)
{
	int cancelled;

	PLAY("prompt =1 allow");
	start_as(4, id);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_CANCEL, "");
	CHECK(do_verify() == want);
	evaluation_end(&eval);
	host_unload();
	agent_seen(NULL, NULL, &cancelled);
	CHECK(cancelled == 1);
}

static void cancel(void)
{
	cancelled_as("begin", kAuthorizationResultDeny);
	cancelled_as("begin-session", kAuthorizationResultUserCanceled);
}

/* --- the agent that is none --- */

static void told_with(const char *const *scripts, const char *text)
{
	agent_play(scripts);
	start();
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(strstr(shown.text, text) != NULL);
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void agent_without_a_verdict(void)
{
	static const char *const absent[] = { NULL }, *const full[] = { "full", NULL }, *const silent[] = { "silence", NULL },
				 *const broken[] = { "broken", NULL };

	told_with(absent, "is not running");
	told_with(full, "does not answer");
	told_with(silent, "does not answer");
	told_with(broken, "cannot check logins");
}

static void agent_ends_behind_the_answer(void)
{
	PLAY("prompt =1 broken");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void agent_starts_late(void)
{
	PLAY("absent", "prompt =1 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void zero_verdict_denies(void)
{
	PLAY("prompt =1 zero");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

/* --- hints and context --- */

static void no_window(void)
{
	PLAY("prompt =1 allow");
	view_broken = true;
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	engine_wait_results(prompt, 1);
	CHECK(prompt->last == kAuthorizationResultAllow);
	CHECK(do_verify() == kAuthorizationResultDeny);
	CHECK(begin->interrupts == 0);
	end();
	view_broken = false;
}

/* prompt left no word, but the login is allowed: whoever is exempt gets in. */
static void no_answer_to_an_allowed_login(void)
{
	PLAY("skip");
	start();
	do_begin();
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

static void no_answer_to_a_question(void)
{
	PLAY("prompt =1 allow");
	start();
	do_begin();
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void verdict_is_taken_once(void)
{
	struct screen s;

	PLAY("skip");
	start();
	do_begin();
	CHECK(item_get(eval.hints, SCREEN_HINT, &s, sizeof(s)) == sizeof(s));
	CHECK(do_verify() == kAuthorizationResultAllow);
	item_set(eval.hints, SCREEN_HINT, &s, sizeof(s));
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

static void hostile_hints(void)
{
	static const size_t lengths[] = { 0, 1, sizeof(struct answer) - 1, sizeof(struct answer) + 1 };
	struct answer a;
	uint8_t junk[sizeof(struct answer) + 1];

	memset(junk, 0xff, sizeof(junk));
	for (size_t i = 0; i < 7; i++) {
		PLAY("prompt =1 allow");
		start();
		do_begin();
		do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
		CHECK(item_get(eval.hints, ANSWER_HINT, &a, sizeof(a)) == sizeof(a));
		switch (i) {
		case 4:
			a.login[0] ^= 1;
			break;
		case 5:
			a.length = ANSWER_TEXT_MAX + 1;
			break;
		case 6:
			a.kind = 7;
			break;
		default:
			item_set(eval.hints, ANSWER_HINT, junk, lengths[i]);
		}
		if (i > 3)
			item_set(eval.hints, ANSWER_HINT, &a, sizeof(a));
		CHECK(do_verify() == kAuthorizationResultDeny);
		end();
	}
}

static void hostile_screen(void)
{
	struct screen s;

	PLAY("prompt =1 allow");
	start();
	do_begin();
	CHECK(item_get(eval.hints, SCREEN_HINT, &s, sizeof(s)) == sizeof(s));
	memset(s.text, 'x', sizeof(s.text));
	item_set(eval.hints, SCREEN_HINT, &s, sizeof(s));
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
}

/* The user changed between begin and verify. */
static void changed_to(const char *user, size_t length, const uint32_t *uid)
{
	PLAY("skip");
	start();
	do_begin();
	item_set(eval.context, "username", user, length);
	item_set(eval.context, "uid", uid, uid != NULL ? sizeof(*uid) : 0);
	CHECK(do_verify() == kAuthorizationResultDeny);
	CHECK(host_logged("user name or uid are others"));
	end();
}

static void cve_2024_9313_identity_changes_midway(void)
{
	uint32_t same = 501, other = 0;

	changed_to("eve", 4, &same);
	changed_to("ada", 4, &other);
	changed_to("ada", 4, NULL);
	changed_to(NULL, 0, &same);
	changed_to("ada\0eve", 8, &same);
}

/* Another evaluation's login is not one's own. */
static void answer_names_another_login(void)
{
	struct evaluation other;
	struct answer a;
	struct screen s;

	PLAY("skip", "prompt =1 allow");
	start();
	evaluation_new(&other, "begin");
	do_begin();
	CHECK(item_get(eval.hints, SCREEN_HINT, &s, sizeof(s)) == sizeof(s));
	item_set(other.context, "username", "eve", 4);
	CHECK(engine_invoke(&other.engines[BEGIN]) == errAuthorizationSuccess);
	engine_wait_results(&other.engines[BEGIN], 1);
	memset(&a, 0, sizeof(a));
	a.version = SCREEN_VERSION;
	memcpy(a.login, s.login, sizeof(a.login));
	item_set(other.hints, ANSWER_HINT, &a, sizeof(a));
	CHECK(engine_invoke(&other.engines[VERIFY]) == errAuthorizationSuccess);
	engine_wait_results(&other.engines[VERIFY], 1);
	CHECK(other.engines[VERIFY].last == kAuthorizationResultDeny);
	evaluation_end(&other);
	end();
}

static void context_without_a_user(void)
{
	static const char longest[SCREEN_USER_MAX + 2] = { 'x' };
	char name[sizeof(longest)];

	memset(name, 'x', sizeof(name));
	for (int i = 0; i < 4; i++) {
		PLAY("skip");
		start();
		switch (i) {
		case 0:
			item_set(eval.context, "username", NULL, 0);
			break;
		case 1:
			item_set(eval.context, "username", "", 1);
			break;
		case 2:
			item_set(eval.context, "username", "a\0b", 3);
			break;
		default:
			item_set(eval.context, "username", name, sizeof(name));
		}
		do_begin();
		do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
		CHECK(do_verify() == kAuthorizationResultDeny);
		end();
	}
}

static void answer_to_another_question(void)
{
	struct answer a;

	PLAY("prompt =2 allow");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(item_get(eval.hints, ANSWER_HINT, &a, sizeof(a)) == sizeof(a));
	a.prompt += 1;
	item_set(eval.hints, ANSWER_HINT, &a, sizeof(a));
	do_interrupt(verify);
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "2");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
}

/* --- the interface --- */

static sallyport_login_v1_Begin begun_with(UInt32 version, const char *right)
{
	sallyport_login_v1_Begin said;

	PLAY("prompt =1 allow");
	start_as(version, "begin-session");
	if (right != NULL)
		item_set(eval.hints, "authorize-right", right, strlen(right));
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultAllow);
	agent_seen(&said, NULL, NULL);
	end();
	return said;
}

static void scenarios_and_versions(void)
{
	sallyport_login_v1_Begin said = begun_with(4, "system.login.screensaver");

	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_UNLOCK && memcmp(said.service.bytes, "screensaver", 11) == 0);
	said = begun_with(1, "system.login.screensaver");
	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_UNLOCK);
	said = begun_with(0, "system.login.screensaver");
	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_UNLOCK);
	said = begun_with(4, "system.preferences");
	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_ELEVATE && memcmp(said.service.bytes, "authorization", 13) == 0);
	said = begun_with(4, NULL);
	CHECK(said.scenario == sallyport_login_v1_Scenario_SCENARIO_ELEVATE);
}

static void null_and_unknown(void)
{
	AuthorizationMechanismRef m = &m;
	AuthorizationPluginRef p;
	const AuthorizationPluginInterface *table;
	AuthorizationCallbacks none = *host_callbacks(4);
	static const char *const unknown[] = { "", "Begin", "begin ", "verify2", "begin-", "prompt\n" };

	CHECK(AuthorizationPluginCreate(NULL, &p, &table) != 0 && p == NULL && table == NULL);
	CHECK(AuthorizationPluginCreate(host_callbacks(4), NULL, &table) != 0);
	CHECK(AuthorizationPluginCreate(host_callbacks(4), &p, NULL) != 0);
	none.SetResult = NULL;
	CHECK(AuthorizationPluginCreate(&none, &p, &table) != 0);
	start();
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		m = &m;
		CHECK(host_table->MechanismCreate(host_plugin, NULL, unknown[i], &m) != 0 && m == NULL);
	}
	CHECK(host_table->MechanismCreate(NULL, NULL, "begin", &m) != 0);
	CHECK(host_table->MechanismCreate(host_plugin, NULL, NULL, &m) != 0);
	CHECK(host_table->MechanismCreate(host_plugin, NULL, "begin", NULL) != 0);
	CHECK(host_table->MechanismInvoke(NULL) != 0 && host_table->MechanismDeactivate(NULL) != 0);
	CHECK(host_table->MechanismDestroy(NULL) != 0 && host_table->PluginDestroy(NULL) != 0);
	end();
}

static void invoked_twice(void)
{
	PLAY("prompt =1 allow");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	CHECK(engine_invoke(prompt) != errAuthorizationSuccess);
	view_act(ANSWER_TEXT, "1");
	engine_wait_results(prompt, 1);
	CHECK(do_verify() == kAuthorizationResultAllow);
	CHECK(begin->results == 1 && prompt->results == 1 && verify->results == 1);
	end();
}

static void deactivated_while_it_works(void)
{
	static const char *const scripts[] = { "silence", NULL };

	for (int i = 0; i < 3; i++) {
		agent_play(scripts);
		start();
		CHECK(engine_deactivate(begin) == errAuthorizationSuccess); /* before it was invoked */
		CHECK(engine_invoke(begin) == errAuthorizationSuccess);
		if (i == 1)
			agent_wait(1); /* else the next script could be this login's */
		CHECK(engine_deactivate(begin) == errAuthorizationSuccess);
		CHECK(begin->results == 0);
		if (i == 1) { /* and again */
			agent_wait(0);
			PLAY("skip");
			do_begin();
			CHECK(do_verify() == kAuthorizationResultAllow);
		}
		end();
	}
}

static void verify_deactivated_while_it_works(void)
{
	PLAY("prompt =1 silence");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(engine_invoke(verify) == errAuthorizationSuccess);
	CHECK(engine_deactivate(verify) == errAuthorizationSuccess);
	CHECK(verify->results == 0);
	end();
}

static void destroyed_while_it_works(void)
{
	for (int i = 0; i < ENGINES; i++) {
		PLAY("ring prompt0 = silence");
		start();
		if (i == BEGIN) {
			CHECK(engine_invoke(begin) == errAuthorizationSuccess);
		} else {
			do_begin();
			CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
			view_wait(&shown);
		}
		if (i == VERIFY) {
			view_act(ANSWER_TEXT, "");
			engine_wait_results(prompt, 1);
			CHECK(engine_invoke(verify) == errAuthorizationSuccess);
		}
		engine_destroy(&eval.engines[i]);
		end();
	}
}

static void begin_destroyed_while_verify_waits(void)
{
	PLAY("prompt =1 silence");
	start();
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(engine_invoke(verify) == errAuthorizationSuccess);
	engine_destroy(begin);
	engine_wait_results(verify, 1);
	CHECK(verify->last == kAuthorizationResultDeny);
	end();
}

/* The host ends the plug-in, and only then its mechanisms. */
static void plugin_destroyed_first(void)
{
	PLAY("ring prompt0 = silence");
	start();
	do_begin();
	CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
	view_wait(&shown);
	CHECK(host_table->PluginDestroy(host_plugin) == errAuthorizationSuccess);
	CHECK(!view_is_open() && prompt->results == 0);
	evaluation_end(&eval);
}

static void callbacks_that_fail(void)
{
	PLAY("prompt =1 allow", "prompt =1 allow");
	start();
	host_result_error = host_deactivate_error = errAuthorizationInternal;
	do_begin();
	do_prompt(SCREEN_ASK, ANSWER_TEXT, "1");
	CHECK(do_verify() == kAuthorizationResultAllow);
	CHECK(engine_deactivate(verify) == errAuthorizationSuccess);
	host_result_error = host_deactivate_error = 0;
	host_hint_error = errAuthorizationInternal; /* then there is no screen, and no way in */
	CHECK(engine_invoke(begin) == errAuthorizationSuccess);
	engine_wait_results(begin, 2);
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	host_hint_error = 0;
	end();
}

static void many_logins(void)
{
	for (int i = 0; i < 1000; i++) {
		PLAY("prompt =123456 allow");
		if (i % 100 == 0)
			start();
		else
			evaluation_new(&eval, "begin");
		do_begin();
		do_prompt(SCREEN_ASK, ANSWER_TEXT, "123456");
		CHECK(do_verify() == kAuthorizationResultAllow);
		evaluation_end(&eval);
		if (i % 100 == 99)
			host_unload();
	}
}

/* The result is on its way when the host wants none: it is there first. */
static void result_crosses_the_host(void)
{
	for (int i = 0; i < 2; i++) {
		PLAY("skip");
		start();
		host_lingers = true;
		CHECK(engine_invoke(begin) == errAuthorizationSuccess);
		engine_wait_in_result(begin);
		if (i == 0)
			CHECK(engine_deactivate(begin) == errAuthorizationSuccess);
		else
			engine_destroy(begin);
		CHECK(begin->results == 1);
		host_lingers = false;
		end();
	}
}

/* Whatever comes at the same time: the result, and the host that wants none. */
static void *race_agent(void *arg)
{
	(void)arg;
	agent_phone();
	return NULL;
}

static void races(void)
{
	for (int i = 0; i < 300; i++) {
		struct engine *e;
		pthread_t thread;

		PLAY("ring prompt0 phone close allow");
		start();
		do_begin();
		CHECK(engine_invoke(prompt) == errAuthorizationSuccess);
		view_wait(&shown);
		CHECK(pthread_create(&thread, NULL, race_agent, NULL) == 0);
		if (i % 2 == 0)
			view_act(ANSWER_TEXT, "");
		e = &eval.engines[i % 3 == 2 ? PROMPT : BEGIN];
		if (i % 5 == 0)
			engine_destroy(e);
		else
			CHECK(engine_deactivate(e) == errAuthorizationSuccess);
		CHECK(engine_invoke(verify) == errAuthorizationSuccess);
		if (i % 7 == 0)
			CHECK(engine_deactivate(verify) == errAuthorizationSuccess);
		CHECK(pthread_join(thread, NULL) == 0);
		end();
	}
}

/* --- the break-glass list --- */

#define LIST SALLYPORT_BREAKGLASS_DIR "/break-glass"

static void list_is(const char *text, mode_t mode)
{
	FILE *f;

	(void)unlink(LIST);
	CHECK((f = fopen(LIST, "w")) != NULL);
	CHECK(fputs(text, f) >= 0 && fclose(f) == 0 && chmod(LIST, mode) == 0);
}

static void list_dir(mode_t mode)
{
	(void)unlink(LIST);
	(void)rmdir(SALLYPORT_BREAKGLASS_DIR);
	CHECK(mkdir(SALLYPORT_BREAKGLASS_DIR, 0755) == 0 && chmod(SALLYPORT_BREAKGLASS_DIR, mode) == 0);
}

static void list_gone(void)
{
	(void)unlink(LIST);
	(void)rmdir(SALLYPORT_BREAKGLASS_DIR);
}

static void break_glass_needs_no_agent(void)
{
	static const char *const nobody[] = { NULL };
	uint32_t uid = 502;

	list_dir(0755);
	list_is("# the helpdesk's\nuid:501\n", 0644);
	agent_play(nobody);
	start();
	do_begin();
	CHECK(host_logged("BREAK-GLASS: ada (uid 501)"));
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultAllow);
	/* Only who is listed. */
	item_set(eval.context, "uid", &uid, sizeof(uid));
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	/* Only by a uid of four bytes. */
	item_set(eval.context, "uid", "501", 3);
	do_begin();
	do_prompt(SCREEN_TELL, ANSWER_TEXT, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
	/* In a session, too. */
	start_as(4, "begin-session");
	do_begin();
	CHECK(host_logged("BREAK-GLASS: ada (uid 501) was let through with the password alone (authorization)."));
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultAllow);
	end();
	/* Only who is listed still. */
	start();
	do_begin();
	list_is("502\n", 0644);
	do_prompt(SCREEN_NONE, ANSWER_NONE, "");
	CHECK(do_verify() == kAuthorizationResultDeny);
	end();
	list_gone();
}

static void break_glass_list_must_be_roots(void)
{
	list_gone();
	CHECK(!breakglass_lists(501));
	list_dir(0755);
	CHECK(!breakglass_lists(501));
	list_is("501\n", 0600);
	CHECK(breakglass_lists(501) && !breakglass_lists(50) && !breakglass_lists(5010) && !breakglass_lists(0));
	list_is("501\n", 0620);
	CHECK(!breakglass_lists(501) && host_logged("others than root may write it"));
	list_is("501\n", 0602);
	CHECK(!breakglass_lists(501));
	list_is("501\n", 0600);
	CHECK(chown(LIST, 501, 0) == 0 && !breakglass_lists(501));
	list_dir(0775);
	list_is("501\n", 0600);
	CHECK(!breakglass_lists(501));
	list_dir(0755);
	CHECK(chown(SALLYPORT_BREAKGLASS_DIR, 501, 0) == 0);
	list_is("501\n", 0600);
	CHECK(!breakglass_lists(501));
	list_dir(0755);
	CHECK(symlink("/etc/passwd", LIST) == 0 && !breakglass_lists(501));
	CHECK(unlink(LIST) == 0 && mkfifo(LIST, 0600) == 0 && !breakglass_lists(501));
	CHECK(unlink(LIST) == 0 && mkdir(LIST, 0755) == 0 && !breakglass_lists(501));
	CHECK(rmdir(LIST) == 0);
	list_is("501\nada\n", 0600);
	CHECK(!breakglass_lists(501) && host_logged("line 2 is no uid"));
	list_is("501\n", 0600);
	CHECK(truncate(LIST, BREAKGLASS_MAX + 1) == 0 && !breakglass_lists(501) && host_logged("longer than"));
	CHECK(unlink(LIST) == 0 && mkdir(LIST, 0755) == 0);
	CHECK(rmdir(LIST) == 0);
	list_gone();
}

static void break_glass_lines(void)
{
	static const struct {
		const char *text;
		bool good, listed;
	} cases[] = {
		{ "", true, false },
		{ "501", true, true },
		{ "501\n", true, true },
		{ "uid:501\n", true, true },
		{ " \t501 # ada\r\n", true, true },
		{ "#501\n", true, false },
		{ "\n\n502\n501\n", true, true },
		{ "0\n", true, false },
		{ "4294967294\n", true, false },
		{ "4294967295\n501\n", false, false },
		{ "501\n99999999999\n", false, false },
		{ "501\nada\n", false, false },
		{ "501 502\n", false, false },
		{ "0501\n", false, false },
		{ "-501\n", false, false },
		{ "+501\n", false, false },
		{ "0x1f5\n", false, false },
		{ "uid:\n501\n", false, false },
		{ "uid: 501\n", false, false },
		{ "UID:501\n", false, false },
		{ "501,502\n", false, false },
		{ "\xef\xbb\xbf" "501\n", false, false },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		bool good;
		unsigned line;
		bool listed = breakglass_parse(cases[i].text, strlen(cases[i].text), 501, &good, &line);

		if (good != cases[i].good || listed != cases[i].listed) {
			fprintf(stderr, "case %zu: good %d, listed %d\n", i, good, listed);
			exit(1);
		}
	}
	CHECK(!breakglass_parse("501\n\0", 5, 501, &(bool){ true }, &(unsigned){ 0 }));
}

static const struct test {
	const char *name;
	void (*run)(void);
} tests[] = {
#define TEST(name) { #name, name }
	TEST(right_code),
	TEST(wrong_code_asks_again),
	TEST(three_wrong_codes_deny),
	TEST(locked_is_told),
	TEST(interrupt_that_is_not_honoured_denies),
	TEST(interrupt_that_is_refused_denies),
	TEST(phone_approves_while_the_window_is_open),
	TEST(what_is_said_beside_a_ringing_phone),
	TEST(phone_approves_and_begin_never_comes),
	TEST(phone_denies_while_the_window_is_open),
	TEST(prompt_that_authd_skips),
	TEST(no_interrupt_that_could_overtake_begins_result),
	TEST(no_interrupt_that_could_skip_an_allowing_verify),
	TEST(cancel_crosses_the_approval),
	TEST(code_beside_the_phone),
	TEST(empty_answer_asks_the_phone_again),
	TEST(enrolment),
	TEST(skip),
	TEST(password_typed_as_a_code),
	TEST(cancel),
	TEST(agent_without_a_verdict),
	TEST(agent_ends_behind_the_answer),
	TEST(agent_starts_late),
	TEST(zero_verdict_denies),
	TEST(no_window),
	TEST(no_answer_to_an_allowed_login),
	TEST(no_answer_to_a_question),
	TEST(verdict_is_taken_once),
	TEST(hostile_hints),
	TEST(hostile_screen),
	TEST(cve_2024_9313_identity_changes_midway),
	TEST(answer_names_another_login),
	TEST(context_without_a_user),
	TEST(answer_to_another_question),
	TEST(scenarios_and_versions),
	TEST(null_and_unknown),
	TEST(invoked_twice),
	TEST(deactivated_while_it_works),
	TEST(verify_deactivated_while_it_works),
	TEST(destroyed_while_it_works),
	TEST(begin_destroyed_while_verify_waits),
	TEST(plugin_destroyed_first),
	TEST(callbacks_that_fail),
	TEST(many_logins),
	TEST(result_crosses_the_host),
	TEST(races),
	TEST(break_glass_needs_no_agent),
	TEST(break_glass_list_must_be_roots),
	TEST(break_glass_lines),
};

int main(int argc, char **argv)
{
	for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		if (argc == 2 && strcmp(argv[1], "-list") == 0)
			puts(tests[i].name);
		else if (argc == 2 && strcmp(argv[1], tests[i].name) == 0)
			return tests[i].run(), 0;
	}
	return argc == 2 && strcmp(argv[1], "-list") == 0 ? 0 : 2;
}
