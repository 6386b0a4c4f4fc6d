/*
 * pam_sallyport: the hook inside PAM (pam(3), pam_sm_authenticate(3)).
 *
 *	auth    required pam_sallyport.so
 *	account required pam_sallyport.so
 *
 * It holds no rules: it tells the agent who wants in, shows what the agent says,
 * returns what the person typed and obeys one verdict.
 *
 *	the agent says, or what happens         authenticate           account
 *	ALLOW                                   PAM_SUCCESS            -
 *	SKIP                                    as skip= says          as skip= says
 *	nobody listens on the socket            PAM_AUTHINFO_UNAVAIL   PAM_AUTHINFO_UNAVAIL
 *	an option that is unknown or malformed  PAM_SERVICE_ERR        PAM_SERVICE_ERR
 *	no user name                            PAM_USER_UNKNOWN       PAM_USER_UNKNOWN
 *	anything else whatever                  PAM_AUTH_ERR           PAM_PERM_DENIED
 *
 * The account function repeats what authenticate found in the same transaction
 * for the same user. Where there was none (sshd with a public key alone never
 * runs the auth stack) it asks the agent whether this user would have been asked
 * for a factor at all.
 *
 * Options: socket=PATH, timeout=SECONDS, skip=ignore|success, debug.
 *
 * PAM_SILENT, which sudo always passes, leaves out what the person can do
 * without: notices of kind INFO, the verdict's text, and the apology where there
 * is no verdict. What is needed to finish
 * the login is shown all the same: prompts, errors, QR codes, and the number of
 * a pending approval.
 *
 * It never forks, threads, or changes a signal's handling; every wait is bounded;
 * the person's time in the conversation is the program's to bound, not ours.
 */
#define _DEFAULT_SOURCE

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hookclient.h"
#include "libpam.h"
#include "options.h"
#include "platform.h"
#include "service.h"
#include "text.h"

#define EXPORT __attribute__((visibility("default")))

#define ACCOUNT sallyport_login_v1_Stage_STAGE_ACCOUNT

/* Under this name a transaction keeps what authenticate found. */
static const char RECORD[] = "sallyport_record";

enum {
	/* The longest that a pending approval is waited for: less than sshd's
	 * LoginGraceTime of 120 s, as a vanished client cannot be seen here. */
	APPROVAL_MAX_MS = 90 * 1000,
};

/* Zero denies. */
enum outcome {
	DENIED = 0,
	ALLOWED,
	SKIPPED,
	AGENT_ABSENT,
};

struct record {
	enum outcome outcome;
	char user[sizeof(((sallyport_login_v1_Begin *)0)->user.bytes) + 1];
};

/* One run of the module. */
struct login {
	pam_handle_t *pamh;
	struct options options;
	bool silent;
	sallyport_login_v1_Stage stage;
	sallyport_login_v1_Begin begin;
	struct hc_client *agent;
};

/* --- the log --- */

#define say(l, level, ...) log_line((l)->pamh, (level), __VA_ARGS__)

#define debug(l, ...)                                                                           \
	do {                                                                                    \
		if ((l)->options.debug)                                                         \
			log_line((l)->pamh, LOG_DEBUG, __VA_ARGS__);                            \
	} while (0)

/* --- what the person sees --- */

/*
 * How many bytes of text are its next message: a line, or as much of it as pam_prompt
 * takes. text is UTF-8, and no character is torn. No strcspn(3): with glibc's, a piece
 * of the text was found on the stack afterwards.
 */
static size_t message_len(const char *text)
{
	const char *end = strchr(text, '\n');
	size_t len = end != NULL ? (size_t)(end - text) : strlen(text);

	if (len <= MESSAGE_MAX)
		return len;
	for (len = MESSAGE_MAX; len > 1 && ((unsigned char)text[len] & 0xc0) == 0x80;)
		len--;
	return len;
}

