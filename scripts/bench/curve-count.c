/*
 * What the native curve's operations take on a bare 32-bit RISC-V as in an ESP32-C3: instructions, and bytes of stack. Run in
 * qemu with one instruction a tick (scripts/bench/instructions.ts, which also writes cases.h).
 */
#include <stdio.h>
#include <string.h>

#include "native-curve-core.h"

typedef struct {
	const char *name;
	int operation;
	int answer;
	size_t lengths[CURVE_ARGUMENTS];
	uint8_t bytes[CURVE_ARGUMENTS][CURVE_MOST_BYTES];
} Case;

static const Case cases[] = {
#include "cases.h"
};

#define PAINT 0xa5
#define PAINTED 16384

static uint32_t instructions(void)
{
	uint32_t count;
	__asm__ volatile(".option push\n.option arch, +zicsr\ncsrr %0, minstret\n.option pop" : "=r"(count));
	return count;
}

/* Nothing else runs here: what is below the stack's end is nobody's. */
static inline volatile uint8_t *below(void)
{
	uint8_t *end;
	__asm__ volatile("mv %0, sp" : "=r"(end));
	return end - PAINTED;
}

int main(void)
{
	size_t at;

	for (at = 0; at < sizeof(cases) / sizeof(cases[0]); at++) {
		const Case *each = &cases[at];
		CurveArgument arguments[CURVE_ARGUMENTS];
		uint8_t point[CURVE_POINT_BYTES];
		volatile uint8_t *paint = below();
		uint32_t start, end;
		int answer, i;

		memset(arguments, 0, sizeof(arguments));
		for (i = 0; i < CURVE_ARGUMENTS; i++) {
			arguments[i].length = each->lengths[i];
			memcpy(arguments[i].bytes, each->bytes[i], CURVE_MOST_BYTES);
		}
		for (i = 0; i < PAINTED; i++)
			paint[i] = PAINT;
		start = instructions();
		answer = lngate_curve(each->operation, arguments, point);
		end = instructions();
		for (i = 0; i < PAINTED && paint[i] == PAINT; i++)
			;
		if (answer != each->answer)
			return 1;
		printf("%s %lu %d\n", each->name, (unsigned long)(end - start), PAINTED - i);
	}
	return 0;
}
