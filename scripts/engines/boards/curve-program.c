/* One call of the native curve: an operation's number and its arguments as hex; prints the answer's number, and the point. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "native-curve-core.h"

int main(int count, char **words)
{
	CurveArgument arguments[CURVE_ARGUMENTS];
	uint8_t point[CURVE_POINT_BYTES];
	int answer;
	int i;

	memset(arguments, 0, sizeof(arguments));
	if (count < 3 || count - 2 > CURVE_ARGUMENTS)
		return 2;
	for (i = 0; i < count - 2; i++) {
		const char *hex = words[i + 2];
		size_t at;
		arguments[i].length = strlen(hex) / 2;
		for (at = 0; at < arguments[i].length && at < CURVE_MOST_BYTES; at++) {
			char digits[3] = {hex[2 * at], hex[2 * at + 1], 0};
			arguments[i].bytes[at] = (uint8_t)strtoul(digits, NULL, 16);
		}
	}
	answer = lngate_curve(atoi(words[1]), arguments, point);
	for (i = 0; i < CURVE_ARGUMENTS; i++) {
		size_t at;
		for (at = 0; at < CURVE_MOST_BYTES; at++) {
			if (arguments[i].bytes[at] != 0) {
				fprintf(stderr, "an argument was not wiped\n");
				return 3;
			}
		}
	}
	printf("%d", answer);
	if (answer == CURVE_POINT) {
		printf(" ");
		for (i = 0; i < CURVE_POINT_BYTES; i++)
			printf("%02x", point[i]);
	}
	printf("\n");
	return 0;
}
