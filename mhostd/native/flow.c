/* flow.c - a cache of flows (flow.h) */

#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "flow.h"

/**
 * flow_table_init() - an empty table; its pages are there once they are used
 *
 * Return: 0, or -1 if there is no memory
 */
int flow_table_init(struct flow_table *table)
{
	table->flows = calloc((size_t)FLOW_SETS * FLOW_WAYS, sizeof(struct flow));
	if (!table->flows)
		return -1;
	if (getrandom(&table->seed, sizeof(table->seed), 0) != sizeof(table->seed))
		table->seed = (uintptr_t)table->flows;
	table->seed |= 1;
	return 0;
}

void flow_table_free(struct flow_table *table)
{
	free(table->flows);
	table->flows = NULL;
}

/* A keyed hash: who does not know the seed cannot choose keys that share a place. */
uint64_t flow_hash(const struct flow_table *table, const void *key)
{
	uint64_t words[FLOW_KEY / 8], hash = table->seed;

	memcpy(words, key, sizeof(words));
	for (size_t i = 0; i < FLOW_KEY / 8; i++) {
		hash = (hash ^ words[i]) * 0x9e3779b97f4a7c15ull;
		hash ^= hash >> 29;
		hash = (hash + table->seed) * 0xbf58476d1ce4e5b9ull;
		hash ^= hash >> 32;
	}
	return hash;
}

/* The entry of a key, or NULL; whether it still counts is the caller's to see. */
struct flow *flow_find(const struct flow_table *table, const void *key, uint64_t hash)
{
	struct flow *set = table->flows + (hash % FLOW_SETS) * FLOW_WAYS;

	for (int i = 0; i < FLOW_WAYS; i++)
		if (set[i].epoch && !memcmp(set[i].key, key, FLOW_KEY))
			return set + i;
	return NULL;
}

/* An entry for a key, the first of its place; the caller fills in the rest. */
struct flow *flow_add(struct flow_table *table, const void *key)
{
	uint64_t hash = flow_hash(table, key);
	struct flow *set = table->flows + (hash % FLOW_SETS) * FLOW_WAYS;
	struct flow *old = flow_find(table, key, hash);

	if (!old)
		old = set + FLOW_WAYS - 1;
	memmove(set + 1, set, (size_t)(old - set) * sizeof(*set));
	memset(set, 0, sizeof(*set));
	memcpy(set->key, key, FLOW_KEY);
	return set;
}