/*
 * Shows the next message of text and returns what is behind it. A program that
 * cannot show it is no reason to deny: a notice asks nothing, and whoever misses a
 * prompt fails at the prompt.
 */
static char *show_message(struct login *l, int style, char *text)
{
	char *ignored = NULL; /* OpenPAM's pam_prompt writes to it whatever the style */
	char *end = text + message_len(text);
	char behind = *end;

	*end = '\0';
	if (pam_prompt(l->pamh, style, &ignored, "%s", text) == PAM_SUCCESS)
		free(ignored);
	*end = behind;
	return behind == '\n' ? end + 1 : end;
}

/* Shows text line by line. */
static void show(struct login *l, int style, const pb_byte_t *text, size_t len)
{
	char buf[sizeof(((sallyport_login_v1_Notice *)0)->text.bytes) + 1];

	text_for_person(buf, sizeof(buf), text, len);
	for (char *rest = buf; *rest != '\0';)
		rest = show_message(l, style, rest);
	hc_wipe(buf, sizeof(buf)); /* a QR code of the new key */
}

static void show_notice(struct login *l, const sallyport_login_v1_Notice *n)
{
	switch (n->kind) {
	case sallyport_login_v1_Notice_Kind_KIND_ERROR:
		show(l, PAM_ERROR_MSG, n->text.bytes, n->text.size);
		return;
	case sallyport_login_v1_Notice_Kind_KIND_QR:
		show(l, PAM_TEXT_INFO, n->text.bytes, n->text.size);
		return;
	default:
		if (!l->silent)
			show(l, PAM_TEXT_INFO, n->text.bytes, n->text.size);
	}
}

static void show_waiting(struct login *l, const sallyport_login_v1_Waiting *w)
{
	char device[sizeof(w->device.bytes) + 1];
	char text[sizeof(device) + 64];
	int len;

	text_for_person(device, sizeof(device), w->device.bytes, w->device.size);
	len = snprintf(text, sizeof(text), "Enter %02u on your phone%s%s%s.", (unsigned)w->number,
		       device[0] != '\0' ? " (" : "", device, device[0] != '\0' ? ")" : "");
	if (len > 0)
		show(l, PAM_TEXT_INFO, (const pb_byte_t *)text, strlen(text));
}

/* --- what the person answers --- */

/* Compares without telling by its time where the two differ. */
static bool same_secret(const char *a, const char *b, size_t len)
{
	volatile unsigned char differ = 0;

	for (size_t i = 0; i < len; i++)
		differ |= (unsigned char)(a[i] ^ b[i]);
	return differ == 0;
}

/*
 * Whether the answer is the password that the first factor took. sshd's password
 * method answers every prompt with it, and people type it out of habit: it is
 * not sent, and the agent does not count it as a wrong code.
 */
static bool is_password(const struct login *l, const char *answer, size_t len)
{
	const void *item = NULL;
	const char *password;

	if (pam_get_item(l->pamh, PAM_AUTHTOK, &item) != PAM_SUCCESS || item == NULL)
		return false;
	password = item;
	return len > 0 && strlen(password) == len && same_secret(answer, password, len);
}

