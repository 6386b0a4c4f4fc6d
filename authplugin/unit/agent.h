/*
 * A stand-in for the agent behind hookclient.h: each login plays the next script, a
 * list of words. "absent" and "full" are for connecting; then
 *
 *	prompt prompt0 visible		a prompt; one that may be left empty; one to be seen
 *	ring notice qr close		the other directives
 *	=TEXT =?			an answer must have come: this one; the password
 *	phone				nothing more until agent_phone
 *	allow skip zero deny:REASON	the verdict
 *	silence broken			and the ends that are none
 */
#ifndef SALLYPORT_UNIT_AGENT_H
#define SALLYPORT_UNIT_AGENT_H

#include "hookclient.h"

/* The scripts of the next logins; NULL ends them, and whoever comes then finds nobody. */
void agent_play(const char *const *scripts);
/* The phone is answered. */
void agent_phone(void);
/* The last login's Begin; how many hc_clients there are; how often somebody cancelled. */
void agent_seen(sallyport_login_v1_Begin *begin, int *open, int *cancelled);

#endif
