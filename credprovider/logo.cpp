#include "logo.h"

namespace {

// The picture is drawn on a board of so many units, and each pixel is the mean of
// four times four points of it.
enum : int { board = 1024, points = 4 };

enum : uint32_t { background = 0x1f4e79, wall = 0xffffff };

bool inRect(int x, int y, int left, int top, int right, int bottom)
{
	return x >= left && x < right && y >= top && y < bottom;
}

bool inCircle(int x, int y, int cx, int cy, int radius)
{
	return (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius;
}

bool inCard(int x, int y)
{
	enum : int { corner = 160, far = board - corner };
	int cx = x < corner ? corner : x >= far ? far : x;
	int cy = y < corner ? corner : y >= far ? far : y;
	return (cx == x && cy == y) || inCircle(x, y, cx, cy, corner);
}

bool inArch(int x, int y, int radius, int top)
{
	return inRect(x, y, 512 - radius, top, 512 + radius, 812) || inCircle(x, y, 512, top, radius);
}

bool inWall(int x, int y)
{
	bool merlons = inRect(x, y, 232, 212, 344, 300) || inRect(x, y, 456, 212, 568, 300) || inRect(x, y, 680, 212, 792, 300);
	if (!merlons && !inRect(x, y, 232, 300, 792, 812))
		return false;
	return !inArch(x, y, 136, 540) || inArch(x, y, 64, 620);
}

} // namespace

void drawLogo(uint32_t *pixels)
{
	enum : int { step = board / logoSize / points, all = points * points };

	for (int row = 0; row < logoSize; row++) {
		for (int column = 0; column < logoSize; column++) {
			unsigned sum[4] = {}; // blue, green, red, alpha
			for (int k = 0; k < all; k++) {
				int x = (column * points + k % points) * step, y = (row * points + k / points) * step;
				if (!inCard(x, y))
					continue;
				uint32_t colour = inWall(x, y) ? wall : background;
				for (int c = 0; c < 3; c++)
					sum[c] += colour >> 8 * c & 0xff;
				sum[3] += 0xff;
			}
			uint32_t pixel = 0;
			for (int c = 0; c < 4; c++)
				pixel |= sum[c] / all << 8 * c;
			pixels[row * logoSize + column] = pixel;
		}
	}
}
