#include "daemon/auth/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/auth/secret.h"

#define BITS(first, last) ((2u << (last)) - (1u << (first)))
#define FOR_RSA BITS(JWT_RS256, JWT_PS512)

DEFINE_CLEANUP(EVP_PKEY, cleanup_pkey, EVP_PKEY_free)
DEFINE_CLEANUP(BIGNUM, cleanup_bn, BN_free)
DEFINE_CLEANUP(BIO, cleanup_bio, (void)BIO_free)
DEFINE_CLEANUP(json_t, cleanup_json, json_decref)

struct jwt_keys *jwt_keys_free(struct jwt_keys *k)
{
	for (size_t i = 0; k && i < k->n; i++)
		cjose_jwk_release(k->key[i].jwk);
	free(k);
	return NULL;
}

/* Why a key is of no use, or NULL. */
static const char *judge(const cjose_jwk_t *jwk, unsigned *ret_algorithms)
{
	static const struct {
		cjose_jwk_ec_curve curve;
		enum jwt_algorithm algorithm;
	} curves[] = {{CJOSE_JWK_EC_P_256, JWT_ES256},
	              {CJOSE_JWK_EC_P_384, JWT_ES384},
	              {CJOSE_JWK_EC_P_521, JWT_ES512}};
	cjose_jwk_kty_t kty = cjose_jwk_get_kty(jwk, NULL);
	if (kty == CJOSE_JWK_KTY_RSA) {
		*ret_algorithms = FOR_RSA;
		return cjose_jwk_get_keysize(jwk, NULL) < JWT_RSA_BITS_MIN ? "an RSA key of less than 2048 bits" : NULL;
	}
	if (kty != CJOSE_JWK_KTY_EC)
		return "neither an RSA nor an EC key";
	for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
		if (cjose_jwk_EC_get_curve(jwk, NULL) == curves[i].curve)
			*ret_algorithms = 1u << curves[i].algorithm;
	return NULL;
}

/* Takes `jwk`, which may be NULL. */
static void add(struct jwt_keys *k, cjose_jwk_t *jwk, const char *kid, unsigned among, size_t place, struct buf *notes)
{
	unsigned algorithms = 0;
	const char *why = jwk ? judge(jwk, &algorithms) : "not a key that can be read";
	if (!why && !(algorithms & among))
		why = "its alg does not go with its type";
	if (!why && strlen(kid) >= sizeof k->key->kid)
		why = "its kid is too long";
	if (!why && k->n == JWT_KEYS_MAX)
		why = "there are too many";
	if (why) {
		buf_printf(notes, "key %zu is passed over: %s\n", place, why);
		cjose_jwk_release(jwk);
		return;
	}
	struct jwt_key *key = &k->key[k->n++];
	*key = (struct jwt_key){.jwk = jwk, .algorithms = algorithms & among};
	snprintf(key->kid, sizeof key->kid, "%s", kid);
}

/* ---- PEM ---- */

/* A number of the key in as many bytes as it has, at least `len`; to be freed. */
static uint8_t *number_of(const EVP_PKEY *pkey, const char *name, size_t len, size_t *ret_len)
{
	cleanup_(cleanup_bn) BIGNUM *bn = NULL;
	if (EVP_PKEY_get_bn_param(pkey, name, &bn) != 1)
		return NULL;
	size_t n = (size_t)BN_num_bytes(bn);
	n = n < len ? len : n;
	uint8_t *bytes = calloc(1, n + 1);
	if (bytes && BN_bn2binpad(bn, bytes, (int)n) < 0) {
		free(bytes);
		return NULL;
	}
	*ret_len = n;
	return bytes;
}

static cjose_jwk_t *rsa_key(const EVP_PKEY *pkey)
{
	cjose_jwk_rsa_keyspec spec = {0};
	cleanup_(cleanup_free) uint8_t *n = number_of(pkey, OSSL_PKEY_PARAM_RSA_N, 0, &spec.nlen);
	cleanup_(cleanup_free) uint8_t *e = number_of(pkey, OSSL_PKEY_PARAM_RSA_E, 0, &spec.elen);
	spec.n = n;
	spec.e = e;
	return n && e ? cjose_jwk_create_RSA_spec(&spec, NULL) : NULL;
}

