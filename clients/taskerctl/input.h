/* Reading what the user names: a file, or "-" for standard input. */
#pragma once
#include <stddef.h>
#include <stdio.h>
#include "protocol/buf.h"

#define INPUT_MAX (64u << 20)

/* The whole of it, appended to `b` (which bounds it). 0, or negative errno: -EMSGSIZE if it is larger than
 * the buffer may be. */
int input_read(const char *path, struct buf *b);
/* For reading line by line; NULL with errno. Close with input_close. */
FILE *input_open(const char *path);
void input_close(FILE *f);
/* How `path` is called in messages. */
const char *input_name(const char *path);