/* Asks the person and passes the answer on; false denies. */
static bool ask(struct login *l, const sallyport_login_v1_Prompt *p)
{
	int style = p->echo == sallyport_login_v1_Prompt_Echo_ECHO_VISIBLE ? PAM_PROMPT_ECHO_ON :
									     PAM_PROMPT_ECHO_OFF;
	char text[sizeof(p->text.bytes) + 1];
	enum hc_status status = HC_FAILED;
	char *question = text;
	char *reply = NULL;
	size_t len;
	int error;

	text_for_person(text, sizeof(text), p->text.bytes, p->text.size);
	while (strlen(question) > MESSAGE_MAX) /* the question is its end */
		question = show_message(l, PAM_TEXT_INFO, question);
	error = pam_prompt(l->pamh, style, &reply, "%s", question);
	hc_wipe(text, sizeof(text)); /* the new key, or the recovery codes */
	/* After an error the reply is the program's affair: it may be freed already. */
	if (error != PAM_SUCCESS || reply == NULL) {
		hc_cancel(l->agent);
		say(l, LOG_NOTICE, "denied: the prompt was not answered (%s)",
		    error == PAM_SUCCESS ? "no reply" : pam_strerror(l->pamh, error));
		return false;
	}
	len = strlen(reply);
	if (is_password(l, reply, len)) {
		debug(l, "the answer was the password");
		status = hc_answer_is_password(l->agent, p->id);
	} else if (len == 0 && !p->empty_allowed) {
		hc_cancel(l->agent);
		say(l, LOG_NOTICE, "denied: the prompt was left empty");
	} else if (len > HC_ANSWER_MAX) {
		hc_cancel(l->agent);
		say(l, LOG_NOTICE, "denied: the answer has more than %d bytes", HC_ANSWER_MAX);
	} else {
		status = hc_answer(l->agent, p->id, reply, len);
	}
	hc_wipe(reply, len);
	free(reply);
	if (status != HC_OK && hc_failure(l->agent)[0] != '\0')
		say(l, LOG_ERR, "denied: %s", hc_failure(l->agent));
	return status == HC_OK;
}

/* --- the login --- */

/*
 * Whether somebody wants the program to stop. sudo and login hold these signals
 * back while PAM runs; without this look, Ctrl-C would wait for the agent.
 */
static bool interrupted(void *arg)
{
	static const int stops[] = { SIGINT, SIGTERM, SIGHUP, SIGQUIT };
	sigset_t pending;

	(void)arg;
	if (sigpending(&pending) != 0)
		return false;
	for (size_t i = 0; i < sizeof(stops) / sizeof(stops[0]); i++)
		if (sigismember(&pending, stops[i]) == 1)
			return true;
	return false;
}

/*
 * Tells the person that it is not the password: the program itself would only
 * say that the login is incorrect.
 */
static void apologise(struct login *l)
{
	static const char text[] = "Sallyport cannot check logins right now. Please call your helpdesk.";

	if (!l->silent)
		show(l, PAM_ERROR_MSG, (const pb_byte_t *)text, strlen(text));
}

/* Says in the log why there is no verdict, and to the person that there is none. */
static enum outcome no_verdict(struct login *l, enum hc_status status)
{
	const char *socket = l->options.socket;

	if (status != HC_CANCELLED)
		apologise(l);
	switch (status) {
	case HC_AGENT_ABSENT:
		say(l, LOG_ERR,
		    "the agent is not running: nobody listens at %s (%s); start it: " START_AGENT,
		    socket, hc_failure(l->agent));
		return AGENT_ABSENT;
	case HC_TIMEOUT:
		say(l, LOG_ERR,
		    "denied: the agent at %s did not answer within %d s (%s); look at: " LOOK_AT_IT,
		    socket, l->options.timeout_ms / 1000, hc_failure(l->agent));
		return DENIED;
	case HC_CANCELLED:
		hc_cancel(l->agent);
		say(l, LOG_NOTICE, "denied: interrupted by a signal");
		return DENIED;
	default:
		say(l, LOG_ERR, "denied: the agent at %s: %s", socket, hc_failure(l->agent));
		if (hc_agent_message(l->agent)[0] != '\0')
			debug(l, "the agent said: %s", hc_agent_message(l->agent));
		return DENIED;
	}
}

/* Whether PAM still speaks of the user that Begin named (CVE-2024-9313). */
static bool same_user(const struct login *l)
{
	const void *item = NULL;
	size_t len;

	if (pam_get_item(l->pamh, PAM_USER, &item) != PAM_SUCCESS || item == NULL)
		return false;
	len = strlen(item);
	return len == l->begin.user.size && memcmp(item, l->begin.user.bytes, len) == 0;
}

