/*
 * The curve by libsecp256k1, which is compiled in here as this board wants it: its tables are constants, so that they stay in
 * flash, and small ones (8 kB for points, 2 kB for the generator). A secret scalar meets only the library's constant-time
 * functions. Nothing is allocated; what the library takes of the stack is in docs/boards.md.
 *
 * The library's folder `src` has to be among the include folders.
 */
#define ENABLE_MODULE_RECOVERY 1
#define ECMULT_WINDOW_SIZE 8
#define COMB_BLOCKS 2
#define COMB_TEETH 5
#define USE_EXTERNAL_DEFAULT_CALLBACKS 1

#include <stdlib.h>

#include "secp256k1.c"
#include "precomputed_ecmult.c"
#include "precomputed_ecmult_gen.c"

#include "native-curve-core.h"

/* The library calls these where it was called wrongly, or memory is damaged: nothing may go on then. */
void secp256k1_default_illegal_callback_fn(const char *message, void *data)
{
	(void)message;
	(void)data;
	abort();
}

void secp256k1_default_error_callback_fn(const char *message, void *data)
{
	secp256k1_default_illegal_callback_fn(message, data);
}

static void wipe(void *memory, size_t length)
{
	volatile uint8_t *byte = memory;
	while (length-- > 0)
		*byte++ = 0;
}

static int parse_point(secp256k1_pubkey *point, const CurveArgument *from)
{
	return from->length == CURVE_POINT_BYTES &&
		secp256k1_ec_pubkey_parse(secp256k1_context_static, point, from->bytes, CURVE_POINT_BYTES);
}

static int is_scalar(const CurveArgument *argument)
{
	return argument->length == 32 && secp256k1_ec_seckey_verify(secp256k1_context_static, argument->bytes);
}

static int answer_point(const secp256k1_pubkey *point, uint8_t *out)
{
	size_t length = CURVE_POINT_BYTES;
	secp256k1_ec_pubkey_serialize(secp256k1_context_static, out, &length, point, SECP256K1_EC_COMPRESSED);
	return CURVE_POINT;
}

static int public_key(const CurveArgument *secret, uint8_t *out)
{
	secp256k1_context memory;
	secp256k1_context *context;
	secp256k1_pubkey key;
	int ok;

	if (!is_scalar(secret))
		return CURVE_BAD_SCALAR;
	/* Only such a context multiplies the generator. It is made in no time: its tables are constants. */
	context = secp256k1_context_preallocated_create(&memory, SECP256K1_CONTEXT_NONE);
	ok = secp256k1_ec_pubkey_create(context, &key, secret->bytes);
	secp256k1_context_preallocated_destroy(context);
	return ok ? answer_point(&key, out) : CURVE_BAD_SCALAR;
}

static int sum(const secp256k1_pubkey *p, const secp256k1_pubkey *q, uint8_t *out)
{
	const secp256k1_pubkey *both[2];
	secp256k1_pubkey result;

	both[0] = p;
	both[1] = q;
	if (!secp256k1_ec_pubkey_combine(secp256k1_context_static, &result, both, 2))
		return CURVE_AT_INFINITY;
	return answer_point(&result, out);
}

static int add(const CurveArgument *arguments, uint8_t *out)
{
	secp256k1_pubkey p, q;

	if (!parse_point(&p, &arguments[0]) || !parse_point(&q, &arguments[1]))
		return CURVE_BAD_POINT;
	return sum(&p, &q, out);
}

/* For public scalars: a multiplication takes as long as they let it. */
static int combine(const CurveArgument *arguments, uint8_t *out)
{
	secp256k1_pubkey points[2];
	int i;

	for (i = 0; i < 2; i++) {
		if (!parse_point(&points[i], &arguments[2 * i]))
			return CURVE_BAD_POINT;
		if (!is_scalar(&arguments[2 * i + 1]))
			return CURVE_BAD_SCALAR;
	}
	for (i = 0; i < 2; i++) {
		if (!secp256k1_ec_pubkey_tweak_mul(secp256k1_context_static, &points[i], arguments[2 * i + 1].bytes))
			return CURVE_BAD_SCALAR;
	}
	return sum(&points[0], &points[1], out);
}

static int verify(const CurveArgument *signature, const CurveArgument *hash, const CurveArgument *public_key)
{
	secp256k1_pubkey key;
	secp256k1_ecdsa_signature parsed;

	if (hash->length != 32)
		return CURVE_BAD_HASH;
	if (!parse_point(&key, public_key))
		return CURVE_BAD_POINT;
	/* The library takes no high s, either. */
	return signature->length == 64 &&
			secp256k1_ecdsa_signature_parse_compact(secp256k1_context_static, &parsed, signature->bytes) &&
			secp256k1_ecdsa_verify(secp256k1_context_static, &parsed, hash->bytes, &key)
		? CURVE_TRUE
		: CURVE_FALSE;
}

static int recover(const CurveArgument *signature, const CurveArgument *id, const CurveArgument *hash, uint8_t *out)
{
	secp256k1_ecdsa_recoverable_signature parsed;
	secp256k1_pubkey key;

	if (hash->length != 32)
		return CURVE_BAD_HASH;
	if (signature->length != 64 || id->length != 1 || id->bytes[0] > 3 ||
		!secp256k1_ecdsa_recoverable_signature_parse_compact(
			secp256k1_context_static, &parsed, signature->bytes, id->bytes[0]) ||
		!secp256k1_ecdsa_recover(secp256k1_context_static, &key, &parsed, hash->bytes))
		return CURVE_BAD_SIGNATURE;
	return answer_point(&key, out);
}

static int run(int operation, const CurveArgument *arguments, uint8_t *point)
{
	secp256k1_pubkey parsed;

	switch (operation) {
	case CURVE_PUBLIC_KEY:
		return public_key(&arguments[0], point);
	case CURVE_IS_POINT:
		return parse_point(&parsed, &arguments[0]) ? CURVE_TRUE : CURVE_FALSE;
	case CURVE_ADD:
		return add(arguments, point);
	case CURVE_COMBINE:
		return combine(arguments, point);
	case CURVE_VERIFY:
		return verify(&arguments[0], &arguments[1], &arguments[2]);
	case CURVE_RECOVER:
		return recover(&arguments[0], &arguments[1], &arguments[2], point);
	default:
		abort();
	}
}

int lngate_curve(int operation, CurveArgument arguments[CURVE_ARGUMENTS], uint8_t point[CURVE_POINT_BYTES])
{
	int answer = run(operation, arguments, point);
	wipe(arguments, CURVE_ARGUMENTS * sizeof(CurveArgument));
	return answer;
}
