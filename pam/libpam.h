/*
 * The two libpams: Linux-PAM, and OpenPAM, which is macOS's. What a module calls is
 * the same but for the log, and for how long a message may be.
 */
#ifndef SALLYPORT_PAM_LIBPAM_H
#define SALLYPORT_PAM_LIBPAM_H

#include <limits.h>
#include <security/pam_appl.h>
#include <security/pam_modules.h>
#include <stddef.h>
#include <syslog.h>

#if __has_include(<security/openpam.h>)
#include <security/openpam.h>
/* syslog(3) names the program, as pam_syslog does. */
#define MESSAGE_MAX ((size_t)PAM_MAX_MSG_SIZE - 1) /* pam_prompt cuts what is longer */
#define log_line(pamh, level, ...) ((void)(pamh), syslog(LOG_AUTHPRIV | (level), "pam_sallyport: " __VA_ARGS__))
#else
#include <security/pam_ext.h>
#define MESSAGE_MAX ((size_t)INT_MAX)
#define log_line(pamh, level, ...) pam_syslog((pamh), (level), __VA_ARGS__)
#endif

#ifdef __APPLE__
#define AGENT_SOCKET "/var/run/sallyport/login.sock"
#define START_AGENT  "sudo launchctl kickstart system/com.sallyport.agent"
#define LOOK_AT_IT   "sudo launchctl print system/com.sallyport.agent"
#else
#define AGENT_SOCKET "/run/sallyport/login.sock"
#define START_AGENT  "systemctl start sallyport"
#define LOOK_AT_IT   "systemctl status sallyport"
#endif

#endif