static enum outcome obey(struct login *l, const sallyport_login_v1_Verdict *v)
{
	char reason[4 * sizeof(v->reason.bytes) + 1];
	enum outcome outcome;

	text_for_log(reason, sizeof(reason), v->reason.bytes, v->reason.size);
	switch (v->decision) {
	case sallyport_login_v1_Verdict_Decision_DECISION_ALLOW:
		outcome = ALLOWED;
		break;
	case sallyport_login_v1_Verdict_Decision_DECISION_SKIP:
		outcome = SKIPPED;
		break;
	default:
		say(l, LOG_NOTICE, "denied: %s%s", reason,
		    l->stage != ACCOUNT ? "" :
					  "; this login has proven no second factor (for sshd: "
					  "AuthenticationMethods publickey,keyboard-interactive)");
		if (!l->silent)
			show(l, PAM_ERROR_MSG, v->text.bytes, v->text.size);
		return DENIED;
	}
	if (!same_user(l)) {
		say(l, LOG_ERR, "denied: the user's name changed during the login");
		return DENIED;
	}
	debug(l, "%s: %s", outcome == ALLOWED ? "allowed" : "nothing is asked", reason);
	if (!l->silent)
		show(l, PAM_TEXT_INFO, v->text.bytes, v->text.size);
	return outcome;
}

/* Shows and asks what the agent says until its verdict. */
static enum outcome converse(struct login *l)
{
	const sallyport_login_v1_Directive *d;
	int64_t approval_until = 0;

	for (;;) {
		int64_t approval_ms = approval_until - hc_now_ms();
		int wait_ms = l->options.timeout_ms;
		enum hc_status status;

		if (approval_ms > 0)
			wait_ms += (int)approval_ms;
		status = hc_next(l->agent, wait_ms, &d);
		if (status != HC_OK)
			return no_verdict(l, status);
		debug(l, "directive %u", (unsigned)d->which_directive);
		switch (d->which_directive) {
		case sallyport_login_v1_Directive_prompt_tag:
			approval_until = 0;
			if (l->stage == ACCOUNT) {
				say(l, LOG_ERR, "denied: the agent asks in the account stage");
				return DENIED;
			}
			if (!ask(l, &d->directive.prompt))
				return DENIED;
			break;
		case sallyport_login_v1_Directive_notice_tag:
			show_notice(l, &d->directive.notice);
			break;
		case sallyport_login_v1_Directive_waiting_tag: {
			uint32_t ms = d->directive.waiting.expires_in_ms;

			approval_until = hc_now_ms() + (ms < APPROVAL_MAX_MS ? ms : APPROVAL_MAX_MS);
			show_waiting(l, &d->directive.waiting);
			break;
		}
		case sallyport_login_v1_Directive_close_prompt_tag:
			break; /* no prompt of ours is ever open here */
		case sallyport_login_v1_Directive_verdict_tag:
			return obey(l, &d->directive.verdict);
		default:
			return DENIED;
		}
	}
}

/* Takes one login from the socket to its outcome. */
static enum outcome run(struct login *l)
{
	enum outcome outcome = DENIED;
	enum hc_status status;

	l->agent = hc_new(interrupted, NULL);
	if (l->agent == NULL) {
		say(l, LOG_ERR, "denied: out of memory");
		return DENIED;
	}
	status = hc_connect(l->agent, l->options.socket, l->options.timeout_ms);
	if (status == HC_OK)
		status = hc_begin(l->agent, &l->begin);
	if (status == HC_OK)
		outcome = converse(l);
	else
		outcome = no_verdict(l, status);
	hc_free(l->agent);
	l->agent = NULL;
	return outcome;
}

/* --- what Begin says --- */

enum fit {
	NO_FIT = 0, /* unreadable, or longer than max: *size stays 0 */
	FITS,
};

static enum fit copy(const char *from, pb_byte_t *bytes, size_t max, pb_size_t *size)
{
	size_t len = from == NULL ? 0 : strlen(from);

