/* Text that others wrote, made safe for whoever reads it and for the log. */
#ifndef SALLYPORT_HOOKCLIENT_TEXT_H
#define SALLYPORT_HOOKCLIENT_TEXT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Copies len bytes of UTF-8 to out (size bytes, of which len + 1 suffice) and
 * ends it with NUL. A control character other than a newline, one that turns
 * the writing direction, and a byte that is no UTF-8 become '?'.
 */
void text_for_person(char *out, size_t size, const uint8_t *in, size_t len);

/*
 * The same for the log, where one entry is one line: everything but printable
 * ASCII, and the backslash itself, becomes \xHH. Cut to size.
 */
const char *text_for_log(char *out, size_t size, const uint8_t *in, size_t len);

#ifdef __cplusplus
}
#endif

#endif
