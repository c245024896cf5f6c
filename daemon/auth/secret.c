#include "daemon/auth/secret.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

static const char digits[] = "0123456789abcdef";

void hex_write(const uint8_t *bytes, size_t n, char *out)
{
	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool hex_read(const char *text, uint8_t *out, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit(text[2 * i]), low = high < 0 ? -1 : digit(text[2 * i + 1]);
		if (low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static bool hash_of(const char *text, size_t len, uint8_t out[TOKEN_HASH_LEN])
{
	return EVP_Digest(text, len, out, NULL, EVP_sha256(), NULL) == 1;
}

int token_draw(struct token_text *ret)
{
	uint8_t rnd[(TOKEN_ID_LEN + TOKEN_SECRET_LEN) / 2];
	char secret[TOKEN_SECRET_LEN + 1];
	if (getrandom(rnd, sizeof rnd, 0) != (ssize_t)sizeof rnd)
		return -EIO;
	hex_write(rnd, TOKEN_ID_LEN / 2, ret->id);
	hex_write(rnd + TOKEN_ID_LEN / 2, TOKEN_SECRET_LEN / 2, secret);
	snprintf(ret->text, sizeof ret->text, TOKEN_PREFIX "%s_%s", ret->id, secret);
	token_wipe(rnd, sizeof rnd);
	token_wipe(secret, sizeof secret);
	return hash_of(ret->text, TOKEN_TEXT_LEN, ret->hash) ? 0 : -EIO;
}

bool token_read(const char *text, size_t len, struct token_text *ret)
{
	static const size_t prefix = sizeof TOKEN_PREFIX - 1;
	uint8_t bytes[TOKEN_SECRET_LEN / 2];
	if (len != TOKEN_TEXT_LEN || memcmp(text, TOKEN_PREFIX, prefix) != 0 || text[prefix + TOKEN_ID_LEN] != '_')
		return false;
	bool ok = hex_read(text + prefix, bytes, TOKEN_ID_LEN / 2) &&
	          hex_read(text + prefix + TOKEN_ID_LEN + 1, bytes, TOKEN_SECRET_LEN / 2);
	token_wipe(bytes, sizeof bytes);
	if (!ok || !hash_of(text, len, ret->hash))
		return false;
	memcpy(ret->text, text, len);
	ret->text[len] = '\0';
	memcpy(ret->id, text + prefix, TOKEN_ID_LEN);
	ret->id[TOKEN_ID_LEN] = '\0';
	return true;
}

bool token_hash_equal(const uint8_t a[TOKEN_HASH_LEN], const uint8_t b[TOKEN_HASH_LEN])
{
	return CRYPTO_memcmp(a, b, TOKEN_HASH_LEN) == 0;
}

void token_wipe(void *p, size_t n)
{
	OPENSSL_cleanse(p, n);
}

bool is_base64url(const char *text, size_t len)
{
	static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	for (size_t i = 0; i < len; i++)
		if (!memchr(chars, text[i], sizeof chars - 1))
			return false;
	return len % 4 != 1;
}
