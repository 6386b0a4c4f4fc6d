/*
 * The break-glass list: accounts that get in with the password alone wherever the
 * plug-in is asked, so that a broken agent locks nobody out for good. The plug-in reads it
 * itself, as the agent need not be alive for it.
 *
 * A line is a uid, as "501" or "uid:501"; "#" begins a comment. By number only: a
 * name may be somebody else's tomorrow.
 */
#ifndef SALLYPORT_BREAKGLASS_H
#define SALLYPORT_BREAKGLASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BREAKGLASS_MAX = 64 * 1024 };

/*
 * Whether the list names uid. A list that is not there names nobody; one that others
 * than root may write, or that has a line that is none, neither, and the log says so.
 */
bool breakglass_lists(uint32_t uid);

/* The same of a list's text; false in *good, and false, when it is malformed. */
bool breakglass_parse(const char *text, size_t length, uint32_t uid, bool *good, unsigned *line);

#endif
