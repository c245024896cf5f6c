/* JSON Web Tokens: which keys are taken from a file, and which tokens are believed. */
#include <check.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

#include "daemon/auth/jwt.h"

#define NOW_S 2000000000LL
#define NOW ((usec_t)NOW_S * USEC_PER_SEC)
#define ALL_ALGORITHMS ((1u << JWT_ALGORITHMS) - 1)
#define GOOD "{\"iss\": \"https://id.example\", \"aud\": \"taskerd\", \"sub\": \"alice\", \"exp\": 2000000300, \"roles\": [\"read\", \"submit\", \"cook\"], \"namespaces\": [\"shop\"]}"

static const struct jwt_rules rules = {.issuer = "https://id.example",
                                       .audience = "taskerd",
                                       .roles_claim = "roles",
                                       .namespaces_claim = "namespaces",
                                       .algorithms = ALL_ALGORITHMS,
                                       .leeway_ms = 30000};
static cjose_jwk_t *ec, *ec_other, *ec_384, *rsa; /* with their private parts */

static void make_keys(void)
{
	ec = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, NULL);
	ec_other = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_256, NULL);
	ec_384 = cjose_jwk_create_EC_random(CJOSE_JWK_EC_P_384, NULL);
	rsa = cjose_jwk_create_RSA_random(2048, (const uint8_t *)"\1\0\1", 3, NULL);
	ck_assert(ec && ec_other && ec_384 && rsa);
}

static void drop_keys(void)
{
	cjose_jwk_release(ec);
	cjose_jwk_release(ec_other);
	cjose_jwk_release(ec_384);
	cjose_jwk_release(rsa);
}

/* A key set of these; `more` are members of each key. */
static struct jwt_keys *set_of(cjose_jwk_t *const *jwks, size_t n, const char *more)
{
	struct buf text, notes;
	struct err e = {0};
	buf_init(&text, 0);
	buf_init(&notes, 0);
	buf_append_str(&text, "{\"keys\": [");
	for (size_t i = 0; i < n; i++) {
		char *jwk = cjose_jwk_to_json(jwks[i], false, NULL);
		buf_printf(&text, "%s%.*s%s}", i ? ", " : "", (int)strlen(jwk) - 1, jwk, more);
		cjose_get_dealloc()(jwk);
	}
	buf_append_str(&text, "]}");
	struct jwt_keys *k = jwt_keys_read(buf_text(&text), text.len, &notes, &e);
	ck_assert_msg(k != NULL, "%s", e.text);
	buf_done(&text);
	buf_done(&notes);
	return k;
}

static struct jwt_keys *all_keys(void)
{
	return set_of((cjose_jwk_t *[]){ec_other, ec, ec_384, rsa}, 4, "");
}

static char *sign(cjose_jwk_t *key, const char *alg, const char *kid, const char *more, const char *claims)
{
	cjose_header_t *h = cjose_header_new(NULL);
	const char *text = NULL;
	cjose_header_set(h, CJOSE_HDR_ALG, alg, NULL);
	if (kid)
		cjose_header_set(h, CJOSE_HDR_KID, kid, NULL);
	if (more && strcmp(more, "typ") == 0)
		ck_assert(cjose_header_set(h, more, "secevent+jwt", NULL));
	else if (more)
		ck_assert(cjose_header_set_raw(h, more, "[\"exp\"]", NULL));
	cjose_jws_t *jws = cjose_jws_sign(key, h, (const uint8_t *)claims, strlen(claims), NULL);
	ck_assert_msg(jws && cjose_jws_export(jws, &text, NULL), "%s", alg);
	char *copy = strdup(text);
	cjose_jws_release(jws);
	cjose_header_release(h);
	return copy;
}

/* What a token is worth: "" and *who, or what the client is told. */
static char said[600];
static const char *judged(const struct jwt_keys *keys, const struct jwt_rules *r, const char *token,
                          struct principal *who)
{
	struct err e = {0};
	*who = (struct principal){0};
	int rc = jwt_check(keys, r, token, strlen(token), NOW, who, &e);
	snprintf(said, sizeof said, "%s", rc == 0 ? "" : e.text);
	return said;
}

