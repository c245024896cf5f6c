/* Prints the option table, one tab-separated line a row: name, whether it may stand in the file, its default,
 * lower and upper bound as the manual writes them, whether a reload takes it. With --help: the text of
 * taskerd --help. */
#include <stdio.h>
#include <string.h>

#include "daemon/config/options.h"

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "--help") == 0) {
		struct buf b;
		buf_init(&b, 0);
		options_help(&b);
		fputs(buf_text(&b), stdout);
		buf_done(&b);
		return 0;
	}
	for (size_t i = 0; i < option_count; i++) {
		const struct option_row *r = &option_table[i];
		printf("%s\t%d\t%s\t%lld\t%lld\t%d\t%d\n", r->name, (r->flags & OPT_IN_FILE) != 0,
		       r->fallback ? r->fallback : "", r->min, r->max, (int)r->type,
		       (r->flags & OPT_RELOAD) != 0);
	}
	return 0;
}
