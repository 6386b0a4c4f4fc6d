/* Hints and context: what authd keeps and hands to each mechanism as a copy. */
#include <stdlib.h>
#include <string.h>

#include "host.h"

enum { POISON = 0xDB };

void *must(void *memory)
{
	if (memory == NULL) {
		fprintf(stderr, "authd: out of memory\n");
		exit(3);
	}
	return memory;
}

/* Memory of exactly that size, so that a sanitizer sees one byte too many. */
static void *copy(const void *data, size_t length)
{
	void *p = must(malloc(length > 0 ? length : 1));

	if (length > 0)
		memcpy(p, data, length);
	return p;
}

static void drop(AuthorizationValue *v)
{
	if (v->data != NULL)
		memset(v->data, POISON, v->length);
	free(v->data);
	*v = (AuthorizationValue){ 0, NULL };
}

struct item *items_find(const struct items *items, const char *key)
{
	for (size_t i = 0; i < items->count; i++)
		if (strcmp(items->list[i].key, key) == 0)
			return &items->list[i];
	return NULL;
}

void items_set(struct items *items, const char *key, AuthorizationContextFlags flags, const void *data,
	       size_t length, bool given)
{
	void *bytes = copy(data, length); /* first: data may be what is replaced */
	struct item *item = items_find(items, key);

	if (item == NULL) {
		/* Every item moves, so a pointer to one is seen to be stale too. */
		struct item *list = must(malloc((items->count + 1) * sizeof(*list)));

		if (items->count > 0)
			memcpy(list, items->list, items->count * sizeof(*list));
		free(items->list);
		items->list = list;
		item = &list[items->count++];
		*item = (struct item){ 0 };
		snprintf(item->key, sizeof(item->key), "%s", key);
	}
	drop(&item->value);
	item->value = (AuthorizationValue){ length, bytes };
	item->flags = flags;
	item->given = given;
}

void items_remove(struct items *items, const char *key)
{
	struct item *item = items_find(items, key);

	if (item == NULL)
		return;
	drop(&item->value);
	*item = items->list[--items->count];
}

void items_merge(struct items *to, const struct items *from)
{
	for (size_t i = 0; i < from->count; i++) {
		const struct item *f = &from->list[i];

		items_set(to, f->key, f->flags, f->value.data, f->value.length, f->given);
	}
}

void items_renew(struct items *items)
{
	struct items fresh = { NULL, 0 };

	items_merge(&fresh, items);
	items_clear(items);
	*items = fresh;
}

void items_clear(struct items *items)
{
	for (size_t i = 0; i < items->count; i++)
		drop(&items->list[i].value);
	free(items->list);
	*items = (struct items){ NULL, 0 };
}
