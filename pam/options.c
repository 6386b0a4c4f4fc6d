#include "options.h"

#include <string.h>
#include <sys/un.h>

#include "libpam.h"

enum {
	TIMEOUT_DEFAULT_S = 10,
	TIMEOUT_MAX_S = 60,
};

/* Returns what follows prefix in arg, or NULL. */
static const char *after(const char *arg, const char *prefix)
{
	size_t len = strlen(prefix);

	return strncmp(arg, prefix, len) == 0 ? arg + len : NULL;
}

/* A number of seconds, 1 to TIMEOUT_MAX_S, in digits only; 0 when it is none. */
static int seconds(const char *text)
{
	int n = 0;

	if (*text == '\0')
		return 0;
	for (; *text != '\0'; text++) {
		if (*text < '0' || *text > '9')
			return 0;
		n = n * 10 + (*text - '0');
		if (n > TIMEOUT_MAX_S)
			return 0;
	}
	return n;
}

static bool parse_one(struct options *o, const char *arg)
{
	const char *value;

	if ((value = after(arg, "socket=")) != NULL) {
		o->socket = value;
		return value[0] == '/' &&
		       strlen(value) < sizeof(((struct sockaddr_un *)0)->sun_path);
	}
	if ((value = after(arg, "timeout=")) != NULL) {
		o->timeout_ms = seconds(value) * 1000;
		return o->timeout_ms != 0;
	}
	if (strcmp(arg, "skip=ignore") == 0) {
		o->skip = PAM_IGNORE;
		return true;
	}
	if (strcmp(arg, "skip=success") == 0) {
		o->skip = PAM_SUCCESS;
		return true;
	}
	if (strcmp(arg, "debug") == 0) {
		o->debug = true;
		return true;
	}
	return false;
}

bool options_parse(struct options *o, int argc, const char **argv, const char **bad)
{
	*o = (struct options){
		.socket = AGENT_SOCKET,
		.timeout_ms = TIMEOUT_DEFAULT_S * 1000,
		.skip = PAM_IGNORE,
	};
	*bad = NULL;
	for (int i = 0; i < argc; i++) {
		if (!parse_one(o, argv[i])) {
			*bad = argv[i];
			return false;
		}
	}
	return true;
}
