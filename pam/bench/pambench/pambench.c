/*
 * pambench: logs in through libpam and says how long that took.
 *
 *   pambench CONFDIR         (pam_start_confdir(3): services are files there)
 *
 * reads commands from stdin, one a line, fields parted by tabs, and answers each
 * with one JSON object on a line of stdout:
 *
 *   warm SERVICE USER ANSWER    one login in this process, which lives on
 *   fresh SERVICE USER ANSWER   one login in a process started for it
 *   together N                  N logins at once, each in a process of its own;
 *                               N lines "SERVICE USER ANSWER" follow
 *
 * ANSWER is given to the one prompt that each login has. What happens between
 * two commands (resetting state, working out the next code) is outside the clock.
 * "rc" is what pam_authenticate() returned: 0 is a login that got in.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <security/pam_appl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MAX_TOGETHER = 1024 };

static const char *confdir;

static void die(const char *what)
{
	fprintf(stderr, "pambench: %s: %s\n", what, errno ? strerror(errno) : "unexpected input");
	exit(1);
}

static int64_t now(clockid_t clock)
{
	struct timespec t;
	if (clock_gettime(clock, &t) != 0)
		die("clock_gettime");
	return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct answer {
	const char *text; /* for the first prompt; after it NULL */
};

static int converse(int count, const struct pam_message **messages, struct pam_response **responses, void *data)
{
	struct answer *answer = data;
	struct pam_response *replies = calloc((size_t)count, sizeof *replies);
	if (replies == NULL)
		return PAM_BUF_ERR;
	for (int i = 0; i < count; i++) {
		int style = messages[i]->msg_style;
		if (style != PAM_PROMPT_ECHO_OFF && style != PAM_PROMPT_ECHO_ON)
			continue;
		char *text = answer->text ? strdup(answer->text) : NULL;
		answer->text = NULL;
		if (text == NULL) { /* a second prompt: nobody is there to answer it */
			while (i-- > 0)
				free(replies[i].resp);
			free(replies);
			return PAM_CONV_ERR;
		}
		replies[i].resp = text;
	}
	*responses = replies;
	return PAM_SUCCESS;
}

struct login {
	char *service, *user, *answer;
};

struct outcome {
	int rc;
	int64_t start_ns, auth_ns, end_ns; /* pam_start, pam_authenticate, pam_end */
	int64_t cpu_ns;                    /* of this process, all three together */
	int64_t finished;                  /* CLOCK_MONOTONIC when pam_authenticate returned */
};

static struct outcome authenticate(const struct login *login)
{
	struct outcome out = {0};
	struct answer answer = {login->answer};
	struct pam_conv conversation = {converse, &answer};
	pam_handle_t *pam = NULL;

	int64_t cpu = now(CLOCK_PROCESS_CPUTIME_ID);
	int64_t begun = now(CLOCK_MONOTONIC);
	out.rc = pam_start_confdir(login->service, login->user, &conversation, confdir, &pam);
	int64_t started = now(CLOCK_MONOTONIC);
	if (out.rc == PAM_SUCCESS)
		out.rc = pam_authenticate(pam, 0);
	out.finished = now(CLOCK_MONOTONIC);
	if (pam != NULL)
		pam_end(pam, out.rc);
	out.end_ns = now(CLOCK_MONOTONIC) - out.finished;
	out.cpu_ns = now(CLOCK_PROCESS_CPUTIME_ID) - cpu;
	out.start_ns = started - begun;
	out.auth_ns = out.finished - started;
	return out;
}

/* split cuts "SERVICE\tUSER\tANSWER\n" in place. */
static struct login split(char *line)
{
	struct login login;
	char *rest = line;
	line[strcspn(line, "\n")] = '\0';
	login.service = strsep(&rest, "\t");
	login.user = strsep(&rest, "\t");
	login.answer = rest;
	errno = 0;
	if (login.user == NULL || login.answer == NULL)
		die("a login is SERVICE<tab>USER<tab>ANSWER");
	return login;
}

static void warm(char *line)
{
	struct login login = split(line);
	struct outcome out = authenticate(&login);
	printf("{\"rc\":%d,\"start_ns\":%ld,\"auth_ns\":%ld,\"end_ns\":%ld,\"cpu_ns\":%ld}\n", out.rc, (long)out.start_ns,
	       (long)out.auth_ns, (long)out.end_ns, (long)out.cpu_ns);
}

/*
 * peak_kb is this process's own. getrusage's ru_maxrss is of no use: across
 * exec it keeps the size of the process that forked.
 */
static long peak_kb(void)
{
	FILE *status = fopen("/proc/self/status", "re");
	char line[256];
	long kb = -1;
	if (status == NULL)
		die("/proc/self/status");
	while (fgets(line, sizeof line, status) != NULL)
		if (sscanf(line, "VmHWM: %ld kB", &kb) == 1)
			break;
	fclose(status);
	return kb;
}

/* once is what a fresh process does: one login, from stdin to stdout. */
static int once(void)
{
	char line[1024];
	if (fgets(line, sizeof line, stdin) == NULL)
		die("stdin");
	struct login login = split(line);
	struct outcome out = authenticate(&login);
	printf("%d %ld %ld %ld %ld\n", out.rc, (long)out.start_ns, (long)out.auth_ns, (long)out.end_ns, peak_kb());
	return 0;
}

