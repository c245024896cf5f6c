#include "clients/taskerctl/options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "clients/taskerctl/text.h"
#include "daemon/base/clock.h"

const char *time_text(int64_t us, char dst[40])
{
	time_t s = (time_t)(us / 1000000);
	struct tm tm;
	gmtime_r(&s, &tm);
	size_t n = strftime(dst, 30, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(dst + n, 40 - n, ".%06dZ", (int)(us % 1000000));
	return dst;
}

int ctl_time_option(const struct ctl *c, const char *option, json_t *params, const char *key)
{
	const char *text = cli_get(c->cli, option);
	int64_t ms, us;
	char at[40];
	if (!text)
		return EXIT_OK;
	if (parse_duration(text, &ms) == 0 && strcspn(text, "smhd") < strlen(text))
		text = time_text((int64_t)now_wall() - ms * 1000, at);
	else if (parse_time(text, &us) < 0)
		return ctl_fail(c, EXIT_USAGE,
		                "--%s: %s is no time: 2030-01-31T09:00:00Z, or 2h for so long ago, is expected", option,
		                text);
	json_object_set_new(params, key, json_string(text));
	return EXIT_OK;
}

/* "5", "5..", "..5" or "-5..5". 0 or -EINVAL. */
static int parse_range(const char *s, int64_t min, int64_t max, int64_t *ret_from, int64_t *ret_to)
{
	const char *dots = strstr(s, "..");
	char from[24];
	*ret_from = min;
	*ret_to = max;
	if (!dots) {
		int rc = parse_int(s, min, max, ret_from);
		*ret_to = *ret_from;
		return rc;
	}
	if ((size_t)(dots - s) >= sizeof from || strlen(s) == 2)
		return -EINVAL;
	snprintf(from, sizeof from, "%.*s", (int)(dots - s), s);
	if (*from && parse_int(from, min, max, ret_from) < 0)
		return -EINVAL;
	if (dots[2] && parse_int(dots + 2, min, max, ret_to) < 0)
		return -EINVAL;
	return *ret_from <= *ret_to ? 0 : -EINVAL;
}

int ctl_int_option(const struct ctl *c, const char *option, int64_t min, int64_t max, int64_t *ret)
{
	const char *text = cli_get(c->cli, option);
	if (!text || parse_int(text, min, max, ret) == 0)
		return EXIT_OK;
	return ctl_fail(c, EXIT_USAGE, "--%s: %s is no number from %lld to %lld", option, text, (long long)min,
	                (long long)max);
}

/* ---- what is asked for ---- */

static int put_text(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	json_set_option(params, key, c->cli, option);
	return EXIT_OK;
}

static int put_flag(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	if (cli_has(c->cli, option))
		json_object_set_new(params, key, json_true());
	return EXIT_OK;
}

static int put_time(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	return ctl_time_option(c, option, params, key);
}

static int put_number(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	int64_t n = -1;
	int code = ctl_int_option(c, option, 1, strcmp(option, "tasks") == 0 ? 100000 : 1000, &n);
	if (n > 0)
		json_object_set_new(params, key, json_integer(n));
	return code;
}

/* One state, or several. */
static int put_states(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	json_t *states = json_array();
	size_t pos = 0;
	for (const char *s; (s = cli_next(c->cli, option, &pos));)
		json_array_append_new(states, json_string(s));
	if (json_array_size(states) == 1)
		json_object_set(params, key, json_array_get(states, 0));
	else if (json_array_size(states) > 1)
		json_object_set(params, "states", states);
	json_decref(states);
	return EXIT_OK;
}

static int put_priorities(const struct ctl *c, json_t *params, const char *option, const char *key)
{
	const char *text = cli_get(c->cli, option);
	int64_t from, to;
	(void)key;
	if (!text)
		return EXIT_OK;
	if (parse_range(text, -100, 100, &from, &to) < 0)
		return ctl_fail(c, EXIT_USAGE,
		                "--priority: %s is no number from -100 to 100, and no range as 5.. or -10..10", text);
	json_object_set_new(params, "priority_min", json_integer(from));
	json_object_set_new(params, "priority_max", json_integer(to));
	return EXIT_OK;
}

int option_params(const struct ctl *c, json_t *params)
{
	static const struct {
		const char *option, *key;
		int (*put)(const struct ctl *c, json_t *params, const char *option, const char *key);
		const char *of; /* only of verbs that ask this */
	} table[] = {
	    {"namespace", "namespace", put_text, NULL},
	    {"name", "name", put_text, NULL},
	    {"template-version", "version", put_text, NULL},
	    {"state", "state", put_states, "task.list"},
	    {"state", "state", put_text, NULL},
	    {"tag", "tag", put_text, NULL},
	    {"correlation-id", "correlation_id", put_text, NULL},
	    {"priority", "priority", put_priorities, "task.list"},
	    {"step", "step", put_text, NULL},
	    {"step-state", "step_state", put_text, NULL},
	    {"error-type", "error_type", put_text, NULL},
	    {"status", "status", put_text, "dlq.list"},
	    {"reason", "reason", put_text, "dlq.list"},
	    {"health", "health", put_text, NULL},
	    {"paused", "paused", put_flag, NULL},
	    {"all", NULL, NULL, "task.list"}, /* as many pages as there are */
	    {"all", NULL, NULL, "dlq.list"},
	    {"all", NULL, NULL, "audit.list"},
	    {"all", "all", put_flag, NULL},
	    {"after", "created_after", put_time, NULL},
	    {"before", "created_before", put_time, NULL},
	    {"task", "task_uuid", put_text, NULL},
	    {"action", "action", put_text, "audit.list"},
	    {"who", "who", put_text, NULL},
	    {"request", "request", put_text, NULL},
	    {"since", "after", put_time, "audit.list"},
	    {"until", "before", put_time, "audit.list"},
	    {"since", "created_after", put_time, NULL},
	    {"until", "created_before", put_time, NULL},
	    {"updated-after", "updated_after", put_time, NULL},
	    {"updated-before", "updated_before", put_time, NULL},
	    {"cursor", "cursor", put_text, NULL},
	    {"tasks", "max_tasks", put_number, NULL},
	    {"filed", "dlq", put_text, NULL},
	    {"limit", NULL, NULL, "task.list"}, /* of all its pages */
	    {"limit", NULL, NULL, "dlq.redrive"},
	    {"limit", NULL, NULL, "dlq.list"},
	    {"limit", NULL, NULL, "audit.list"},
	    {"limit", "limit", put_number, NULL},
	};
	int code = EXIT_OK;
	for (const struct opt *o = c->cli->verb->opts; code == EXIT_OK && o && o->name; o++)
		for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
			if (strcmp(table[i].option, o->name) != 0 ||
			    (table[i].of && strcmp(table[i].of, c->cli->verb->asks) != 0))
				continue;
			code = table[i].put ? table[i].put(c, params, o->name, table[i].key) : EXIT_OK;
			break;
		}
	return code;
}
