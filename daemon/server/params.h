/* The parameters of every message, as a table: they are checked by it, and HTTP reads paths, queries and bodies by
 * it. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "daemon/base/err.h"
#include "protocol/mp.h"
#include "protocol/msg.h"

enum param_type { P_STR, P_INT, P_BOOL, P_UUID, P_MAP, P_ARRAY, P_STRS, P_TAGS, P_INTS, P_TIME, P_MOMENT, P_ANY };

#define PARAMS_MAX 24 /* of a message */

struct param {
	const char *name;
	enum param_type type;
	bool required;
	int64_t min, max; /* of an integer, or of a string's or array's length; max 0: no bound of its own */
};

/* Those of a message to the daemon, ending with one without a name. NULL: it has no function. */
const struct param *message_params(enum msg_id m);
/* 0, or -EINVAL with *e naming the first field that is wrong. `prefix` goes before its name. */
int check_params(const msgpack_object *params, const struct param *spec, const char *prefix, struct err *e) must_check;
