/*
 *	authd PLUGIN VERSION [INSTANCES]
 *
 * Loads the plug-in with callbacks of that version (0 to 4) into two instances, as
 * a Mac has them (1: all mechanisms share one), and does what its standard input
 * says. Every line begins with an engine's number, below 4096, which comes to be
 * with the first; bytes travel as hex, "-" when there are none.
 *
 * takes	N hint KEY HEX, N context KEY HEX, N sticky KEY HEX, N immutable KEY HEX
 *			a value before the evaluation, or, at a pause, in it
 *		N unhint KEY, N uncontext KEY
 *		N get hint|context KEY	of the evaluation; says N value HEX
 *		N list MECHANISM...	"begin,privileged prompt verify,privileged";
 *					"other:NAME" is somebody else's and allows;
 *					with "slow" in it, it says N busy, waits for go
 *		N tries COUNT		how often a denied list is run; says N again, waits for go
 *		N step			says N pause MECHANISM before each, waits for go
 *		N deaf			RequestInterrupt is taken and does nothing
 *		N run
 *		N go, N stop		behind a pause
 *		N type HEX, N cancel, N break	in the window; says N idle without one
 *		N interrupt MECHANISM	asks as if it had called RequestInterrupt, if it has
 *					had its say
 *		N cross MECHANISM OTHER	the same, once, with the result of the other one
 *		N close			destroys the mechanisms, whatever they do
 *		N fail CALLBACK COUNT	so many calls fail; -1: all from now on
 *		N blind COUNT		so many windows cannot be shown
 *		N views			what the real view shows; typing is X's then
 *		N memory
 *		N end
 * says		ready
 *		N invoke|skip|busy|deactivate|deactivated|interrupt|ignored MECHANISM
 *		N result MECHANISM allow|deny|undefined|cancel
 *		N shown KIND PROMPT VISIBLE MAY_BE_EMPTY RINGING NUMBER PHONE USER TEXT NOTICE QR
 *		N closed, N unshown
 *		N ended RESULT, N destroyed
 *		N violation TEXT
 *		N views WINDOWS WINDOWS_EVER VIEWS JSON
 *		N memory RSS_KB HEAP_BYTES THREADS FDS
 *		bye VIOLATIONS
 */
#include <dirent.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

enum { LINE = 64 * 1024 };

static unsigned violated;

void say(const struct engine *e, const char *format, ...)
{
	va_list args;

	flockfile(stdout);
	printf("%u ", e != NULL ? e->number : 0);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	funlockfile(stdout);
}

void violation(const struct engine *e, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	__atomic_add_fetch(&violated, 1, __ATOMIC_RELAXED);
	say(e, "violation %s", text);
}

unsigned violations(void) { return __atomic_load_n(&violated, __ATOMIC_RELAXED); }

char *to_hex(const void *data, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *bytes = data;
	char *hex = must(malloc(2 * length + 2));

	strcpy(hex, "-");
	for (size_t i = 0; i < length; i++) {
		hex[2 * i] = digits[bytes[i] >> 4];
		hex[2 * i + 1] = digits[bytes[i] & 15];
		hex[2 * i + 2] = '\0';
	}
	return hex;
}

static void die(const char *line)
{
	fprintf(stderr, "authd: not understood: %s\n", line);
	exit(3);
}

/* In place; returns the length. */
static size_t from_hex(char *hex)
{
	size_t n = 0;

	if (strcmp(hex, "-") == 0)
		return 0;
	for (; hex[2 * n] != '\0'; n++) {
		unsigned byte;

		if (sscanf(hex + 2 * n, "%2x", &byte) != 1)
			die("hex");
		hex[n] = (char)byte;
	}
	return n;
}

static unsigned entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned n = 0;

	if (dir == NULL)
		return 0;
	for (const struct dirent *d = readdir(dir); d != NULL; d = readdir(dir))
		n += d->d_name[0] != '.';
	closedir(dir);
	return n;
}

static void say_memory(const struct engine *e)
{
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long size, resident = 0;

	if (f != NULL && fscanf(f, "%lu %lu", &size, &resident) != 2)
		resident = 0;
	if (f != NULL)
		fclose(f);
	say(e, "memory %lu %zu %u %u", resident * 4, mallinfo2().uordblks, entries("/proc/self/task"),
	    entries("/proc/self/fd") - 1);
}

/* The dictionary that a word is about. */
static struct items *which(struct engine *e, const char *word)
{
	if (strcmp(word, "immutable") == 0)
		return &e->immutable;
	if (strcmp(word, "hint") == 0)
		return e->paused && !e->between ? &e->hints : &e->given_hints;
	return e->paused && !e->between ? &e->context : &e->given_context;
}

