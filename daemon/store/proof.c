#include "daemon/store/proof.h"

#include <endian.h>
#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "daemon/base/need.h"

struct prover {
	EVP_MAC_CTX *ctx;
	uint8_t secret[SECRET_LEN]; /* what ctx is keyed with, if keyed */
	bool keyed;
};

struct prover *prover_new(void)
{
	struct prover *p = calloc(1, sizeof *p);
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
	if (p && mac)
		p->ctx = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac);
	return p && p->ctx ? p : prover_free(p);
}

struct prover *prover_free(struct prover *p)
{
	if (!p)
		return NULL;
	EVP_MAC_CTX_free(p->ctx);
	OPENSSL_cleanse(p->secret, sizeof p->secret);
	free(p);
	return NULL;
}

/* Make ready for the next message; without a key the library goes on with the one it has. */
static bool prepare(struct prover *p, const uint8_t secret[SECRET_LEN])
{
	static char digest[] = "SHA256";
	const OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
	                             OSSL_PARAM_construct_end()};
	if (p->keyed && CRYPTO_memcmp(p->secret, secret, SECRET_LEN) == 0)
		return EVP_MAC_init(p->ctx, NULL, 0, NULL) == 1;
	p->keyed = EVP_MAC_init(p->ctx, secret, SECRET_LEN, params) == 1;
	memcpy(p->secret, secret, SECRET_LEN);
	return p->keyed;
}

int proof_make(struct prover *p, const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no,
               uint32_t fence, uint8_t out[PROOF_LEN])
{
	uint8_t msg[24], mac[EVP_MAX_MD_SIZE];
	size_t mac_len = 0;
	uint32_t be_step = htobe32(step_no), be_fence = htobe32(fence);
	memcpy(msg, task->b, 16);
	memcpy(msg + 16, &be_step, 4);
	memcpy(msg + 20, &be_fence, 4);
	if (!prepare(p, secret) || EVP_MAC_update(p->ctx, msg, sizeof msg) != 1 ||
	    EVP_MAC_final(p->ctx, mac, &mac_len, sizeof mac) != 1 || mac_len < PROOF_LEN - 4) {
		p->keyed = false;
		return -ENOMEM; /* nothing else stops it */
	}
	memcpy(out, &be_fence, 4);
	memcpy(out + 4, mac, PROOF_LEN - 4);
	return 0;
}

uint32_t proof_fence(const uint8_t proof[PROOF_LEN])
{
	uint32_t be_fence;
	memcpy(&be_fence, proof, sizeof be_fence);
	return be32toh(be_fence);
}

bool proof_equal(const uint8_t a[PROOF_LEN], const uint8_t b[PROOF_LEN])
{
	return CRYPTO_memcmp(a, b, PROOF_LEN) == 0;
}

int proof_check(struct prover *p, const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no,
                const uint8_t proof[PROOF_LEN], uint32_t *ret_fence)
{
	uint8_t want[PROOF_LEN];
	if (proof_make(p, secret, task, step_no, proof_fence(proof), want) < 0)
		need(NULL); /* a worker that is told that its claim is false gives up a good result */
	if (!proof_equal(want, proof))
		return -EACCES;
	*ret_fence = proof_fence(proof);
	return 0;
}
