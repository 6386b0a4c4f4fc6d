/*
 * driver: a login program in miniature. It loads the module through the real
 * libpam and lets a test play the person, line by line over its standard input
 * and output; bytes travel as hex, "-" is the empty string.
 *
 *	driver CONFDIR SERVICE USER
 *
 * takes	item NUMBER HEX		pam_set_item
 *		env HEX			pam_putenv ("LANG=de_DE.UTF-8")
 *		block			holds SIGINT, SIGTERM, SIGHUP, SIGQUIT back, as sudo does
 *		authenticate FLAGS	FLAGS is a number; likewise
 *		account FLAGS, setcred FLAGS
 *		end			pam_end
 * says		ready
 *		msg STYLE HEX		then takes a reply:
 *			reply HEX	what the person typed
 *			null		a response without text
 *			none		no response at all, and PAM_SUCCESS
 *			fail NUMBER	this PAM error
 *			item NUMBER HEX	first set an item, then take the reply
 *		log LEVEL HEX		what went to syslog
 *		ret NUMBER		what the call returned
 */
#define _GNU_SOURCE

#include <security/pam_appl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

enum { LINE = 64 * 1024 };

static pam_handle_t *pamh;

static void die(const char *why)
{
	fprintf(stderr, "driver: %s\n", why);
	exit(3);
}

static void say_hex(const char *what, int number, const char *text)
{
	printf("%s %d ", what, number);
	if (*text == '\0')
		putchar('-');
	for (; *text != '\0'; text++)
		printf("%02x", (unsigned char)*text);
	putchar('\n');
	fflush(stdout);
}

/* syslog(3) as libpam calls it: the program's own come before libc's. */
static void capture(int priority, const char *format, va_list args)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		die("out of memory");
	say_hex("log", LOG_PRI(priority), text);
	free(text);
}

void syslog(int priority, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	capture(priority, format, args);
	va_end(args);
}

void vsyslog(int priority, const char *format, va_list args)
{
	capture(priority, format, args);
}

void __syslog_chk(int priority, int flag, const char *format, ...);
void __syslog_chk(int priority, int flag, const char *format, ...)
{
	va_list args;

	(void)flag;
	va_start(args, format);
	capture(priority, format, args);
	va_end(args);
}

void __vsyslog_chk(int priority, int flag, const char *format, va_list args);
void __vsyslog_chk(int priority, int flag, const char *format, va_list args)
{
	(void)flag;
	capture(priority, format, args);
}

/* The next line without its newline; false at the end. */
static bool next_line(char *line)
{
	if (fgets(line, LINE, stdin) == NULL)
		return false;
	line[strcspn(line, "\n")] = '\0';
	return true;
}

static char *from_hex(const char *hex)
{
	size_t len = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
	char *text = malloc(len + 1);

	if (text == NULL)
		die("out of memory");
	for (size_t i = 0; i < len; i++) {
		unsigned byte;

		if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
			die("bad hex");
		text[i] = (char)byte;
	}
	text[len] = '\0';
	return text;
}

static void set_item(const char *args)
{
	char *rest, *text;
	long item = strtol(args, &rest, 10);

	text = from_hex(rest + 1);
	if (pam_set_item(pamh, (int)item, text) != PAM_SUCCESS)
		die("pam_set_item failed");
	free(text);
}

static int converse(int n, const struct pam_message **msg, struct pam_response **resp, void *arg)
{
	char line[LINE];

	(void)arg;
	if (n != 1)
		die("more than one message at once");
	say_hex("msg", msg[0]->msg_style, msg[0]->msg);
	for (;;) {
		if (!next_line(line))
			die("no reply");
		if (strncmp(line, "item ", 5) == 0) {
			set_item(line + 5);
			continue;
		}
		if (strncmp(line, "fail ", 5) == 0)
			return atoi(line + 5);
		if (strcmp(line, "none") == 0) {
			*resp = NULL;
			return PAM_SUCCESS;
		}
		*resp = calloc(1, sizeof(**resp));
		if (*resp == NULL)
			die("out of memory");
		if (strncmp(line, "reply ", 6) == 0)
			(*resp)->resp = from_hex(line + 6);
		else if (strcmp(line, "null") != 0)
			die("unknown reply");
		return PAM_SUCCESS;
	}
}

static void block_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) != 0)
		die("sigprocmask failed");
}

static void ret(int code)
{
	printf("ret %d\n", code);
	fflush(stdout);
}

int main(int argc, char **argv)
{
	static const struct pam_conv conv = { converse, NULL };
	char line[LINE];
	char *user;
	int code;

	if (argc != 4)
		die("usage: driver CONFDIR SERVICE USER");
	user = from_hex(argv[3]);
	code = pam_start_confdir(argv[2], *user == '\0' ? NULL : user, &conv, argv[1], &pamh);
	free(user);
	if (code != PAM_SUCCESS)
		die("pam_start_confdir failed");
	printf("ready\n");
	fflush(stdout);
	while (next_line(line) && strcmp(line, "end") != 0) {
		if (strncmp(line, "item ", 5) == 0) {
			set_item(line + 5);
		} else if (strncmp(line, "env ", 4) == 0) {
			char *pair = from_hex(line + 4);

			if (pam_putenv(pamh, pair) != PAM_SUCCESS)
				die("pam_putenv failed");
			free(pair);
		} else if (strcmp(line, "block") == 0) {
			block_signals();
		} else if (strncmp(line, "authenticate ", 13) == 0) {
			ret(code = pam_authenticate(pamh, atoi(line + 13)));
		} else if (strncmp(line, "account ", 8) == 0) {
			ret(code = pam_acct_mgmt(pamh, atoi(line + 8)));
		} else if (strncmp(line, "setcred ", 8) == 0) {
			ret(code = pam_setcred(pamh, atoi(line + 8)));
		} else {
			die("unknown command");
		}
	}
	return pam_end(pamh, code) == PAM_SUCCESS ? 0 : 4;
}