START_TEST(good_ones)
{
	static const char *const by_rsa[] = {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"};
	struct jwt_keys *keys = all_keys();
	struct principal who;
	for (size_t i = 0; i < 8; i++) {
		char *t = i < 6    ? sign(rsa, by_rsa[i], NULL, NULL, GOOD)
		          : i == 6 ? sign(ec, "ES256", NULL, NULL, GOOD)
		                   : sign(ec_384, "ES384", NULL, NULL, GOOD);
		ck_assert_str_eq(judged(keys, &rules, t, &who), "");
		ck_assert_str_eq(who.name, "jwt:alice");
		ck_assert(access_allows(&who.access, ROLE_SUBMIT, "shop", 4) &&
		          access_allows(&who.access, ROLE_READ, "shop", 4));
		ck_assert(!access_allows(&who.access, ROLE_READ, "other", 5) && !access_has(&who.access, ROLE_OPERATE));
		ck_assert_uint_eq(who.expires, (usec_t)2000000330 * USEC_PER_SEC);
		principal_done(&who);
		free(t);
	}
	jwt_keys_free(keys);
}
END_TEST

START_TEST(algorithms)
{
	struct jwt_keys *keys = all_keys();
	struct jwt_rules some = rules;
	struct principal who;
	char *t = sign(rsa, "RS256", NULL, NULL, GOOD);
	some.algorithms = 1u << JWT_ES256;
	ck_assert_str_eq(judged(keys, &some, t, &who),
	                 "the token is refused: its algorithm is not one of those allowed");
	free(t);
	/* {"alg":"none"} and {"alg":"None"}, with no signature and with one */
	static const char *const none[] = {"eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJub25lIn0.e30.AAAA",
	                                   "eyJhbGciOiJOb25lIn0.e30.AAAA"};
	for (size_t i = 0; i < 3; i++)
		ck_assert_str_ne(judged(keys, &rules, none[i], &who), "");
	jwt_keys_free(keys);
}
END_TEST

/* Signed with the public key as if it were a shared secret. */
START_TEST(a_public_key_is_no_secret)
{
	char *text = cjose_jwk_to_json(rsa, false, NULL);
	cjose_jwk_t *oct = cjose_jwk_create_oct_spec((const uint8_t *)text, strlen(text), NULL);
	struct jwt_keys *keys = all_keys();
	struct principal who;
	static const char *const hmac[] = {"HS256", "HS384", "HS512"};
	for (size_t i = 0; i < 3; i++) {
		char *t = sign(oct, hmac[i], NULL, NULL, GOOD);
		ck_assert_str_eq(judged(keys, &rules, t, &who),
		                 "the token is refused: its algorithm is not one of those allowed");
		free(t);
	}
	cjose_get_dealloc()(text);
	cjose_jwk_release(oct);
	jwt_keys_free(keys);
}
END_TEST

START_TEST(only_the_keys_of_the_file)
{
	struct jwt_keys *keys = set_of(&ec, 1, ", \"kid\": \"one\""),
			*not_for_this = set_of(&rsa, 1, ", \"alg\": \"PS256\"");
	struct principal who;
	char *other = sign(ec_other, "ES256", NULL, NULL, GOOD), *wrong_kid = sign(ec, "ES256", "two", NULL, GOOD),
	     *kid = sign(ec, "ES256", "one", NULL, GOOD), *rs = sign(rsa, "RS256", NULL, NULL, GOOD);
	static const char why[] = "the token is refused: its signature is not from one of the keys that are trusted";
	ck_assert_str_eq(judged(keys, &rules, other, &who), why);
	ck_assert_str_eq(judged(keys, &rules, wrong_kid, &who), why);
	ck_assert_str_eq(judged(not_for_this, &rules, rs, &who), why);
	ck_assert_str_eq(judged(keys, &rules, kid, &who), "");
	principal_done(&who);
	free(other);
	free(wrong_kid);
	free(kid);
	free(rs);
	jwt_keys_free(keys);
	jwt_keys_free(not_for_this);
}
END_TEST

START_TEST(headers)
{
	struct jwt_keys *keys = all_keys();
	struct principal who;
	char *crit = sign(ec, "ES256", NULL, "crit", GOOD), *typ = sign(ec, "ES256", NULL, "typ", GOOD);
	ck_assert_str_eq(judged(keys, &rules, crit, &who),
	                 "the token is refused: its header asks for extensions (crit)");
	ck_assert_str_eq(judged(keys, &rules, typ, &who), "the token is refused: its type is not JWT");
	free(crit);
	free(typ);
	jwt_keys_free(keys);
}
END_TEST

/* A token in which one character is another says nothing. */
START_TEST(every_character_counts)
{
	struct jwt_keys *keys = set_of(&ec, 1, "");
	struct principal who;
	char *t = sign(ec, "ES256", NULL, NULL, GOOD);
	for (size_t i = 0; t[i]; i++) {
		char was = t[i];
		if (was == '.' || t[i + 1] == '.' || !t[i + 1])
			continue; /* the last character of a part may have bits to spare */
		t[i] = was == 'A' ? 'B' : 'A';
		ck_assert_msg(*judged(keys, &rules, t, &who), "character %zu", i);
		t[i] = was;
	}
	for (size_t n = strlen(t); n-- > 0;) {
		t[n] = '\0';
		ck_assert_msg(*judged(keys, &rules, t, &who), "%zu characters", n);
	}
	free(t);
	jwt_keys_free(keys);
}
END_TEST

/* What is not base64url in a part, wherever it is: padding, blanks, a character too many. Some of these abort the
 * library that reads tokens. */
START_TEST(parts_that_are_not_base64url)
{
	static const char *const parts[] = {"=",        "A",         "A=",    "A===", "AA=",  "AAAAA", "AAAAA=",
	                                    "AAAAA===", "AAAA=AAAA", "AA AA", "AA+A", "AA/A", "\n",    "\x80"};
	static const char *const forms[] =
		{"%s.e30.AAAA", "eyJhbGciOiJFUzI1NiJ9.%s.AAAA",   "eyJhbGciOiJFUzI1NiJ9.e30.%s", "%s", "%s..",
	         "..%s",        "eyJhbGciOiJFUzI1NiJ9%s.e30.AAAA"};
	struct jwt_keys *keys = all_keys();
	struct principal who;
	for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
		for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
			char text[128];
			const char *rest = strstr(forms[f], "%s");
			snprintf(text, sizeof text, "%.*s%s%s", (int)(rest - forms[f]), forms[f], parts[i], rest + 2);
			ck_assert_str_eq(
				judged(keys, &rules, text, &who),
				"the token is refused: it is neither a token of this service nor a JSON Web Token");
		}
	jwt_keys_free(keys);
}
END_TEST

