/*
 * The system's log: who failed and why, for a helpdesk. os_log on macOS
 * (log show --predicate 'subsystem == "com.sallyport.plugin"'), syslog elsewhere.
 */
#ifndef SALLYPORT_LOG_H
#define SALLYPORT_LOG_H

enum log_level {
	LOG_NOTE = 100, /* none of syslog's own numbers */
	LOG_ERROR,
	LOG_LOUD, /* what somebody should look at today */
};

/*
 * One line, cut to size. What it says is public: no answer, no password, and a name
 * only as text_for_log writes it.
 */
__attribute__((format(printf, 2, 3)))
void log_line(enum log_level level, const char *format, ...);

#endif
