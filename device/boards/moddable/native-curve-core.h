/* What the board asks of its native curve: plain C, the same on a chip, in a test and in the tests' engine. */
#ifndef LNGATE_NATIVE_CURVE_CORE_H
#define LNGATE_NATIVE_CURVE_CORE_H

#include <stddef.h>
#include <stdint.h>

#define CURVE_POINT_BYTES 33
#define CURVE_MOST_BYTES 64
#define CURVE_ARGUMENTS 4

/* Operations and answers; native-curve.ts has the same numbers. */
enum {
	CURVE_PUBLIC_KEY, /* secret */
	CURVE_IS_POINT, /* point */
	CURVE_ADD, /* p, q */
	CURVE_COMBINE, /* p, a, q, b */
	CURVE_VERIFY, /* signature, hash, public key */
	CURVE_RECOVER /* signature, one byte of recovery id, hash */
};

enum {
	CURVE_FALSE,
	CURVE_TRUE,
	/* The answer is in `point`. */
	CURVE_POINT,
	CURVE_BAD_POINT,
	CURVE_BAD_SCALAR,
	CURVE_BAD_HASH,
	CURVE_BAD_SIGNATURE,
	CURVE_AT_INFINITY
};

typedef struct {
	/* Longer than CURVE_MOST_BYTES: whatever it was, it is of the wrong length. */
	size_t length;
	uint8_t bytes[CURVE_MOST_BYTES];
} CurveArgument;

/* The arguments are wiped: one of them may be a secret. */
int lngate_curve(int operation, CurveArgument arguments[CURVE_ARGUMENTS], uint8_t point[CURVE_POINT_BYTES]);

#endif