	*size = 0;
	if (len > max)
		return NO_FIT;
	if (len > 0)
		memcpy(bytes, from, len);
	*size = (pb_size_t)len;
	return FITS;
}

static enum fit copy_item(const struct login *l, int item, pb_byte_t *bytes, size_t max,
			  pb_size_t *size)
{
	const void *value = NULL;

	if (pam_get_item(l->pamh, item, &value) != PAM_SUCCESS)
		return NO_FIT;
	return copy(value, bytes, max, size);
}

#define COPY(from, field)          copy(from, (field).bytes, sizeof((field).bytes), &(field).size)
#define COPY_ITEM(l, item, field)                                                               \
	copy_item(l, item, (field).bytes, sizeof((field).bytes), &(field).size)

/*
 * Fills in Begin from PAM's items. What a policy may look at is refused when it
 * does not fit, as a part of it could mean something else; terminal and language
 * are then left out.
 */
static bool describe(struct login *l, const char *user)
{
	sallyport_login_v1_Begin *b = &l->begin;
	char service[sizeof(b->service.bytes) + 1];
	char session[sizeof(b->session.bytes) + 1];
	const char *lang;
	struct service s;

	*b = (sallyport_login_v1_Begin)sallyport_login_v1_Begin_init_zero;
	b->protocol_version = HC_PROTOCOL_VERSION;
	b->hook = sallyport_login_v1_HookKind_HOOK_KIND_PAM;
	b->stage = l->stage;

	if (COPY(user, b->user) != FITS) {
		say(l, LOG_NOTICE, "denied: the user's name has more than %zu bytes",
		    sizeof(b->user.bytes));
		return false;
	}
	if (COPY_ITEM(l, PAM_RUSER, b->caller) != FITS) {
		say(l, LOG_NOTICE, "denied: PAM_RUSER has more than %zu bytes",
		    sizeof(b->caller.bytes));
		return false;
	}
	if (COPY_ITEM(l, PAM_SERVICE, b->service) != FITS) {
		say(l, LOG_NOTICE, "denied: PAM_SERVICE has more than %zu bytes",
		    sizeof(b->service.bytes));
		return false;
	}
	if (COPY_ITEM(l, PAM_RHOST, b->remote_host) != FITS) {
		say(l, LOG_NOTICE, "denied: PAM_RHOST has more than %zu bytes",
		    sizeof(b->remote_host.bytes));
		return false;
	}
	if (COPY_ITEM(l, PAM_TTY, b->session) != FITS)
		debug(l, "PAM_TTY is left out: it has more than %zu bytes", sizeof(b->session.bytes));
	lang = pam_getenv(l->pamh, "LANG");
	if (lang == NULL)
		lang = getenv("LANG");
	if (COPY(lang, b->locale) != FITS)
		debug(l, "LANG is left out: it has more than %zu bytes", sizeof(b->locale.bytes));

	memcpy(service, b->service.bytes, b->service.size);
	service[b->service.size] = '\0';
	memcpy(session, b->session.bytes, b->session.size);
	session[b->session.size] = '\0';
	s = service_describe(service, session, b->remote_host.size > 0);
	b->scenario = s.scenario;
	b->has_capabilities = true;
	b->capabilities.live_notices = s.live_notices;
	b->capabilities.qr = s.qr;

	/* Not the name itself: people type passwords there. */
	debug(l, "stage %u, scenario %u, a name of %u bytes", (unsigned)b->stage,
	      (unsigned)b->scenario, (unsigned)b->user.size);
	return true;
}

/* --- the record of a transaction --- */

static void free_record(pam_handle_t *pamh, void *data, int error_status)
{
	(void)pamh;
	(void)error_status;
	free(data);
}

/* A new record, which denies until told otherwise; NULL when there is none. */
static struct record *new_record(pam_handle_t *pamh)
{
	struct record *r = calloc(1, sizeof(*r));

	if (r != NULL && pam_set_data(pamh, RECORD, r, free_record) != PAM_SUCCESS) {
		free(r);
		return NULL;
	}
	return r;
}

