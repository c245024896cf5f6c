/* The text of a bearer token: a prefix that scanners for lost secrets find, the token's id, and 256 random bits. Its
 * hash is what is kept and compared. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "daemon/base/cleanup.h"

#define TOKEN_PREFIX "tasker_"
#define TOKEN_ID_LEN 12 /* hexadecimal digits */
#define TOKEN_SECRET_LEN 64
#define TOKEN_TEXT_LEN (sizeof TOKEN_PREFIX - 1 + TOKEN_ID_LEN + 1 + TOKEN_SECRET_LEN)
#define TOKEN_HASH_LEN 32

struct token_text {
	char text[TOKEN_TEXT_LEN + 1], id[TOKEN_ID_LEN + 1];
	uint8_t hash[TOKEN_HASH_LEN]; /* SHA-256 of the text */
};

/* Draw a new one. 0, or -EIO: no random numbers. */
int token_draw(struct token_text *ret) must_check;
/* Take one apart. False: this is no token of taskerd's. */
bool token_read(const char *text, size_t len, struct token_text *ret) must_check;
bool token_hash_equal(const uint8_t a[TOKEN_HASH_LEN], const uint8_t b[TOKEN_HASH_LEN]); /* in constant time */
/* Overwrite what must not stay in memory. */
void token_wipe(void *p, size_t n);
static inline void cleanup_token(struct token_text *t)
{
	token_wipe(t, sizeof *t);
}

void hex_write(const uint8_t *bytes, size_t n, char *out); /* 2 * n digits and a NUL */
bool hex_read(const char *text, uint8_t *out, size_t n) must_check; /* exactly 2 * n lower-case digits */
/* Whether this is base64url as JSON Web Tokens have it, without padding. The library that reads them aborts on some
 * texts that are not. */
bool is_base64url(const char *text, size_t len) must_check;