START_TEST(claims)
{
	static const struct {
		const char *key, *value, *why; /* value NULL: left out; why NULL: good */
	} cases[] = {
	    {"exp", NULL, "it does not say until when"}, {"exp", "\"2000000300\"",
	     "it does not say until when"}, {"exp", "-1", "it does not say until when"}, {"exp", "1e300",
	     "it does not say until when"},
	    {"exp", "1999999970", "it has expired"}, {"exp", "1999999971", NULL}, {"exp", "1999999970.5", NULL}, {"exp",
	     "0", "it has expired"},
	    {"nbf", "2000000030", NULL}, {"nbf", "2000000031", "it is not good yet"}, {"nbf", "\"soon\"",
	     "nbf or iat is no time"}, {"iat", "2000000031", "it is not good yet"}, {"iat", "1900000000", NULL}, {"iat",
	     "[]", "nbf or iat is no time"},
	    {"iss", NULL, "it is not from the issuer"}, {"iss", "\"https://id.example/\"",
	     "it is not from the issuer"}, {"iss", "\"https://id.example\\u0000x\"", "claims are no JSON"}, {"iss",
	     "[\"https://id.example\"]", "it is not from the issuer"},
	    {"aud", NULL, "it is not meant"}, {"aud", "\"other\"", "it is not meant"}, {"aud",
	     "[\"other\", \"taskerd\"]", NULL}, {"aud", "[]", "it is not meant"}, {"aud", "{\"taskerd\": 1}",
	     "it is not meant"},
	    {"sub", NULL, "it does not say for whom"}, {"sub", "\"\"", "it does not say for whom"}, {"sub", "7",
	     "it does not say for whom"}, {"sub", "\"auth0|12 34\"", NULL},
	    {"roles", "\"read write admin\"", NULL}, {"roles", "7", "its claim of roles"}, {"roles", "[7]",
	     "its claim of roles"}, {"roles", NULL, NULL},
	    {"namespaces", "\"*\"", NULL}, {"namespaces", "[\"shop\", \"a-b\"]",
	     "its claim of namespaces"}, {"namespaces", "{}", "its claim of namespaces"}, {"namespaces", NULL, NULL},
	};
	struct jwt_keys *keys = set_of(&ec, 1, "");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct principal who;
		json_t *c = json_loads(GOOD, 0, NULL);
		char *text;
		if (cases[i].value && strstr(cases[i].value, "u0000")) { /* jansson cannot write it */
			text = strdup(
				"{\"iss\": \"https://id.example\\u0000x\", \"aud\": \"taskerd\", \"sub\": \"alice\", \"exp\": 2000000300}");
		} else {
			if (cases[i].value)
				json_object_set_new(c, cases[i].key, json_loads(cases[i].value, JSON_DECODE_ANY, NULL));
			else
				json_object_del(c, cases[i].key);
			text = json_dumps(c, 0);
		}
		char *t = sign(ec, "ES256", NULL, NULL, text);
		const char *got = judged(keys, &rules, t, &who);
		if (cases[i].why)
			ck_assert_msg(strstr(got, cases[i].why) != NULL, "%s %s: %s", cases[i].key, cases[i].value,
			              got);
		else
			ck_assert_msg(!*got, "%s %s: %s", cases[i].key, cases[i].value, got);
		if (!cases[i].why && !cases[i].value)
			ck_assert_msg(!access_has(&who.access, ROLE_READ), "without %s nothing is granted",
			              cases[i].key);
		if (strstr(text, "auth0"))
			ck_assert_str_eq(who.name, "jwt:auth0|12%20" "34");
		if (!*got)
			principal_done(&who);
		free(t);
		free(text);
		json_decref(c);
	}
	jwt_keys_free(keys);
}
END_TEST

