#include "daemon/store/proof.h"

#include <endian.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>

void proof_make(const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no, uint32_t fence, uint8_t out[PROOF_LEN])
{
	uint8_t msg[24], mac[EVP_MAX_MD_SIZE];
	unsigned mac_len = 0;
	uint32_t be_step = htobe32(step_no), be_fence = htobe32(fence);
	memcpy(msg, task->b, 16);
	memcpy(msg + 16, &be_step, 4);
	memcpy(msg + 20, &be_fence, 4);
	memset(mac, 0, sizeof mac);
	HMAC(EVP_sha256(), secret, (int)SECRET_LEN, msg, sizeof msg, mac, &mac_len);
	memcpy(out, &be_fence, 4);
	memcpy(out + 4, mac, PROOF_LEN - 4);
}

int proof_check(const uint8_t secret[SECRET_LEN], const struct uuid *task, unsigned step_no, const uint8_t proof[PROOF_LEN], uint32_t *ret_fence)
{
	uint32_t be_fence;
	uint8_t want[PROOF_LEN];
	memcpy(&be_fence, proof, 4);
	proof_make(secret, task, step_no, be32toh(be_fence), want);
	if (CRYPTO_memcmp(want, proof, PROOF_LEN) != 0)
		return -EACCES;
	*ret_fence = be32toh(be_fence);
	return 0;
}
