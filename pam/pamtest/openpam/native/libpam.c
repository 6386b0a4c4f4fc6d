/*
 * A libpam that behaves as OpenPAM does on macOS, for tests on Linux: pam.conf(5) and
 * the manual pages of what is below. Where Apple's published source (OpenPAM-34) is
 * worse for us than the pages, it goes as there:
 *
 *	- a chain in which only sufficient and optional modules failed is a success
 *	- pam_prompt cuts a message to PAM_MAX_MSG_SIZE, and writes *response whatever the
 *	  style and however the conversation ended
 *	- a function that a module has not is passed over
 *
 * Policies are CONFDIR/SERVICE; a module without a directory is in CONFDIR/modules, where macOS
 * has /usr/lib/pam. Its path is tried with ".2" behind it first.
 */
#define _GNU_SOURCE

#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <security/openpam.h>

enum { OPTIONS_MAX = 16, LINE_MAX_BYTES = 1024, DEPTH_MAX = 8, ITEMS = PAM_OLDAUTHTOK_PROMPT + 1 };

enum facility { AUTH, ACCOUNT, SESSION, PASSWORD, FACILITIES, ANY = FACILITIES };
static const char *const facilities[] = { "auth", "account", "session", "password" };

enum control { REQUIRED, REQUISITE, SUFFICIENT, BINDING, OPTIONAL, CONTROLS };
static const char *const controls[] = { "required", "requisite", "sufficient", "binding", "optional" };

struct entry {
	struct entry *next;
	enum control control;
	void *module;
	int argc;
	char *argv[OPTIONS_MAX];
};

struct data {
	struct data *next;
	char *name;
	void *data;
	void (*cleanup)(pam_handle_t *pamh, void *data, int status);
};

struct variable {
	struct variable *next;
	char *pair;
};

struct pam_handle {
	char *confdir;
	struct entry *chains[FACILITIES];
	struct entry *current;
	void *items[ITEMS];
	struct data *data;
	struct variable *env;
};

/* --- policies --- */

static int word_in(const char *word, const char *const *words, int n)
{
	for (int i = 0; i < n; i++)
		if (strcasecmp(word, words[i]) == 0)
			return i;
	return -1;
}

static void *load(const pam_handle_t *pamh, const char *path)
{
	char full[LINE_MAX_BYTES + 4096];
	void *module;

	snprintf(full, sizeof(full), "%s%s%s.2", path[0] == '/' ? "" : pamh->confdir, path[0] == '/' ? "" : "/modules/", path);
	module = dlopen(full, RTLD_NOW);
	if (module == NULL) {
		full[strlen(full) - 2] = '\0';
		module = dlopen(full, RTLD_NOW);
	}
	if (module == NULL)
		syslog(LOG_ERR, "no %s found: %s", path, dlerror());
	return module;
}

static void append(struct entry **chain, struct entry *e)
{
	while (*chain != NULL)
		chain = &(*chain)->next;
	*chain = e;
}

static bool read_policy(pam_handle_t *pamh, const char *service, enum facility wanted, int depth);

/* One line without its comment. */
static bool read_line(pam_handle_t *pamh, char *line, enum facility wanted, int depth)
{
	char *save, *word = strtok_r(line, " \t\n", &save);
	struct entry *e;
	int facility, control;

	if (word == NULL)
		return true;
	facility = word_in(word, facilities, FACILITIES);
	if (facility < 0)
		return false;
	if (wanted != ANY && (int)wanted != facility)
		return true;
	word = strtok_r(NULL, " \t\n", &save);
	if (word == NULL)
		return false;
	if (strcasecmp(word, "include") == 0) {
		word = strtok_r(NULL, " \t\n", &save);
		return word != NULL && strchr(word, '/') == NULL &&
		       read_policy(pamh, word, (enum facility)facility, depth + 1);
	}
	control = word_in(word, controls, CONTROLS);
	word = strtok_r(NULL, " \t\n", &save);
	if (control < 0 || word == NULL)
		return false;
	e = calloc(1, sizeof(*e));
	if (e == NULL)
		return false;
	append(&pamh->chains[facility], e);
	e->control = (enum control)control;
	e->module = load(pamh, word);
	while ((word = strtok_r(NULL, " \t\n", &save)) != NULL) {
		if (e->argc == OPTIONS_MAX || (e->argv[e->argc] = strdup(word)) == NULL)
			return false;
		e->argc++;
	}
	return e->module != NULL;
}

/* What is not there says nothing. */
static bool read_policy(pam_handle_t *pamh, const char *service, enum facility wanted, int depth)
{
	char line[LINE_MAX_BYTES], path[4096];
	bool good = true;
	FILE *f;

	if (depth > DEPTH_MAX)
		return false;
	snprintf(path, sizeof(path), "%s/%s", pamh->confdir, service);
	f = fopen(path, "r");
	if (f == NULL)
		return errno == ENOENT;
	while (good && fgets(line, sizeof(line), f) != NULL) {
		line[strcspn(line, "#\n")] = '\0';
		good = read_line(pamh, line, wanted, depth);
	}
	fclose(f);
	return good;
}

