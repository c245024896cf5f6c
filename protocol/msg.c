/* The message table of msg.h, laid out once as data. Constant, any thread. */
#include "protocol/msg.h"

#include <string.h>

const char *const role_names[ROLE_COUNT] = {
    [ROLE_NONE] = "none", [ROLE_READ] = "read",       [ROLE_SUBMIT] = "submit",
    [ROLE_WORK] = "work", [ROLE_OPERATE] = "operate", [ROLE_ADMIN] = "admin"};

const struct msg_info msg_infos[MSG_COUNT] = {
#define X(id, name, dir, kind, early, role, scope) [MSG_##id] = {name, dir, kind, early, role, scope},
    MSG_TABLE(X)
#undef X
};

static const unsigned char name_lens[MSG_COUNT] = {
#define X(id, name, dir, kind, early, role, scope) [MSG_##id] = sizeof name - 1,
    MSG_TABLE(X)
#undef X
};

int msg_find(const char *name, size_t len, enum msg_dir dir)
{
	for (int i = 0; i < MSG_COUNT; i++)
		if (name_lens[i] == len && msg_infos[i].dir == dir &&
		    memcmp(msg_infos[i].name, name, len) == 0)
			return i;
	return -1;
}
