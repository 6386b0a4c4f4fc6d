#include "log.h"

#include <stdarg.h>
#include <stdio.h>

enum { LINE_MAX_BYTES = 768 };

#ifdef __APPLE__
#include <os/log.h>

static void write_line(enum log_level level, const char *line)
{
	os_log_type_t type = OS_LOG_TYPE_DEFAULT;
	os_log_t log = os_log_create("com.sallyport.plugin", "login"); /* the system keeps one */

	if (level == LOG_ERROR)
		type = OS_LOG_TYPE_ERROR;
	if (level == LOG_LOUD)
		type = OS_LOG_TYPE_FAULT;
	os_log_with_type(log, type, "%{public}s", line);
}
#else
#include <syslog.h>

static void write_line(enum log_level level, const char *line)
{
	int priority = LOG_NOTICE;

	if (level == LOG_ERROR)
		priority = LOG_ERR;
	if (level == LOG_LOUD)
		priority = LOG_ALERT;
	syslog(LOG_AUTHPRIV | priority, "sallyport plug-in: %s", line);
}
#endif

void log_line(enum log_level level, const char *format, ...)
{
	char line[LINE_MAX_BYTES];
	va_list args;

	va_start(args, format);
	(void)vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	write_line(level, line);
}