/* A facility of which the service says nothing is "other"'s, or denies. */
static bool configure(pam_handle_t *pamh, const char *service)
{
	char deny[] = " required pam_deny.so", line[sizeof(deny) + 16];

	if (!read_policy(pamh, service, ANY, 0))
		return false;
	for (int i = 0; i < FACILITIES; i++) {
		if (pamh->chains[i] == NULL && !read_policy(pamh, "other", (enum facility)i, 0))
			return false;
		snprintf(line, sizeof(line), "%s%s", facilities[i], deny);
		if (pamh->chains[i] == NULL && !read_line(pamh, line, ANY, 0))
			return false;
	}
	return true;
}

/* --- a transaction --- */

int pam_start_confdir(const char *service, const char *user, const struct pam_conv *conv, const char *confdir,
		      pam_handle_t **pamh)
{
	pam_handle_t *h = calloc(1, sizeof(*h));

	if (h == NULL || (h->confdir = strdup(confdir)) == NULL)
		abort();
	if (pam_set_item(h, PAM_SERVICE, service) != PAM_SUCCESS || pam_set_item(h, PAM_USER, user) != PAM_SUCCESS ||
	    pam_set_item(h, PAM_CONV, conv) != PAM_SUCCESS || !configure(h, service)) {
		pam_end(h, PAM_SYSTEM_ERR);
		return PAM_SYSTEM_ERR;
	}
	*pamh = h;
	return PAM_SUCCESS;
}

int pam_end(pam_handle_t *pamh, int status)
{
	while (pamh->data != NULL) {
		struct data *d = pamh->data;

		pamh->data = d->next;
		if (d->cleanup != NULL)
			d->cleanup(pamh, d->data, status);
		free(d->name);
		free(d);
	}
	while (pamh->env != NULL) {
		struct variable *v = pamh->env;

		pamh->env = v->next;
		free(v->pair);
		free(v);
	}
	for (int i = 0; i < FACILITIES; i++) {
		while (pamh->chains[i] != NULL) {
			struct entry *e = pamh->chains[i];

			pamh->chains[i] = e->next;
			while (e->argc > 0)
				free(e->argv[--e->argc]);
			if (e->module != NULL)
				dlclose(e->module);
			free(e);
		}
	}
	for (int i = PAM_SERVICE; i < ITEMS; i++)
		pam_set_item(pamh, i, NULL);
	free(pamh->confdir);
	free(pamh);
	return PAM_SUCCESS;
}

/* pam.conf(5), "control-flag". */
static int run(pam_handle_t *pamh, enum facility facility, const char *function, int flags)
{
	bool failed = false, setcred = strcmp(function, "pam_sm_setcred") == 0;
	int result = PAM_SUCCESS;

	if (pamh->current != NULL)
		return PAM_ABORT;
	for (struct entry *e = pamh->chains[facility]; e != NULL; e = e->next) {
		int (*call)(pam_handle_t *, int, int, const char **);
		int r;

		*(void **)&call = dlsym(e->module, function);
		if (call == NULL)
			continue;
		pamh->current = e;
		r = call(pamh, flags, e->argc, (const char **)e->argv);
		pamh->current = NULL;
		if (r == PAM_IGNORE)
			continue;
		if (r == PAM_SUCCESS) {
			if ((e->control == SUFFICIENT || e->control == BINDING) && !failed && !setcred)
				break;
			continue;
		}
		if (result == PAM_SUCCESS)
			result = r;
		if ((e->control == REQUIRED || e->control == BINDING) && !failed) {
			failed = true;
			result = r;
		}
		if (e->control == REQUISITE) {
			failed = true;
			break;
		}
	}
	return failed || result == PAM_NEW_AUTHTOK_REQD ? result : PAM_SUCCESS;
}

int pam_authenticate(pam_handle_t *pamh, int flags)
{
	int r;

	if ((flags & ~(PAM_SILENT | PAM_DISALLOW_NULL_AUTHTOK)) != 0)
		return PAM_SYMBOL_ERR;
	r = run(pamh, AUTH, "pam_sm_authenticate", flags);
	pam_set_item(pamh, PAM_AUTHTOK, NULL);
	return r;
}

int pam_setcred(pam_handle_t *pamh, int flags)
{
	return run(pamh, AUTH, "pam_sm_setcred", flags);
}

int pam_acct_mgmt(pam_handle_t *pamh, int flags)
{
	return run(pamh, ACCOUNT, "pam_sm_acct_mgmt", flags);
}

/* --- what is kept --- */

int pam_set_item(pam_handle_t *pamh, int item, const void *value)
{
	void *copy = NULL;

	if (item < PAM_SERVICE || item >= ITEMS)
		return PAM_SYMBOL_ERR;
	if (value != NULL) {
		size_t size = item == PAM_CONV ? sizeof(struct pam_conv) : strlen(value) + 1;

		copy = malloc(size);
		if (copy == NULL)
			return PAM_BUF_ERR;
		memcpy(copy, value, size);
	}
	free(pamh->items[item]);
	pamh->items[item] = copy;
	return PAM_SUCCESS;
}