static cjose_jwk_t *ec_key(const EVP_PKEY *pkey)
{
	static const struct {
		const char *name;
		cjose_jwk_ec_curve curve;
		size_t len;
	} curves[] = {{"prime256v1", CJOSE_JWK_EC_P_256, 32},
	              {"secp384r1", CJOSE_JWK_EC_P_384, 48},
	              {"secp521r1", CJOSE_JWK_EC_P_521, 66}};
	char group[64];
	if (EVP_PKEY_get_utf8_string_param(pkey, OSSL_PKEY_PARAM_GROUP_NAME, group, sizeof group, NULL) != 1)
		return NULL;
	for (size_t i = 0; i < sizeof curves / sizeof *curves; i++) {
		if (strcmp(group, curves[i].name) != 0)
			continue;
		cjose_jwk_ec_keyspec spec = {.crv = curves[i].curve};
		cleanup_(cleanup_free) uint8_t *x =
			number_of(pkey, OSSL_PKEY_PARAM_EC_PUB_X, curves[i].len, &spec.xlen);
		cleanup_(cleanup_free) uint8_t *y =
			number_of(pkey, OSSL_PKEY_PARAM_EC_PUB_Y, curves[i].len, &spec.ylen);
		spec.x = x;
		spec.y = y;
		return x && y ? cjose_jwk_create_EC_spec(&spec, NULL) : NULL;
	}
	return NULL;
}

static EVP_PKEY *key_of_block(const char *name, const unsigned char *der, long len)
{
	if (strcmp(name, PEM_STRING_PUBLIC) == 0)
		return d2i_PUBKEY(NULL, &der, len);
	if (strcmp(name, PEM_STRING_RSA_PUBLIC) == 0)
		return d2i_PublicKey(EVP_PKEY_RSA, NULL, &der, len);
	X509 *cert = strcmp(name, PEM_STRING_X509) == 0 ? d2i_X509(NULL, &der, len) : NULL;
	EVP_PKEY *pkey = cert ? X509_get_pubkey(cert) : NULL;
	X509_free(cert);
	return pkey;
}

static int read_pem(struct jwt_keys *k, const char *text, size_t len, struct buf *notes, struct err *e)
{
	cleanup_(cleanup_bio) BIO *bio = BIO_new_mem_buf(text, (int)len);
	char *name = NULL, *header = NULL;
	unsigned char *der = NULL;
	long n = 0;
	int rc = 0;
	for (size_t place = 1; rc == 0 && bio && PEM_read_bio(bio, &name, &header, &der, &n) == 1; place++) {
		if (strstr(name, "PRIVATE")) {
			rc = err_set(
				e, -EINVAL, "bad_request",
				"it holds a private key, which taskerd must not have: give it the public one (openssl pkey -pubout)");
		} else {
			cleanup_(cleanup_pkey) EVP_PKEY *pkey = key_of_block(name, der, n);
			int kind = pkey ? EVP_PKEY_get_base_id(pkey) : EVP_PKEY_NONE;
			add(k,
			    kind == EVP_PKEY_RSA  ? rsa_key(pkey)
			    : kind == EVP_PKEY_EC ? ec_key(pkey)
			                          : NULL,
			    "", ~0u, place, notes);
		}
		OPENSSL_free(name);
		OPENSSL_free(header);
		OPENSSL_free(der);
	}
	return bio ? rc : err_set(e, -ENOMEM, "internal", "out of memory");
}

/* ---- a key set ---- */

/* The algorithms that a key says it is for: all if it does not say. */
static unsigned said_algorithms(const json_t *jwk)
{
	const json_t *alg = json_object_get(jwk, "alg");
	if (!alg)
		return ~0u;
	for (int i = 0; json_is_string(alg) && i < JWT_ALGORITHMS; i++)
		if (strcmp(json_string_value(alg), jwt_algorithm_names[i]) == 0)
			return 1u << i;
	return 0;
}

