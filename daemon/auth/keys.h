/* Public keys that JSON Web Tokens are verified with: a file of PEM blocks, or a JSON Web Key Set. Immutable once
 * read. */
#pragma once
#include <cjose/cjose.h>
#include <stdbool.h>
#include <stddef.h>

#include "daemon/base/err.h"
#include "daemon/config/options.h"
#include "protocol/buf.h"

#define JWT_KEYS_MAX 16 /* so that a token without the name of its key costs its sender's victim a bounded time */
#define JWT_KEY_FILE_MAX (256u << 10)
#define JWT_RSA_BITS_MIN 2048

struct jwt_key {
	cjose_jwk_t *jwk; /* holds the public part */
	char kid[128];	  /* as the set names it, or empty */
	unsigned algorithms; /* bits 1 << enum jwt_algorithm that it is for */
};

struct jwt_keys {
	size_t n;
	struct jwt_key key[JWT_KEYS_MAX];
};

/* `notes` has a line for each key that is passed over. NULL with *e: nothing of use, or no memory. */
struct jwt_keys *jwt_keys_read(const char *text, size_t len, struct buf *notes, struct err *e) must_check;
struct jwt_keys *jwt_keys_load(const char *path, struct buf *notes, struct err *e) must_check;
struct jwt_keys *jwt_keys_free(struct jwt_keys *k); /* returns NULL, accepts NULL */
