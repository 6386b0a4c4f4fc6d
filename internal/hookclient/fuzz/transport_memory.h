/* The platform seam for tests: the agent is an array of bytes. */
#ifndef SALLYPORT_HOOKCLIENT_TRANSPORT_MEMORY_H
#define SALLYPORT_HOOKCLIENT_TRANSPORT_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How the agent of the next connections behaves. */
struct memory_agent {
	const uint8_t *bytes; /* what it sends */
	size_t len;
	size_t chunk;         /* at most so many at once, in both directions; above 0 */
	bool stays;           /* behind them it is silent; else it closes the connection */
};

extern struct memory_agent memory_agent;

#endif