/* --- what PAM calls --- */

static bool start(struct login *l, pam_handle_t *pamh, int flags, int argc, const char **argv,
		  sallyport_login_v1_Stage stage)
{
	char shown[256];
	const char *bad;

	memset(l, 0, sizeof(*l));
	l->pamh = pamh;
	l->silent = ((unsigned)flags & (unsigned)PAM_SILENT) != 0;
	l->stage = stage;
	if (options_parse(&l->options, argc, argv, &bad))
		return true;
	say(l, LOG_ERR,
	    "denied: option \"%s\" in the PAM configuration is unknown or malformed; known are "
	    "socket=PATH (absolute), timeout=SECONDS (1 to 60), skip=ignore, skip=success, debug",
	    text_for_log(shown, sizeof(shown), (const uint8_t *)bad, strlen(bad)));
	return false;
}

EXPORT int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	const char *user = NULL;
	struct record *record;
	struct login l;

	/* First of all, so that whatever comes next, account denies too. */
	record = new_record(pamh);
	if (!start(&l, pamh, flags, argc, argv, sallyport_login_v1_Stage_STAGE_AUTHENTICATE))
		return PAM_SERVICE_ERR;
	if (record == NULL) {
		say(&l, LOG_ERR, "denied: out of memory");
		return PAM_AUTH_ERR;
	}
	if (pam_get_user(pamh, &user, NULL) != PAM_SUCCESS) {
		say(&l, LOG_NOTICE, "denied: the program gave no user name");
		return PAM_AUTH_ERR;
	}
	if (user == NULL || *user == '\0') {
		say(&l, LOG_NOTICE, "denied: the user's name is empty");
		return PAM_USER_UNKNOWN;
	}
	if (!describe(&l, user))
		return PAM_AUTH_ERR;
	memcpy(record->user, l.begin.user.bytes, l.begin.user.size);

	record->outcome = run(&l);
	switch (record->outcome) {
	case ALLOWED:
		return PAM_SUCCESS;
	case SKIPPED:
		return l.options.skip;
	case AGENT_ABSENT:
		return PAM_AUTHINFO_UNAVAIL;
	default:
		return PAM_AUTH_ERR;
	}
}

/* There are no credentials to set. IGNORE would make sshd fail a good login. */
EXPORT int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	(void)pamh;
	(void)flags;
	(void)argc;
	(void)argv;
	return PAM_SUCCESS;
}

EXPORT int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
	const void *item = NULL, *data = NULL;
	const struct record *record;
	const char *user;
	struct login l;

	if (!start(&l, pamh, flags, argc, argv, ACCOUNT))
		return PAM_SERVICE_ERR;
	if (pam_get_item(pamh, PAM_USER, &item) != PAM_SUCCESS)
		return PAM_PERM_DENIED;
	user = item;
	if (user == NULL || *user == '\0') {
		say(&l, LOG_NOTICE, "denied: the user's name is empty");
		return PAM_USER_UNKNOWN;
	}

	record = pam_get_data(pamh, RECORD, &data) == PAM_SUCCESS ? data : NULL;
	if (record != NULL && record->outcome == DENIED) {
		debug(&l, "denied: the authentication was denied");
		return PAM_PERM_DENIED;
	}
	/* A factor proven by one user says nothing about another. */
	if (record != NULL && strcmp(record->user, user) == 0) {
		if (record->outcome == ALLOWED)
			return PAM_SUCCESS;
		if (record->outcome == SKIPPED)
			return l.options.skip;
	}

	if (!describe(&l, user))
		return PAM_PERM_DENIED;
	switch (run(&l)) {
	case SKIPPED:
		return l.options.skip;
	case AGENT_ABSENT:
		return PAM_AUTHINFO_UNAVAIL;
	case ALLOWED: /* the agent never says that here */
	default:
		return PAM_PERM_DENIED;
	}
}