START_TEST(payloads_that_are_no_claims)
{
	static const char *const odd[] = {"", "7", "[]", "null", "{", "{\"exp\": 1, \"exp\": 2000000300}", "\xff\xfe"};
	struct jwt_keys *keys = set_of(&ec, 1, "");
	for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
		struct principal who;
		if (!*odd[i])
			continue; /* cjose signs no empty text */
		char *t = sign(ec, "ES256", NULL, NULL, odd[i]);
		ck_assert_str_eq(judged(keys, &rules, t, &who), "the token is refused: its claims are no JSON object");
		free(t);
	}
	jwt_keys_free(keys);
}
END_TEST

START_TEST(claims_in_claims)
{
	struct jwt_rules r = rules;
	struct jwt_keys *keys = set_of(&ec, 1, "");
	struct principal who;
	char *t = sign(
		ec, "ES256", NULL, NULL,
		"{\"iss\": \"https://id.example\", \"aud\": \"taskerd\", \"sub\": \"a\", \"exp\": 2000000300, \"realm_access\": {\"roles\": [\"operate\"]}, \"https://example.com/ns\": \"shop\"}");
	r.roles_claim = "realm_access.roles";
	r.namespaces_claim = "https://example.com/ns";
	ck_assert_str_eq(judged(keys, &r, t, &who), "");
	ck_assert(access_allows(&who.access, ROLE_OPERATE, "shop", 4));
	principal_done(&who);
	free(t);
	jwt_keys_free(keys);
}
END_TEST

