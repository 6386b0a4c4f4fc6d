#define _GNU_SOURCE /* vasprintf */

#include "stubpam.h"

#include <security/pam_ext.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void stub_end(pam_handle_t *pamh)
{
	if (pamh->data != NULL)
		pamh->cleanup(pamh, pamh->data, PAM_SUCCESS);
	pamh->data = NULL;
}

int pam_set_data(pam_handle_t *pamh, const char *name, void *data,
		 void (*cleanup)(pam_handle_t *pamh, void *data, int error))
{
	(void)name;
	stub_end(pamh);
	pamh->data = data;
	pamh->cleanup = cleanup;
	return PAM_SUCCESS;
}

int pam_get_data(const pam_handle_t *pamh, const char *name, const void **data)
{
	(void)name;
	*data = pamh->data;
	return pamh->data == NULL ? PAM_NO_MODULE_DATA : PAM_SUCCESS;
}

int pam_get_item(const pam_handle_t *pamh, int item, const void **value)
{
	switch (item) {
	case PAM_USER:
		*value = "alice";
		break;
	case PAM_SERVICE:
		*value = "login";
		break;
	case PAM_TTY:
		*value = "/dev/pts/3";
		break;
	case PAM_AUTHTOK:
		*value = pamh->answer == STUB_PASSWORD ? STUB_CANARY : NULL;
		break;
	default:
		*value = NULL;
	}
	return PAM_SUCCESS;
}

int pam_get_user(pam_handle_t *pamh, const char **user, const char *prompt)
{
	(void)pamh;
	(void)prompt;
	*user = "alice";
	return PAM_SUCCESS;
}

const char *pam_getenv(pam_handle_t *pamh, const char *name)
{
	(void)pamh;
	(void)name;
	return "C.UTF-8";
}

const char *pam_strerror(pam_handle_t *pamh, int error)
{
	(void)pamh;
	(void)error;
	return "an error";
}

/* Aborts when text holds the canary, or what would harm a terminal or a log. */
static void inspect(const pam_handle_t *pamh, const char *format, va_list args,
		    bool newline_allowed)
{
	char *text;

	if (vasprintf(&text, format, args) < 0)
		return;
	if (!pamh->canary_known && strstr(text, STUB_CANARY) != NULL)
		abort();
	for (const char *p = text; *p != '\0'; p++)
		if (((unsigned char)*p < 0x20 || *p == 0x7f) && !(newline_allowed && *p == '\n'))
			abort();
	free(text);
}

void pam_syslog(const pam_handle_t *pamh, int priority, const char *format, ...)
{
	va_list args;

	(void)priority;
	((pam_handle_t *)(uintptr_t)pamh)->logged++;
	va_start(args, format);
	inspect(pamh, format, args, false);
	va_end(args);
}

int pam_prompt(pam_handle_t *pamh, int style, char **response, const char *format, ...)
{
	bool prompt = style == PAM_PROMPT_ECHO_ON || style == PAM_PROMPT_ECHO_OFF;
	va_list args;

	va_start(args, format);
	inspect(pamh, format, args, prompt);
	va_end(args);
	if (!prompt) {
		pamh->shown++;
		return PAM_SUCCESS;
	}
	pamh->prompts++;
	switch (pamh->answer) {
	case STUB_FAILS:
		return PAM_CONV_ERR;
	case STUB_EMPTY:
		*response = strdup("");
		break;
	default:
		*response = strdup(STUB_CANARY);
	}
	return PAM_SUCCESS;
}
