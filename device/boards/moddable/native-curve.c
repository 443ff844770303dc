/* The native curve as a function of XS: native-curve.js declares it, native-curve.ts is what calls it. */
#include <string.h>

#include "xsmc.h"

#include "native-curve-core.h"

/* (operation, ...arguments): bytes are copied at once, since a collection of garbage may move them. */
void xs_lngate_curve(xsMachine *the)
{
	CurveArgument arguments[CURVE_ARGUMENTS];
	uint8_t point[CURVE_POINT_BYTES];
	int operation = xsmcToInteger(xsArg(0));
	int count = xsmcArgc - 1;
	int answer;
	int i;

	memset(arguments, 0, sizeof(arguments));
	for (i = 0; i < count && i < CURVE_ARGUMENTS; i++) {
		void *data;
		xsUnsignedValue size;
		xsmcGetBufferReadable(xsArg(i + 1), &data, &size);
		arguments[i].length = size;
		memcpy(arguments[i].bytes, data, size < CURVE_MOST_BYTES ? size : CURVE_MOST_BYTES);
	}
	answer = lngate_curve(operation, arguments, point);
	if (answer == CURVE_POINT)
		xsmcSetArrayBuffer(xsResult, point, sizeof(point));
	else
		xsmcSetInteger(xsResult, answer);
}