static void fresh(const char *line)
{
	int in[2], out[2], status, rc = -1;
	long start_ns = -1, auth_ns = -1, end_ns = -1, kb = -1;
	struct rusage usage;
	char reply[256] = "";
	char *arguments[] = {"pambench", "--once", (char *)confdir, NULL};
	char *environment[] = {NULL};
	posix_spawn_file_actions_t actions;
	pid_t child;

	if (pipe(in) != 0 || pipe(out) != 0)
		die("pipe");
	if (write(in[1], line, strlen(line)) != (ssize_t)strlen(line))
		die("write");
	close(in[1]);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in[0], 0);
	posix_spawn_file_actions_adddup2(&actions, out[1], 1);
	posix_spawn_file_actions_addclose(&actions, in[0]);
	posix_spawn_file_actions_addclose(&actions, out[0]);
	posix_spawn_file_actions_addclose(&actions, out[1]);

	int64_t begun = now(CLOCK_MONOTONIC);
	errno = posix_spawn(&child, "/proc/self/exe", &actions, NULL, arguments, environment);
	if (errno != 0)
		die("posix_spawn");
	if (wait4(child, &status, 0, &usage) != child)
		die("wait4");
	int64_t total = now(CLOCK_MONOTONIC) - begun;

	posix_spawn_file_actions_destroy(&actions);
	close(in[0]);
	close(out[1]);
	if (read(out[0], reply, sizeof reply - 1) <= 0 ||
	    sscanf(reply, "%d %ld %ld %ld %ld", &rc, &start_ns, &auth_ns, &end_ns, &kb) != 5) {
		errno = 0;
		die("the fresh process gave no answer");
	}
	close(out[0]);
	long cpu_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000L + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
	printf("{\"rc\":%d,\"start_ns\":%ld,\"auth_ns\":%ld,\"end_ns\":%ld,\"total_ns\":%ld,\"cpu_ns\":%ld,\"peak_kb\":%ld}\n",
	       rc, start_ns, auth_ns, end_ns, (long)total, cpu_us * 1000, kb);
}

/* What the children of together() write, in memory they share with us. */
struct shared {
	struct outcome outcomes[MAX_TOGETHER];
};

static void together(int count)
{
	static char lines[MAX_TOGETHER][1024];
	static pid_t children[MAX_TOGETHER];
	int ready[2], gate[2], status;
	char byte;
	errno = 0;
	if (count < 1 || count > MAX_TOGETHER)
		die("together: 1 to 1024 logins");
	for (int i = 0; i < count; i++)
		if (fgets(lines[i], sizeof lines[i], stdin) == NULL)
			die("together: a login is missing");
	struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	if (pipe(ready) != 0 || pipe(gate) != 0)
		die("pipe");
	for (int i = 0; i < count; i++) {
		struct login login = split(lines[i]);
		children[i] = fork();
		if (children[i] < 0)
			die("fork");
		if (children[i] == 0) {
			close(gate[1]);
			if (write(ready[1], "r", 1) != 1 || read(gate[0], &byte, 1) != 0) /* until all are there */
				_exit(1);
			shared->outcomes[i] = authenticate(&login);
			_exit(0);
		}
	}
	for (int i = 0; i < count; i++)
		if (read(ready[0], &byte, 1) != 1)
			die("read");
	int64_t begun = now(CLOCK_MONOTONIC), last = begun;
	close(gate[1]); /* opens it: every reader sees the end of file */
	for (int i = 0; i < count; i++) {
		errno = 0;
		if (waitpid(children[i], &status, 0) != children[i] || status != 0)
			die("together: a login's process broke");
	}
	close(gate[0]);
	close(ready[0]);
	close(ready[1]);
	printf("{\"rcs\":[");
	for (int i = 0; i < count; i++) {
		if (shared->outcomes[i].finished > last)
			last = shared->outcomes[i].finished;
		printf("%s%d", i ? "," : "", shared->outcomes[i].rc);
	}
	printf("],\"done_ns\":["); /* from the start of all to the end of each */
	for (int i = 0; i < count; i++)
		printf("%s%ld", i ? "," : "", (long)(shared->outcomes[i].finished - begun));
	printf("],\"wall_ns\":%ld}\n", (long)(last - begun));
	munmap(shared, sizeof *shared);
}

int main(int argc, char **argv)
{
	char line[1024];
	int count;
	if (argc == 3 && strcmp(argv[1], "--once") == 0) {
		confdir = argv[2];
		return once();
	}
	if (argc != 2) {
		fprintf(stderr, "usage: pambench CONFDIR\n");
		return 2;
	}
	confdir = argv[1];
	setvbuf(stdout, NULL, _IOLBF, 0);
	while (fgets(line, sizeof line, stdin) != NULL) {
		errno = 0;
		if (strncmp(line, "warm\t", 5) == 0)
			warm(line + 5);
		else if (strncmp(line, "fresh\t", 6) == 0)
			fresh(line + 6);
		else if (sscanf(line, "together\t%d", &count) == 1)
			together(count);
		else
			die("unknown command");
		fflush(stdout);
	}
	return 0;
}
