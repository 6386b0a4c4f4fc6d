/*
 * unit: plays recorded agents (input.h) to the module and says what came out.
 *
 *	unit login FILE		the result of pam_sm_authenticate, "prompts N shown N"
 *	unit memory FILE	the login again and again, with the first, second, third...
 *				allocation failing, until one runs through: all others must deny.
 *				And no block may be freed while it still holds the answer.
 *
 * Linked with --wrap for malloc, calloc and free, which thereby pass through here
 * for the module, the client and (over its nghttp2_mem) nghttp2.
 */
#define _GNU_SOURCE

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "stubpam.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void __real_free(void *p);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void __wrap_free(void *p);

static long allocations_left = -1; /* below 0: no end */
static bool watching;
static unsigned freed;

static bool may_allocate(void)
{
	if (allocations_left < 0)
		return true;
	if (allocations_left == 0)
		return false;
	allocations_left--;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return may_allocate() ? __real_malloc(size) : NULL;
}

void *__wrap_calloc(size_t n, size_t size)
{
	return may_allocate() ? __real_calloc(n, size) : NULL;
}

void __wrap_free(void *p)
{
	if (watching && p != NULL) {
		freed++;
		if (memmem(p, malloc_usable_size(p), STUB_CANARY, strlen(STUB_CANARY)) != NULL) {
			fprintf(stderr, "unit: a block of %zu bytes was freed with the answer in it\n",
				malloc_usable_size(p));
			abort();
		}
	}
	__real_free(p);
}

static uint8_t input[64 * 1024];

static int play(struct pam_handle *pam, size_t size)
{
	static const char *argv[] = { "socket=/memory", "timeout=1" };
	static const enum stub_answer answers[] = { STUB_TYPES, STUB_EMPTY, STUB_PASSWORD, STUB_FAILS };
	uint8_t how = input_read(input, size);
	int code;

	*pam = (struct pam_handle){ .answer = answers[(how & INPUT_ANSWERS) >> 4] };
	watching = true;
	code = pam_sm_authenticate(pam, 0, 2, argv);
	watching = false;
	stub_end(pam);
	return code;
}

int main(int argc, char **argv)
{
	struct pam_handle pam;
	size_t size;
	FILE *f;
	int code, want;

	if (argc != 3 || (f = fopen(argv[2], "rb")) == NULL) {
		fprintf(stderr, "usage: unit login|memory FILE\n");
		return 2;
	}
	size = fread(input, 1, sizeof(input), f);
	fclose(f);

	want = play(&pam, size);
	if (strcmp(argv[1], "memory") != 0) {
		printf("result %d prompts %u shown %u\n", want, pam.prompts, pam.shown);
		return 0;
	}
	for (long n = 0;; n++) {
		allocations_left = n;
		code = play(&pam, size);
		if (allocations_left > 0) { /* none failed */
			allocations_left = -1;
			printf("allocations %ld freed %u result %d\n", n - 1, freed, code);
			return code == want && freed > 0 ? 0 : 1;
		}
		allocations_left = -1;
		/* The very last may be one that a login can do without. */
		if (code != PAM_AUTH_ERR && code != want) {
			fprintf(stderr, "unit: with allocation %ld failing the result is %d\n", n, code);
			return 1;
		}
	}
}