static void answer(struct engine *e, enum answer_kind kind, char *hex)
{
	size_t length = hex != NULL ? from_hex(hex) : 0;

	if (kind == ANSWER_TEXT)
		engine_remember(e, hex, length);
	if (!view_answer(e, kind, hex, length))
		say(e, "idle");
}

static void obey(struct engine *e, char *line, char *rest)
{
	const char *word = strtok_r(NULL, " ", &rest);

	if (word == NULL)
		die(line);
	if (strcmp(word, "list") == 0) {
		if (!engine_list(e, rest))
			die(line);
	} else if (strcmp(word, "hint") == 0 || strcmp(word, "context") == 0 || strcmp(word, "immutable") == 0 ||
		   strcmp(word, "sticky") == 0) {
		const char *key = strtok_r(NULL, " ", &rest);
		char *hex = strtok_r(NULL, " ", &rest);
		size_t length;

		if (key == NULL || hex == NULL)
			die(line);
		length = from_hex(hex);
		items_set(which(e, word), key, strcmp(word, "sticky") == 0 ? kAuthorizationContextFlagSticky : 0, hex,
			  length, true);
	} else if (strcmp(word, "unhint") == 0 || strcmp(word, "uncontext") == 0) {
		items_remove(which(e, word + 2), strtok_r(NULL, " ", &rest));
	} else if (strcmp(word, "get") == 0) {
		const char *what = strtok_r(NULL, " ", &rest);
		const struct item *item = items_find(strcmp(what, "hint") == 0 ? &e->hints : &e->context,
						     strtok_r(NULL, " ", &rest));
		char *hex = item != NULL ? to_hex(item->value.data, item->value.length) : NULL;

		say(e, "value %s", hex != NULL ? hex : "none");
		free(hex);
	} else if (strcmp(word, "tries") == 0) {
		e->tries = (unsigned)atoi(rest);
	} else if (strcmp(word, "step") == 0) {
		e->stepping = true;
	} else if (strcmp(word, "deaf") == 0) {
		e->deaf = true;
	} else if (strcmp(word, "run") == 0) {
		if (!engine_run(e))
			die(line);
	} else if (strcmp(word, "go") == 0 || strcmp(word, "stop") == 0) {
		*(word[0] == 'g' ? &e->go : &e->stop) = true;
		pthread_cond_broadcast(&changed);
	} else if (strcmp(word, "type") == 0) {
		answer(e, ANSWER_TEXT, strtok_r(NULL, " ", &rest));
	} else if (strcmp(word, "cancel") == 0) {
		answer(e, ANSWER_CANCEL, NULL);
	} else if (strcmp(word, "break") == 0) {
		answer(e, ANSWER_NONE, NULL);
	} else if (strcmp(word, "interrupt") == 0) {
		engine_interrupt(e, rest);
	} else if (strcmp(word, "cross") == 0) {
		const char *by = strtok_r(NULL, " ", &rest), *other = strtok_r(NULL, " ", &rest);

		if (by == NULL || other == NULL)
			die(line);
		engine_cross(e, by, other);
	} else if (strcmp(word, "close") == 0) {
		engine_close(e);
	} else if (strcmp(word, "fail") == 0) {
		const char *name = strtok_r(NULL, " ", &rest);
		int *fails = name != NULL ? failing(name) : NULL;

		if (fails == NULL)
			die(line);
		*fails = atoi(rest);
	} else if (strcmp(word, "blind") == 0) {
		views_fail((unsigned)atoi(rest));
	} else if (strcmp(word, "views") == 0) {
		view_say(e);
	} else if (strcmp(word, "memory") == 0) {
		say_memory(e);
	} else {
		die(word);
	}
}

int main(int argc, char **argv)
{
	static char line[LINE];

	if (argc < 3 || !plugin_load(argv[1], (unsigned)atoi(argv[2]), argc > 3 && strcmp(argv[3], "1") == 0 ? 1 : 2))
		return 3;
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin) != NULL) {
		char *rest = NULL, *number = strtok_r(line, " \n", &rest);
		unsigned n = number != NULL ? (unsigned)atoi(number) : ENGINES;

		if (n >= ENGINES)
			die("the engine's number");
		if (rest != NULL && strchr(rest, '\n') != NULL)
			*strchr(rest, '\n') = '\0';
		if (strcmp(rest, "end") == 0)
			break;
		pthread_mutex_lock(&lock);
		obey(engine_get(n), line, rest);
		pthread_mutex_unlock(&lock);
	}
	pthread_mutex_lock(&lock);
	engines_close();
	pthread_mutex_unlock(&lock);
	plugin_unload();
	printf("bye %u\n", violations());
	return 0;
}