int pam_get_item(const pam_handle_t *pamh, int item, const void **value)
{
	if (item < PAM_SERVICE || item >= ITEMS)
		return PAM_SYMBOL_ERR;
	*value = pamh->items[item];
	return PAM_SUCCESS;
}

int pam_set_data(pam_handle_t *pamh, const char *name, void *data,
		 void (*cleanup)(pam_handle_t *pamh, void *data, int status))
{
	struct data *d;

	for (d = pamh->data; d != NULL; d = d->next) {
		if (strcmp(d->name, name) != 0)
			continue;
		if (d->cleanup != NULL)
			d->cleanup(pamh, d->data, PAM_SUCCESS);
		break;
	}
	if (d == NULL) {
		d = calloc(1, sizeof(*d));
		if (d == NULL)
			return PAM_BUF_ERR;
		d->name = strdup(name);
		if (d->name == NULL) {
			free(d);
			return PAM_BUF_ERR;
		}
		d->next = pamh->data;
		pamh->data = d;
	}
	d->data = data;
	d->cleanup = cleanup;
	return PAM_SUCCESS;
}

int pam_get_data(const pam_handle_t *pamh, const char *name, const void **data)
{
	for (struct data *d = pamh->data; d != NULL; d = d->next) {
		if (strcmp(d->name, name) == 0) {
			*data = d->data;
			return PAM_SUCCESS;
		}
	}
	return PAM_NO_MODULE_DATA;
}

int pam_putenv(pam_handle_t *pamh, const char *pair)
{
	struct variable *v = calloc(1, sizeof(*v));

	if (v == NULL || (v->pair = strdup(pair)) == NULL)
		abort();
	v->next = pamh->env;
	pamh->env = v;
	return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *pamh, const char *name)
{
	size_t len = strlen(name);

	for (struct variable *v = pamh->env; v != NULL; v = v->next)
		if (strncmp(v->pair, name, len) == 0 && v->pair[len] == '=')
			return v->pair + len + 1;
	return NULL;
}

/* --- what modules are helped with --- */

const char *openpam_get_option(pam_handle_t *pamh, const char *option)
{
	size_t len = strlen(option);

	for (int i = 0; pamh->current != NULL && i < pamh->current->argc; i++) {
		const char *arg = pamh->current->argv[i];

		if (strncmp(arg, option, len) == 0 && (arg[len] == '\0' || arg[len] == '='))
			return arg + len + (arg[len] == '=');
	}
	return NULL;
}

int pam_prompt(const pam_handle_t *pamh, int style, char **response, const char *format, ...)
{
	const struct pam_conv *conv = pamh->items[PAM_CONV];
	struct pam_response *answer = NULL;
	char text[PAM_MAX_MSG_SIZE];
	struct pam_message message = { style, text };
	const struct pam_message *messages = &message;
	va_list args;
	int r;

	if (conv == NULL || conv->conv == NULL)
		return PAM_SYSTEM_ERR;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	r = conv->conv(1, &messages, &answer, conv->appdata_ptr);
	*response = answer == NULL ? NULL : answer->resp;
	free(answer);
	return r;
}

/* Asks for an item that is not there yet. */
static int ask(pam_handle_t *pamh, int item, int style, const char *prompt, const char **value)
{
	char *answer = NULL;
	const void *kept;
	int r = pam_prompt(pamh, style, &answer, "%s", prompt);

	if (r != PAM_SUCCESS)
		return r;
	if (answer == NULL)
		return PAM_TRY_AGAIN;
	r = pam_set_item(pamh, item, answer);
	explicit_bzero(answer, strlen(answer));
	free(answer);
	if (r == PAM_SUCCESS && (r = pam_get_item(pamh, item, &kept)) == PAM_SUCCESS)
		*value = kept;
	return r;
}

int pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt)
{
	*user = pamh->items[PAM_USER];
	if (*user != NULL)
		return PAM_SUCCESS;
	return ask(pamh, PAM_USER, PAM_PROMPT_ECHO_ON, prompt == NULL ? "Login:" : prompt, user);
}

int pam_get_authtok(pam_handle_t *pamh, int item, const char **token, const char *prompt)
{
	bool use = openpam_get_option(pamh, "use_first_pass") != NULL;

	*token = pamh->items[item];
	if (*token != NULL && (use || openpam_get_option(pamh, "try_first_pass") != NULL))
		return PAM_SUCCESS;
	*token = NULL;
	if (use)
		return PAM_AUTH_ERR;
	return ask(pamh, item, PAM_PROMPT_ECHO_OFF, prompt, token);
}

const char *pam_strerror(const pam_handle_t *pamh, int error)
{
	(void)pamh;
	switch (error) {
	case PAM_CONV_ERR:
		return "conversation failure";
	default:
		return "an error";
	}
}
