/* The configuration file: any bytes give options or messages, every error is told, no value leaves its
 * bounds, and a password that was set is never printed. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config/option_file.h"
#include "daemon/config/options.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_bounds(const struct options *o)
{
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *row = &option_table[i];
		const char *at = (const char *)o + row->offset;
		if (!o->source[i])
			continue;
		long long v = row->type == OPT_INT || row->type == OPT_OCTAL ? *(const int *)(const void *)at
		              : row->type == OPT_SIZE ? (long long)*(const size_t *)(const void *)at
		                                      : row->min;
		if (v < row->min || v > row->max)
			abort();
		if (row->type == OPT_PATH && *(char *const *)(const void *)at &&
		    **(char *const *)(const void *)at != '/')
			abort();
	}
}

/* However a keyword string is quoted, what follows its password= does not come through. */
static void check_redaction(const char *database)
{
	struct buf out;
	buf_init(&out, 1 << 20);
	options_redact(database, &out);
	const char *text = buf_text(&out);
	if (!text || (!strstr(database, "://") && strstr(text, "password=S3CR3T")))
		abort();
	buf_done(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct options o = {.log_level = LOG_LV_INFO};
	struct buf messages;
	buf_init(&messages, 4 << 20);
	int errors = option_file_apply(&o, (const char *)data, size, "fuzz.yaml", &messages);
	if (errors < 0 || (errors > 0 && messages.len == 0)) /* only memory can be short, and it is not */
		abort();
	check_bounds(&o);
	if (o.database)
		check_redaction(o.database);
	struct buf shown;
	buf_init(&shown, 4 << 20);
	for (size_t i = 0; i < option_count; i++)
		options_format(&o, &option_table[i], &shown);
	buf_done(&shown);
	buf_done(&messages);
	options_done(&o);
	return 0;
}
