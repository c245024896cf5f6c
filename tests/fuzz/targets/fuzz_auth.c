/* What strangers and issuers write: Authorization headers, JSON Web Tokens, files of keys. The first byte says which.
 * Whatever is accepted must have been signed, be good now, and be from and for whom it is expected. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/auth/jwt.h"
#include "daemon/auth/secret.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW ((usec_t)2000000000 * USEC_PER_SEC)

/* For these tests alone. */
static const char private_key[] =
	"{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"wMjxhC1kDzQ7T9dRQ2xdTP9B1BG7Q7ENe8-LQWF0q4o\",\"y\":\"pVvrmdSSA8mugWXkGnRkY_1qyvfhPtSPVkECL6GPvTI\",\"d\":\"QeQ4gqc7GCfFI8t1V8DP_sTQCjBqoG1TuD8O_tuuJiQ\"}";
static const char public_keys[] =
	"{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"wMjxhC1kDzQ7T9dRQ2xdTP9B1BG7Q7ENe8-LQWF0q4o\",\"y\":\"pVvrmdSSA8mugWXkGnRkY_1qyvfhPtSPVkECL6GPvTI\"}]}";
static const struct jwt_rules rules = {.issuer = "i",
                                       .audience = "a",
                                       .roles_claim = "roles",
                                       .namespaces_claim = "realm.namespaces",
                                       .algorithms = (1u << JWT_ALGORITHMS) - 1,
                                       .leeway_ms = 1000};

static cjose_jwk_t *signer;
static struct jwt_keys *keys;

static void prepare(void)
{
	struct buf notes;
	buf_init(&notes, 0);
	signer = cjose_jwk_import(private_key, sizeof private_key - 1, NULL);
	keys = jwt_keys_read(public_keys, sizeof public_keys - 1, &notes, NULL);
	buf_done(&notes);
	if (!signer || !keys)
		abort();
}

/* `signed_claims` NULL: nobody has signed anything. */
static void check(const char *token, size_t len, const json_t *signed_claims)
{
	struct principal who = {0};
	struct err e = {0};
	int rc = jwt_check(keys, &rules, token, len, NOW, &who, &e);
	if (rc < 0 && !e.text[0])
		abort();
	if (rc == 0) {
		const char *iss = json_string_value(json_object_get(signed_claims, "iss"));
		if (!iss || strcmp(iss, "i") != 0 || who.expires <= NOW || strncmp(who.name, "jwt:", 4) != 0 ||
		    !who.access.rules)
			abort();
	}
	principal_done(&who);
}

static void sign_and_check(const uint8_t *data, size_t size)
{
	cjose_header_t *h = cjose_header_new(NULL);
	const char *text = NULL;
	cjose_header_set(h, CJOSE_HDR_ALG, CJOSE_HDR_ALG_ES256, NULL);
	cjose_jws_t *jws = size > 0 ? cjose_jws_sign(signer, h, data, size, NULL) : NULL;
	json_t *claims = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	if (jws && cjose_jws_export(jws, &text, NULL))
		check(text, strlen(text), claims);
	json_decref(claims);
	cjose_jws_release(jws);
	cjose_header_release(h);
}

static void read_keys(const char *text, size_t size)
{
	struct buf notes;
	struct err e = {0};
	buf_init(&notes, 1u << 20);
	struct jwt_keys *k = jwt_keys_read(text, size, &notes, &e);
	if (!k && !e.text[0])
		abort();
	if (k && (k->n == 0 || k->n > JWT_KEYS_MAX))
		abort();
	jwt_keys_free(k);
	buf_done(&notes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data + 1;
	struct token_text t;
	if (!keys)
		prepare();
	if (size == 0)
		return 0;
	switch (data[0]) {
	case 'c':
		sign_and_check(data + 1, size - 1);
		break;
	case 'k':
		read_keys(text, size - 1);
		break;
	case 't':
		if (token_read(text, size - 1, &t) &&
		    (strlen(t.text) != TOKEN_TEXT_LEN || strlen(t.id) != TOKEN_ID_LEN))
			abort();
		break;
	default:
		check(text, size - 1, NULL);
	}
	return 0;
}