/* ---- files of keys ---- */

static char *pem_of(EVP_PKEY *pkey, bool private)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *at = NULL;
	ck_assert((private ? PEM_write_bio_PrivateKey(bio, pkey, NULL, NULL, 0, NULL, NULL)
	                   : PEM_write_bio_PUBKEY(bio, pkey)) == 1);
	long n = BIO_get_mem_data(bio, &at);
	char *text = calloc(1, (size_t)n + 1);
	ck_assert_ptr_nonnull(text);
	memcpy(text, at, (size_t)n);
	BIO_free(bio);
	return text;
}

/* How many keys there are; -1 and what is wrong in `said`. Notes behind it. */
static int keys_in(const char *text)
{
	struct buf notes;
	struct err e = {0};
	buf_init(&notes, 0);
	struct jwt_keys *k = jwt_keys_read(text, strlen(text), &notes, &e);
	snprintf(said, sizeof said, "%s%s", e.text, notes.len ? buf_text(&notes) : "");
	int n = k ? (int)k->n : -1;
	jwt_keys_free(k);
	buf_done(&notes);
	return n;
}

START_TEST(pem_files)
{
	EVP_PKEY *good = EVP_RSA_gen(2048), *small = EVP_RSA_gen(1024), *curve = EVP_EC_gen("P-521"),
		 *odd = EVP_EC_gen("secp256k1"), *ed = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	char *a = pem_of(good, false), *b = pem_of(curve, false), *c = pem_of(small, false), *d = pem_of(odd, false),
	     *f = pem_of(ed, false), *p = pem_of(good, true), *all = NULL;
	ck_assert_int_eq(keys_in(a), 1);
	ck_assert_int_eq(keys_in(b), 1);
	ck_assert(asprintf(&all, "one\n%s%s%s%s%s", a, b, c, d, f) > 0);
	ck_assert_int_eq(keys_in(all), 2);
	ck_assert_ptr_nonnull(strstr(said, "key 3 is passed over: an RSA key of less than 2048 bits"));
	ck_assert_ptr_nonnull(strstr(said, "key 4 is passed over: not a key that can be read"));
	ck_assert_ptr_nonnull(strstr(said, "key 5 is passed over"));
	ck_assert_int_eq(keys_in(p), -1);
	ck_assert_ptr_nonnull(strstr(said, "private key"));
	ck_assert_int_eq(keys_in(c), -1);
	a[60] ^= 1;
	ck_assert_int_eq(keys_in(a), -1);
	char *texts[] = {a, b, c, d, f, p, all};
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		free(texts[i]);
	EVP_PKEY *pkeys[] = {good, small, curve, odd, ed};
	for (size_t i = 0; i < sizeof pkeys / sizeof *pkeys; i++)
		EVP_PKEY_free(pkeys[i]);
}
END_TEST