static bool is_for_signatures(const json_t *jwk)
{
	const json_t *use = json_object_get(jwk, "use"), *ops = json_object_get(jwk, "key_ops"), *op;
	size_t i;
	if (use && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
		return false;
	json_array_foreach(ops, i, op)
		if (json_is_string(op) && strcmp(json_string_value(op), "verify") == 0)
			return true;
	return !ops;
}

/* What the library would decode. */
static bool has_numbers(const json_t *jwk)
{
	static const char *const names[] = {"n", "e", "x", "y", "k", "d", "p", "q", "dp", "dq", "qi"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		const json_t *v = json_object_get(jwk, names[i]);
		if (json_is_string(v) && !is_base64url(json_string_value(v), json_string_length(v)))
			return false;
	}
	return true;
}

static int add_jwk(struct jwt_keys *k, const json_t *jwk, size_t place, struct buf *notes, struct err *e)
{
	const char *kid = json_string_value(json_object_get(jwk, "kid"));
	if (json_object_get(jwk, "d"))
		return err_set(e, -EINVAL, "bad_request",
		               "key %zu is a private key, which taskerd must not have: give it the public one", place);
	if (!json_is_object(jwk) || !is_for_signatures(jwk)) {
		buf_printf(notes, "key %zu is passed over: not for verifying signatures\n", place);
		return 0;
	}
	cleanup_(cleanup_free) char *text = json_dumps(jwk, JSON_COMPACT);
	add(k, text && has_numbers(jwk) ? cjose_jwk_import(text, strlen(text), NULL) : NULL, kid ? kid : "",
	    said_algorithms(jwk), place, notes);
	return 0;
}

static int read_set(struct jwt_keys *k, const char *text, size_t len, struct buf *notes, struct err *e)
{
	json_error_t why;
	cleanup_(cleanup_json) json_t *set = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
	const json_t *keys = json_object_get(set, "keys"), *jwk;
	size_t i;
	if (!set)
		return err_set(e, -EINVAL, "bad_request", "not JSON: %s (line %d, column %d)", why.text, why.line,
		               why.column);
	if (!json_is_array(keys))
		return err_set(e, -EINVAL, "bad_request", "a JSON Web Key Set is expected: {\"keys\": [...]}");
	int rc = 0;
	json_array_foreach(keys, i, jwk) if (rc == 0) rc = add_jwk(k, jwk, i + 1, notes, e);
	return rc;
}

/* ---- either ---- */

struct jwt_keys *jwt_keys_read(const char *text, size_t len, struct buf *notes, struct err *e)
{
	struct jwt_keys *k = calloc(1, sizeof *k);
	size_t blanks = 0;
	if (!k) {
		err_set(e, -ENOMEM, "internal", "out of memory");
		return NULL;
	}
	while (blanks < len && strchr(" \t\r\n", text[blanks]) && text[blanks])
		blanks++;
	bool set = blanks < len && text[blanks] == '{';
	int rc = set ? read_set(k, text, len, notes, e) : read_pem(k, text, len, notes, e);
	if (rc == 0 && k->n == 0)
		rc = err_set(
			e, -EINVAL, "bad_request",
			"it holds no public key of use: RSA of 2048 bits or more, or EC (P-256, P-384, P-521), as PEM or as a JSON Web Key Set");
	return rc < 0 ? jwt_keys_free(k) : k;
}

struct jwt_keys *jwt_keys_load(const char *path, struct buf *notes, struct err *e)
{
	cleanup_(cleanup_free) char *text = malloc(JWT_KEY_FILE_MAX + 1);
	cleanup_(cleanup_close) int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = fd < 0 || !text ? -1 : 1;
	while (n > 0 && len <= JWT_KEY_FILE_MAX) {
		n = read(fd, text + len, JWT_KEY_FILE_MAX + 1 - len);
		len += n > 0 ? (size_t)n : 0;
	}
	struct err why = {0};
	struct jwt_keys *k = NULL;
	if (n < 0)
		err_set(&why, -errno, "bad_request", "%s", strerror(errno));
	else if (len > JWT_KEY_FILE_MAX)
		err_set(&why, -EFBIG, "bad_request", "it is larger than %u KiB", JWT_KEY_FILE_MAX >> 10);
	else
		k = jwt_keys_read(text, len, notes, &why);
	if (!k)
		err_set(e, -EINVAL, why.code, "jwt_key_file %.200s: %s", path, why.text);
	return k;
}
