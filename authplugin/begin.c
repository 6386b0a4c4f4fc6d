/*
 * begin: finds out who is logging in, and has a login of theirs (login.c), which ends
 * the invocation when it knows what to show. It lets pass even who is refused: prompt
 * says why, and verify denies.
 */
#include <stdio.h>
#include <string.h>

#include "log.h"
#include "login.h"
#include "texts.h"

/* Without a login: what the screen tells, and no login's name. */
static void tell(struct mechanism *m, const char *text)
{
	struct screen screen = { .version = SCREEN_VERSION, .kind = SCREEN_TELL };
	struct hint hint = { SCREEN_HINT, &screen, sizeof(screen) };

	(void)snprintf(screen.text, sizeof(screen.text), "%s", text);
	(void)pthread_mutex_lock(&m->plugin->lock);
	mechanism_answer(m, OUTCOME_ALLOW, &hint);
	(void)pthread_mutex_unlock(&m->plugin->lock);
}

static void begin(struct mechanism *m, struct login_request *request)
{
	struct plugin *p = m->plugin;
	bool known = engine_who(m, &request->who), started;

	engine_session(m, request->session, sizeof(request->session));
	(void)pthread_mutex_lock(&p->lock);
	if (known && m->login != NULL && login_continues(m->login, request)) {
		(void)pthread_mutex_unlock(&p->lock);
		return;
	}
	if (m->login != NULL)
		login_leave(m->login, true);
	started = known && login_start(m, request);
	(void)pthread_mutex_unlock(&p->lock);
	if (started)
		return;
	log_line(LOG_ERROR, "%s", known ? TEXT_LOG_NO_THREAD : TEXT_LOG_NO_USER);
	tell(m, known ? TEXT_NO_MEMORY : TEXT_BAD_USER);
}

static void begin_login(struct mechanism *m)
{
	struct login_request request = {
		.scenario = sallyport_login_v1_Scenario_SCENARIO_LOGIN,
		.service = "loginwindow",
	};

	begin(m, &request);
}

/* What the person is about to get, by the name of the right that authd evaluates. */
static void begin_in_session(struct mechanism *m)
{
	struct login_request unlock = {
		.scenario = sallyport_login_v1_Scenario_SCENARIO_UNLOCK,
		.service = "screensaver",
	};
	struct login_request elevate = {
		.scenario = sallyport_login_v1_Scenario_SCENARIO_ELEVATE,
		.service = "authorization",
	};
	char right[RIGHT_MAX + 1];

	engine_right(m, right);
	begin(m, strcmp(right, "system.login.screensaver") == 0 ? &unlock : &elevate);
}

static void leave(struct mechanism *m)
{
	(void)pthread_mutex_lock(&m->plugin->lock);
	if (m->login != NULL)
		login_leave(m->login, !mechanism_exists(m));
	(void)pthread_mutex_unlock(&m->plugin->lock);
}

const struct mechanism_kind begin_kind = { "begin", begin_login, leave };
const struct mechanism_kind begin_session_kind = { "begin-session", begin_in_session, leave };