/* A token signed with a key is verified with the PEM of its public half. */
START_TEST(a_pem_key_verifies)
{
	EVP_PKEY *pkey = EVP_EC_gen("P-256");
	BIGNUM *bn[3] = {NULL};
	uint8_t bytes[3][32];
	static const char *const names[] = {OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y,
	                                    OSSL_PKEY_PARAM_PRIV_KEY};
	for (size_t i = 0; i < 3; i++) {
		ck_assert_int_eq(EVP_PKEY_get_bn_param(pkey, names[i], &bn[i]), 1);
		ck_assert_int_eq(BN_bn2binpad(bn[i], bytes[i], 32), 32);
		BN_free(bn[i]);
	}
	cjose_jwk_ec_keyspec spec = {.crv = CJOSE_JWK_EC_P_256,
	                             .x = bytes[0],
	                             .xlen = 32,
	                             .y = bytes[1],
	                             .ylen = 32,
	                             .d = bytes[2],
	                             .dlen = 32};
	cjose_jwk_t *jwk = cjose_jwk_create_EC_spec(&spec, NULL);
	char *pem = pem_of(pkey, false), *t = sign(jwk, "ES256", "any", NULL, GOOD);
	struct buf notes;
	struct err e = {0};
	buf_init(&notes, 0);
	struct jwt_keys *keys = jwt_keys_read(pem, strlen(pem), &notes, &e);
	struct principal who;
	ck_assert_str_eq(judged(keys, &rules, t, &who), "");
	principal_done(&who);
	jwt_keys_free(keys);
	buf_done(&notes);
	free(pem);
	free(t);
	cjose_jwk_release(jwk);
	EVP_PKEY_free(pkey);
}
END_TEST

START_TEST(key_sets)
{
	ck_assert_int_eq(keys_in(""), -1);
	ck_assert_int_eq(keys_in("{\"keys\": []}"), -1);
	ck_assert_ptr_nonnull(strstr(said, "no public key of use"));
	ck_assert_int_eq(keys_in("{\"keys\": 7}"), -1);
	ck_assert_ptr_nonnull(strstr(said, "a JSON Web Key Set is expected"));
	ck_assert_int_eq(keys_in(" {\"keys\": [}"), -1);
	ck_assert_ptr_nonnull(strstr(said, "not JSON"));
	ck_assert_int_eq(
		keys_in("{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"A=\", \"y\": \"AA\"}, {\"kty\": \"RSA\", \"n\": \"AAAAA\", \"e\": \"A===\"}]}"),
		-1);
	ck_assert_int_eq(
		keys_in("{\"keys\": [7, {}, {\"kty\": \"oct\", \"k\": \"AAAA\"}, {\"kty\": \"RSA\", \"n\": \"AQAB\", \"e\": \"AQAB\"}, {\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AA\", \"y\": \"AA\"}, {\"kty\": \"RSA\", \"use\": \"enc\"}]}"),
		-1);
	char *private = cjose_jwk_to_json(ec, true, NULL), *text = NULL;
	ck_assert(asprintf(&text, "{\"keys\": [%s]}", private) > 0);
	ck_assert_int_eq(keys_in(text), -1);
	ck_assert_ptr_nonnull(strstr(said, "key 1 is a private key"));
	free(text);
	cjose_get_dealloc()(private);
	cjose_jwk_t *many[JWT_KEYS_MAX + 4];
	for (size_t i = 0; i < JWT_KEYS_MAX + 4; i++)
		many[i] = ec;
	struct jwt_keys *k = set_of(many, JWT_KEYS_MAX + 4, "");
	ck_assert_uint_eq(k->n, JWT_KEYS_MAX);
	jwt_keys_free(k);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("jwt");
	TCase *t = tcase_create("jwt");
	tcase_set_timeout(t, 30);
	tcase_add_unchecked_fixture(t, make_keys, drop_keys);
	tcase_add_test(t, good_ones);
	tcase_add_test(t, algorithms);
	tcase_add_test(t, a_public_key_is_no_secret);
	tcase_add_test(t, only_the_keys_of_the_file);
	tcase_add_test(t, headers);
	tcase_add_test(t, every_character_counts);
	tcase_add_test(t, parts_that_are_not_base64url);
	tcase_add_test(t, claims);
	tcase_add_test(t, payloads_that_are_no_claims);
	tcase_add_test(t, claims_in_claims);
	tcase_add_test(t, pem_files);
	tcase_add_test(t, a_pem_key_verifies);
	tcase_add_test(t, key_sets);
	suite_add_tcase(s, t);
	SRunner *r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	int failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
