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
		return ctl_fail(c, EXIT_USAGE, "--%s: %s is no time: 2030-01-31T09:00:00Z, or 2h for so long ago, is expected", option, text);
	json_object_set_new(params, key, json_string(text));
	return EXIT_OK;
}

int parse_range(const char *s, int64_t min, int64_t max, int64_t *ret_from, int64_t *ret_to)
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
	return ctl_fail(c, EXIT_USAGE, "--%s: %s is no number from %lld to %lld", option, text, (long long)min, (long long)max);
}
