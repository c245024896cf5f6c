/* Options that several verbs have, with their checks. */
#pragma once
#include "clients/taskerctl/ctl.h"

/* A time, as it is (RFC 3339) or so long ago ("2h"): `key` of params. 0, or an exit code after having said why. */
int ctl_time_option(const struct ctl *c, const char *option, json_t *params, const char *key) must_check;
/* Microseconds since 1970 as RFC 3339. Returns `dst`. */
const char *time_text(int64_t us, char dst[40]);
/* The options of the verb that say what is asked for, as parameters of its request. 0, or an exit code after having
 * said why. */
int option_params(const struct ctl *c, json_t *params) must_check;
/* A number of an option. 0 with *ret unchanged if it was not given, or an exit code after having said why. */
int ctl_int_option(const struct ctl *c, const char *option, int64_t min, int64_t max, int64_t *ret) must_check;
