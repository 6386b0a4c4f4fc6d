/*
 * A fuzzer's input: one byte that says how the agent behaves, then the bytes it
 * sends. The committed seeds (seeds/) are recordings of a real grpc-go server.
 */
#ifndef SALLYPORT_HOOKCLIENT_INPUT_H
#define SALLYPORT_HOOKCLIENT_INPUT_H

#include "transport_memory.h"

enum {
	INPUT_CHUNKS = 0x07, /* bits: how many bytes at once */
	INPUT_STAYS = 0x08,  /* bit: silent at the end instead of gone */
	INPUT_ANSWERS = 0x30, /* bits: what the person does at a prompt */
	INPUT_ANSWER_TYPES = 0x00,
	INPUT_ANSWER_EMPTY = 0x10,
	INPUT_ANSWER_PASSWORD = 0x20,
	INPUT_ANSWER_FAILS = 0x30,
	INPUT_ACCOUNT = 0x40, /* bit: the account stage */
	INPUT_SILENT = 0x80,  /* bit: PAM_SILENT */
};

/* Sets memory_agent up from an input; returns the behaviour byte. */
static inline uint8_t input_read(const uint8_t *data, size_t size)
{
	static const size_t chunks[] = { 4096, 1, 2, 5, 9, 64, 1000, 16384 };
	uint8_t how = size > 0 ? data[0] : 0;

	memory_agent = (struct memory_agent){
		.bytes = size > 0 ? data + 1 : data,
		.len = size > 0 ? size - 1 : 0,
		.chunk = chunks[how & INPUT_CHUNKS],
		.stays = (how & INPUT_STAYS) != 0,
	};
	return how;
}

#endif
