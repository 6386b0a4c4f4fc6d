// The tile's picture: a gateway with two doors.
#pragma once

#include <stdint.h>

enum : int { logoSize = 128 };

// drawLogo fills logoSize rows of as many pixels, 0xAARRGGBB with the colour
// multiplied by alpha, the top row first.
void drawLogo(uint32_t *pixels);
