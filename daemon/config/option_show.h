/* What is in effect, for people and for programs. Passwords are never shown. */
#pragma once
#include "daemon/config/options.h"

/* Append the values as lines of a configuration file, each with where it came from. */
void options_show(const struct options *o, struct buf *out);
/* Append {from, options: [{name, value, source, place, default, note, reload, help}]} as MessagePack, every text as it
 * would be written in the file. `o` NULL: the table alone, without value, source and place. */
void options_describe(const struct options *o, const char *from, struct buf *out);
